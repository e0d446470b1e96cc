"""What an annotator drew, as values, and its way to a mask: the same pixels that labelme's own converter sets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from ustoolkit.data.image_files import turn_upright
from ustoolkit.errors import DataError

Point = tuple[float, float]
_OVERSHOOT = 0.05  # of the picture's side: how far a hand may slip over the edge
_MOST_POINTS = 100_000
_ROUND = 72  # corners that stand for a circle or an ellipse


@dataclass(frozen=True, eq=False)
class Shape:
    """One drawn region.

    Attributes:
        label: the annotator's word for it; '' for none.
        place: where it stands, for messages: 'scan_017.json, shape 3'.
        kind: 'polygon' (an area), 'line' (an open line of some width), 'point' (discs) or 'mask' (a bitmap).
        points: (x, y) in pixels, (0, 0) the centre of the top left one; of a mask the top left corner.
        bitmap: bool (height, width), of a mask.
    """

    label: str
    place: str
    kind: str
    points: tuple[Point, ...]
    bitmap: np.ndarray | None = None


def circle_points(centre: Point, radius: float) -> tuple[Point, ...]:
    """Corners of a polygon that stands for a circle."""
    return ellipse_points(centre, radius, radius)


def ellipse_points(centre: Point, radius_x: float, radius_y: float, angle: float = 0.0) -> tuple[Point, ...]:
    """Corners of a polygon that stands for an ellipse.

    Args:
        centre: (x, y), pixels.
        radius_x, radius_y: half axes before turning, pixels.
        angle: radians, clockwise on the screen.
    """
    cosine, sine = math.cos(angle), math.sin(angle)
    corners = []
    for step in range(_ROUND):
        x = radius_x * math.cos(2 * math.pi * step / _ROUND)
        y = radius_y * math.sin(2 * math.pi * step / _ROUND)
        corners.append((centre[0] + x * cosine - y * sine, centre[1] + x * sine + y * cosine))
    return tuple(corners)


def check_shape(shape: Shape, height: int, width: int) -> None:
    """Checks a shape against the picture it was drawn on.

    Raises:
        DataError: a coordinate is no number, lies outside the picture by more than a slip of the hand, there are
            too few points for the shape, or a bitmap does not fit into the picture.
    """
    fewest = {"polygon": 3, "line": 2}.get(shape.kind, 1)
    if not fewest <= len(shape.points) <= _MOST_POINTS:
        raise DataError(
            f"{shape.place}: expected {fewest} to {_MOST_POINTS:,} points for a {shape.kind}, found "
            f"{len(shape.points)}. Draw it again, or delete it."
        )
    for x, y in shape.points:
        if not (math.isfinite(x) and math.isfinite(y)):
            raise DataError(f"{shape.place}: expected numbers as coordinates, found ({x}, {y}). Draw it again.")
        if not (-_slip(width) <= x <= width + _slip(width) and -_slip(height) <= y <= height + _slip(height)):
            raise DataError(
                f"{shape.place}: the point ({x:g}, {y:g}) lies outside of the picture of {width} × {height} pixels. "
                "Check that the annotation belongs to this picture, or draw it again."
            )
    if shape.bitmap is not None:
        (x, y), (rows, columns) = shape.points[0], shape.bitmap.shape
        if y + rows > height + _slip(height) or x + columns > width + _slip(width):
            raise DataError(
                f"{shape.place}: a mask of {columns} × {rows} pixels at ({x:g}, {y:g}) does not fit into the picture "
                f"of {width} × {height}. Check that the annotation belongs to this picture."
            )


def rasterize(shape: Shape, height: int, width: int, line_width: int = 10, point_radius: int = 5) -> np.ndarray:
    """The pixels of a shape.

    Args:
        shape: checked.
        height, width: of the picture, pixels.
        line_width, point_radius: pixels, of what has no area of its own.
    Returns:
        bool (height, width).
    """
    if shape.bitmap is not None:
        return _place_bitmap(shape, height, width)
    canvas = Image.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    if shape.kind == "polygon":
        draw.polygon(list(shape.points), outline=1, fill=1)
    elif shape.kind == "line":
        draw.line(list(shape.points), fill=1, width=line_width)
    else:
        for x, y in shape.points:
            draw.ellipse([x - point_radius, y - point_radius, x + point_radius, y + point_radius], outline=1, fill=1)
    return np.asarray(canvas).astype(bool)


def paint(
    shapes: Sequence[tuple[Shape, int]], height: int, width: int, line_width: int = 10, point_radius: int = 5
) -> np.ndarray:
    """A mask of shapes, a later one over an earlier one; class 0 cuts a hole.

    Args:
        shapes: each with its class index.
    Returns:
        uint8 (height, width), class indices.
    """
    mask = np.zeros((height, width), np.uint8)
    for shape, index in shapes:
        mask[rasterize(shape, height, width, line_width, point_radius)] = index
    return mask


def turn_shape(shape: Shape, orientation: int, stored_size: tuple[int, int]) -> Shape:
    """A shape that was drawn on stored pixels, moved to where EXIF's orientation turns them.

    Args:
        shape: on the stored picture.
        orientation: 1 to 8.
        stored_size: height and width of the stored picture.
    """
    if orientation == 1:
        return shape
    if shape.bitmap is not None:
        whole = turn_upright(_place_bitmap(shape, *stored_size), orientation)
        return replace(shape, points=((0.0, 0.0),), bitmap=whole)
    height, width = stored_size[0] - 1, stored_size[1] - 1
    moves = {
        2: lambda x, y: (width - x, y),
        3: lambda x, y: (width - x, height - y),
        4: lambda x, y: (x, height - y),
        5: lambda x, y: (y, x),
        6: lambda x, y: (height - y, x),
        7: lambda x, y: (height - y, width - x),
        8: lambda x, y: (y, width - x),
    }
    return replace(shape, points=tuple(moves[orientation](x, y) for x, y in shape.points))


def _place_bitmap(shape: Shape, height: int, width: int) -> np.ndarray:
    pixels = np.zeros((height, width), bool)
    left, top = (round(value) for value in shape.points[0])
    inside = shape.bitmap[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    pixels[max(0, top) : max(0, top) + inside.shape[0], max(0, left) : max(0, left) + inside.shape[1]] = inside
    return pixels


def _slip(side: int) -> float:
    return max(2.0, _OVERSHOOT * side)
