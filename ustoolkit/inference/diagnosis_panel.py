"""One picture of a diagnosis: the lesion outlined and measured, and beside it the probability as a bar and in words."""

from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ustoolkit.errors import ShapeError
from ustoolkit.evaluation.measurements import Ends, LesionSize
from ustoolkit.inference.diagnosis import Diagnosis, Diagnostician
from ustoolkit.inference.overlay import draw_outline, in_colour

SMALLEST_SIDE, LARGEST_SIDE = 560, 1120  # pixels of the image's longer side in the panel
_FINE = 2  # the text is drawn so many times larger, then reduced, for smooth edges
_WIDTH, _HEIGHT, _EDGE = 440, 468, 24  # of the text beside an image of the smallest side
# Bright enough for dark tissue, told apart by colour-blind eyes too: Okabe and Ito's colours.
_OUTLINE, _LONG, _SHORT = (240, 228, 66), (86, 190, 255), (255, 140, 60)
_POSITIVE, _NEGATIVE = (196, 78, 0), (0, 104, 170)
_INK, _FAINT, _TRACK, _PAPER = (32, 36, 42), (105, 112, 122), (228, 231, 236), (255, 255, 255)


def draw_diagnosis(image: np.ndarray, diagnosis: Diagnosis, name: str, diagnostician: Diagnostician) -> np.ndarray:
    """Draws an image beside what was found in it.

    The lesion's outline is yellow, its long diameter blue, its short one orange; both are those in millimetres where
    the distance of pixels is known. The bar is the probability of the positive label, its dark mark the threshold, and
    the whisker below it reaches from the lowest to the highest of several classifiers.

    Args:
        image: uint8 (height, width, 1 or 3).
        diagnosis: of it.
        name: of it; cut where it is too long.
        diagnostician: its labels, its threshold, and how many classifiers there are.
    Returns:
        uint8 (height of the panel, width of the panel, 3). The image is scaled until its longer side has
        `SMALLEST_SIDE` pixels or more and `LARGEST_SIDE` or fewer; the text grows with it.
    Raises:
        ShapeError: the mask is not of the image's height and width.
    """
    if diagnosis.mask.shape != image.shape[:2]:
        raise ShapeError(
            f"the mask has shape {diagnosis.mask.shape}, the image {image.shape}; expected the same height and width. "
            "Draw the mask on this image."
        )
    longer = max(image.shape[:2])
    scale = min(max(longer, SMALLEST_SIDE), LARGEST_SIDE) / longer
    picture = _picture(image, diagnosis, scale)
    unit = scale * longer / SMALLEST_SIDE
    text = _text(diagnosis, name, diagnostician, unit)
    edge = round(_EDGE * unit)
    height = max(picture.shape[0], text.shape[0]) + 2 * edge
    canvas = np.full((height, picture.shape[1] + text.shape[1] + 3 * edge, 3), _PAPER, np.uint8)
    left = edge
    for part in (picture, text):
        canvas[edge : edge + part.shape[0], left : left + part.shape[1]] = part
        left += part.shape[1] + edge
    return canvas


def _picture(image: np.ndarray, diagnosis: Diagnosis, scale: float) -> np.ndarray:
    """The image at its size in the panel, with the lesion's outline and diameters."""
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas = np.ascontiguousarray(cv2.resize(in_colour(image), size, interpolation=kind))
    size_shown = diagnosis.size_mm or diagnosis.size_pixels
    if size_shown is None:
        return canvas
    region = cv2.resize(diagnosis.mask * 255, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    stroke = max(2, round(max(size) / 320))
    draw_outline(canvas, region >= 128, (0, 0, 0), stroke + 2)
    draw_outline(canvas, region >= 128, _OUTLINE, stroke)
    lines = ((size_shown.long_ends, _LONG), (size_shown.short_ends, _SHORT))
    for dark in (True, False):
        for ends, colour in lines:
            _line(canvas, ends, scale, (0, 0, 0) if dark else colour, stroke + (2 if dark else 0))
    return canvas


def _line(canvas: np.ndarray, ends: Ends, scale: float, colour: tuple[int, int, int], stroke: int) -> None:
    """A diameter with a short bar across each of its ends, as calipers leave them."""
    start, end = ((np.array(point[::-1]) + 0.5) * scale - 0.5 for point in ends)
    along = (end - start) / max(float(np.hypot(*(end - start))), 1e-9)
    bar = np.array([-along[1], along[0]]) * max(canvas.shape[:2]) / 90
    for first, second in ((start, end), (start - bar, start + bar), (end - bar, end + bar)):
        cv2.line(canvas, _in_sixteenths(first), _in_sixteenths(second), colour, stroke, cv2.LINE_AA, shift=4)


def _in_sixteenths(point: np.ndarray) -> tuple[int, int]:
    """A point as OpenCV takes it with a shift of 4."""
    return round(point[0] * 16), round(point[1] * 16)


def _text(diagnosis: Diagnosis, name: str, diagnostician: Diagnostician, unit: float) -> np.ndarray:
    page = _Page(unit)
    page.line(0, name, 17, bold=True)
    positive = diagnostician.labels[-1]
    if diagnosis.probability is None:
        page.line(62, "no lesion found", 30, bold=True)
        page.line(112, "The segmenter marked no region, so there is", 15, _FAINT)
        page.line(134, "nothing to measure and no probability.", 15, _FAINT)
        page.footer()
        return page.pixels()
    colour = _POSITIVE if diagnosis.decision == positive else _NEGATIVE
    page.line(38, f"probability of '{positive}'", 15, _FAINT)
    page.line(58, f"{diagnosis.probability:.2f}", 46, colour, bold=True)
    ends = diagnosis.lowest, diagnosis.highest
    interval = None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
    _draw_bar(page, 132, diagnosis.probability, interval, diagnostician.threshold, colour)
    if interval:
        page.line(200, f"{diagnostician.members} classifiers: {interval[0]:.2f} to {interval[1]:.2f}", 15, _FAINT)
    page.line(232, f"decision: {diagnosis.decision}", 22, colour, bold=True)
    if diagnostician.threshold is not None:
        page.line(264, f"'{positive}' from {diagnostician.threshold:.2f} on", 15, _FAINT)
    if diagnosis.size_pixels:
        _draw_sizes(page, 304, diagnosis.size_pixels, diagnosis.size_mm)
    page.footer()
    return page.pixels()


def _draw_bar(
    page: "_Page",
    top: float,
    probability: float,
    interval: tuple[float, float] | None,
    threshold: float | None,
    colour: tuple[int, int, int],
) -> None:
    """0 to 1, filled up to the probability, with the threshold across it and the interval as a whisker below."""
    page.box(0, top, _WIDTH, top + 20, _TRACK)
    page.box(0, top, _WIDTH * probability, top + 20, colour)
    if threshold is not None:
        at = min(max(_WIDTH * threshold, 2), _WIDTH - 2)
        page.box(at - 3.5, top - 8, at + 3.5, top + 28, _PAPER)
        page.box(at - 1.75, top - 8, at + 1.75, top + 28, _INK)
    if interval:
        low, high = (min(max(_WIDTH * value, 1.5), _WIDTH - 1.5) for value in interval)
        page.box(low, top + 34.5, high, top + 37.5, _INK)
        for at in (low, high):
            page.box(at - 1.5, top + 30, at + 1.5, top + 42, _INK)
    below = top + (44 if interval else 28)
    for value, align in ((0, "l"), (0.5, "m"), (1, "r")):
        page.line(below, f"{value:g}", 13, _FAINT, left=_WIDTH * value, align=align)


def _draw_sizes(page: "_Page", top: float, pixels: LesionSize, mm: LesionSize | None) -> None:
    rows = (
        ("long diameter", _LONG, pixels.long_diameter, mm and f"{mm.long_diameter:.1f} mm"),
        ("short diameter", _SHORT, pixels.short_diameter, mm and f"{mm.short_diameter:.1f} mm"),
        ("area", _OUTLINE, pixels.area, mm and f"{mm.area:.1f} mm²"),
    )
    for number, (title, colour, count, millimetres) in enumerate(rows):
        at = top + 30 * number
        page.box(0, at + 6, 20, at + 12, colour, outline=True)
        page.line(at, title, 16, left=32)
        in_pixels = f"{count:,.0f} pixels"
        page.line(at, millimetres or in_pixels, 16, left=290, align="r", bold=True)
        if millimetres:
            page.line(at + 1, in_pixels, 14, _FAINT, left=_WIDTH, align="r")
    if mm is None:
        page.line(top + 92, "The image does not say how many millimetres a pixel is.", 13, _FAINT)


class _Page:
    """Text and boxes in units of a panel of the smallest size, drawn finer and then reduced."""

    def __init__(self, unit: float) -> None:
        self._size = round(_WIDTH * unit), round(_HEIGHT * unit)
        self._scale = unit * _FINE
        width, height = self._size
        self._image = Image.new("RGB", (_FINE * width, _FINE * height), _PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def line(
        self,
        top: float,
        text: str,
        size: float,
        colour: tuple[int, int, int] = _INK,
        bold: bool = False,
        left: float = 0,
        align: str = "l",
    ) -> None:
        """One line, as high as `size`, cut where it would leave the page; `align` is of l, m, r, about `left`."""
        font = _font(round(size * self._scale), bold)
        text = " ".join(text.split())
        place = {"l": _WIDTH - left, "m": _WIDTH, "r": left}[align] * self._scale
        if font.getlength(text) > place:
            while text and font.getlength(f"{text}…") > place:
                text = text[:-1]
            text = f"{text}…"
        self._draw.text((left * self._scale, top * self._scale), text, colour, font, anchor=f"{align}a")

    def box(
        self, left: float, top: float, right: float, bottom: float, colour: tuple[int, int, int], outline: bool = False
    ) -> None:
        """A filled box; nothing where it has no width."""
        corners = [round(value * self._scale) for value in (left, top, right, bottom)]
        if corners[2] > corners[0]:
            corners[2:] = corners[2] - 1, corners[3] - 1
            self._draw.rectangle(corners, colour, _INK if outline else None, max(1, round(self._scale / 2)))

    def footer(self) -> None:
        """Says what this is not."""
        self.line(_HEIGHT - 22, "Research software, not a medical device.", 13, _FAINT)

    def pixels(self) -> np.ndarray:
        """uint8 (height, width, 3), at the panel's size."""
        return np.asarray(self._image.resize(self._size, Image.Resampling.BOX))


@cache
def _font(pixels: int, bold: bool) -> ImageFont.FreeTypeFont:
    # It comes with Matplotlib on every system, and knows Greek, Cyrillic and Arabic names.
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf", pixels)
