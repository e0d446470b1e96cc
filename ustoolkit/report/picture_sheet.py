"""Many small pictures on one sheet, each pixel kept: a header, tiles in rows, a caption below each."""

import math
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from ustoolkit.errors import DataError, OutputError
from ustoolkit.files import write_bytes

_SIDES = 48, 192  # pixels of a picture, below and beyond which it is enlarged or reduced where a sheet has many
_COMMON_WIDTH, _WIDEST = 960, 4096  # pixels of a sheet with few small pictures, and with many large ones
GAP, EDGE = 6, 20  # pixels between tiles, and around the sheet
CAPTION = 16  # pixels below a tile
PAPER, INK, FAINT = (255, 255, 255), (27, 30, 34), (93, 99, 105)
_DEAD = (213, 94, 0)  # Okabe and Ito's vermilion, which colour-blind eyes tell from grey


def in_rgb(pictures: np.ndarray) -> np.ndarray:
    """Pictures of one or three channels in three.

    Args:
        pictures: uint8 (n, height, width, 1 or 3).
    Returns:
        uint8 (n, height, width, 3).
    Raises:
        DataError: there is none, or they are not of this shape.
    """
    if pictures.ndim != 4 or pictures.shape[3] not in (1, 3) or not pictures.size:
        raise DataError(
            f"pictures of shape {pictures.shape}; expected (n, height, width, 1 or 3) with one picture or more. "
            "Choose some filters, and a network of grey or coloured images."
        )
    return np.repeat(pictures, 3, axis=3) if pictures.shape[3] == 1 else pictures


def cell_of(height: int, width: int, columns: int) -> tuple[int, int]:
    """Height and width in pixels at which pictures are shown in a sheet of so many columns.

    That is their own size where the shorter side has 48 pixels, or up to 128 in a sheet of few columns; else the
    smallest whole multiple that does. Where the sheet would be very wide, they are reduced.
    """
    smallest = min(max(_SIDES[0], _COMMON_WIDTH // columns), 128)
    largest = max(_SIDES[1], _WIDEST // columns)
    scale = min(-(-smallest // min(height, width)), largest / max(height, width))
    scale = int(scale) if scale >= 1 else scale
    return max(1, round(height * scale)), max(1, round(width * scale))


def tile(picture: np.ndarray, cell: tuple[int, int], dead: bool = False) -> np.ndarray:
    """A picture in its cell.

    Args:
        picture: uint8 (height, width, 3).
        cell: height and width, pixels; a larger picture is reduced to fit, a smaller one enlarged by a whole factor.
        dead: whether the filter never speaks: the picture fades and is crossed out.
    Returns:
        uint8 (*cell, 3), the picture in its middle.
    """
    height, width = picture.shape[:2]
    scale = min(cell[0] / height, cell[1] / width)
    if scale >= 1:
        shown = picture.repeat(int(scale), axis=0).repeat(int(scale), axis=1)
    else:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        shown = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    if dead:
        shown = _crossed(shown)
    canvas = np.full((*cell, 3), PAPER, np.uint8)
    top, left = (cell[0] - shown.shape[0]) // 2, (cell[1] - shown.shape[1]) // 2
    canvas[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
    return canvas


def grid(tiles: Sequence[np.ndarray], captions: Sequence[str], columns: int, gap: int = GAP) -> Image.Image:
    """Tiles of one size in rows, from the left, with a caption below each.

    Args:
        tiles: uint8 (height, width, 3) each.
        captions: one a tile; left out where it is wider than the tile and its gap.
        columns: tiles a row.
        gap: between tiles, pixels.
    """
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    across, down = width + gap, height + CAPTION + GAP
    sheet = Image.new("RGB", (columns * across - gap, rows * down - GAP), PAPER)
    draw, letters = ImageDraw.Draw(sheet), font(11)
    for number, (pixels, caption) in enumerate(zip(tiles, captions, strict=True)):
        left, top = number % columns * across, number // columns * down
        sheet.paste(Image.fromarray(pixels), (left, top))
        if letters.getlength(caption) <= across:
            draw.text((left + width / 2, top + height + 2), caption, FAINT, letters, anchor="ma")
    return sheet


def near_square(count: int, height: int, width: int, beside: int = 1) -> int:
    """Columns with which tiles fill about a square, with few places left empty.

    Args:
        count: of the tiles.
        height: of a picture, pixels.
        width: of a picture, pixels.
        beside: pictures in a tile, one beside the other.
    """
    down, across = cell_of(height, width, max(1, round(count**0.5)) * beside)
    ideal = (count * (down + CAPTION + GAP) / (across * beside + GAP)) ** 0.5
    candidates = range(max(1, int(0.8 * ideal)), max(1, min(count, int(1.2 * ideal) + 1)) + 1)
    return min(
        candidates, key=lambda columns: 2 * (-count % columns) / count + abs(math.log(columns / ideal)), default=count
    )


def with_header(lines: Sequence[str], body: Image.Image) -> Image.Image:
    """A sheet with a title and lines below it, and the body below these; as wide as the widest of them."""
    fonts = [font(17, bold=True)] + [font(13)] * (len(lines) - 1)
    heights = [26] + [19] * (len(lines) - 1)
    across = max(body.width, *(int(letters.getlength(line)) + 1 for letters, line in zip(fonts, lines, strict=True)))
    top = EDGE
    sheet = Image.new("RGB", (across + 2 * EDGE, sum(heights) + 10 + body.height + 2 * EDGE), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (line, letters, height) in enumerate(zip(lines, fonts, heights, strict=True)):
        draw.text((EDGE, top), line, FAINT if number else INK, letters, anchor="la")
        top += height
    sheet.paste(body, (EDGE, top + 10))
    return sheet


def beside(lines: Sequence[str], across: int, body: Image.Image) -> Image.Image:
    """A row of a sheet: a bold line and plain ones in a column `across` pixels wide, and the body at its right."""
    sheet = Image.new("RGB", (across + body.width, max(body.height, 20 + 17 * len(lines))), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((0, 2 + 18 * number), line, FAINT if number else INK, font(13, bold=not number), anchor="la")
    sheet.paste(body, (across, 0))
    return sheet


def below_each_other(rows: Sequence[Image.Image], gap: int = 14) -> Image.Image:
    """Rows of a sheet from the top, a fine line between them."""
    across = max(row.width for row in rows)
    sheet = Image.new("RGB", (across, sum(row.height for row in rows) + gap * (len(rows) - 1)), PAPER)
    draw, top = ImageDraw.Draw(sheet), 0
    for row in rows:
        if top:
            draw.line((0, top - gap // 2, across, top - gap // 2), (226, 223, 217))
        sheet.paste(row, (0, top))
        top += row.height + gap
    return sheet


def write_sheet(path: Path | str, sheet: Image.Image) -> Path:
    """Writes a sheet as PNG, at once.

    Raises:
        OutputError: the name does not end in .png, or the folder cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise OutputError(f"{path}: expected a name that ends in .png, found '{path.suffix}'. Choose another name.")
    stream = BytesIO()
    sheet.save(stream, "PNG")
    write_bytes(path, stream.getvalue())
    return path


@cache
def font(pixels: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that comes with Matplotlib on every system, at a height in pixels."""
    face = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(findfont(face), pixels)


def _crossed(picture: np.ndarray) -> np.ndarray:
    grey = picture.mean(axis=2, keepdims=True)
    faded = Image.fromarray(np.broadcast_to(0.35 * grey + 0.65 * 235, picture.shape).round().astype(np.uint8))
    draw, right, bottom = ImageDraw.Draw(faded), faded.width - 1, faded.height - 1
    stroke = max(2, round(min(faded.size) / 24))
    for ends in ((0, 0, right, bottom), (0, bottom, right, 0)):
        draw.line(ends, _DEAD, stroke)
    return np.asarray(faded)
