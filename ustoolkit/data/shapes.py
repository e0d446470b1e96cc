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
_COUNTS = {  # how many points a kind of shape has, at least and at most
    "polygon": (3, _MOST_POINTS),
    "line": (2, _MOST_POINTS),
    "rectangle": (2, 2),
    "circle": (2, 2),
    "ellipse": (3, 3),
    "mask": (1, 1),
}


@dataclass(frozen=True, eq=False)
class Shape:
    """One drawn region.

    Attributes:
        label: the annotator's word for it; '' for none.
        place: where it stands, for messages: 'scan_017.json, shape 3'.
        kind: 'polygon' (an area), 'rectangle', 'circle', 'ellipse', 'line' (open, of some width), 'point' (discs) or
            'mask' (a bitmap).
        points: (x, y) in pixels, (0, 0) the centre of the top left one. Of a rectangle two opposite corners, of a
            circle its centre and a point on it, of an ellipse its centre and an end of each axis, of a mask the top
            left corner.
        bitmap: bool (height, width), of a mask.
    """

    label: str
    place: str
    kind: str
    points: tuple[Point, ...]
    bitmap: np.ndarray | None = None


def ellipse_axes(centre: Point, radius_x: float, radius_y: float, angle: float = 0.0) -> tuple[Point, Point]:
    """The ends of an ellipse's two half axes, as a shape has them.

    Args:
        centre: (x, y), pixels.
        radius_x, radius_y: half axes before turning, pixels.
        angle: radians, clockwise on the screen.
    """
    (x, y), cosine, sine = centre, math.cos(angle), math.sin(angle)
    return (x + radius_x * cosine, y + radius_x * sine), (x - radius_y * sine, y + radius_y * cosine)


def check_shape(shape: Shape, height: int, width: int) -> None:
    """Checks a shape against the picture it was drawn on.

    Raises:
        DataError: a coordinate is no number, lies outside the picture by more than a slip of the hand, the number of
            points is not the shape's, a radius is longer than the picture, or a bitmap does not fit into it.
    """
    _check_count(shape)
    for x, y in shape.points:
        if not (math.isfinite(x) and math.isfinite(y)):
            raise DataError(f"{shape.place}: expected numbers as coordinates, found ({x}, {y}). Draw it again.")
    round_shape = shape.kind in ("circle", "ellipse")  # which may reach over the edge, as long as its centre does not
    for x, y in shape.points[:1] if round_shape else shape.points:
        if not (-_slip(width) <= x <= width + _slip(width) and -_slip(height) <= y <= height + _slip(height)):
            raise DataError(
                f"{shape.place}: the point ({x:g}, {y:g}) lies outside of the picture of {width} × {height} pixels. "
                "Check that the annotation belongs to this picture, or draw it again."
            )
    if round_shape and max(radii := _radii(shape)) > math.hypot(height, width):
        raise DataError(
            f"{shape.place}: a radius of {max(radii):g} pixels does not fit the picture of {width} × {height}. "
            "Check that the annotation belongs to this picture, or draw it again."
        )
    if shape.bitmap is not None:
        (x, y), (rows, columns) = shape.points[0], shape.bitmap.shape
        if y + rows > height + _slip(height) or x + columns > width + _slip(width):
            raise DataError(
                f"{shape.place}: a mask of {columns} × {rows} pixels at ({x:g}, {y:g}) does not fit into the picture "
                f"of {width} × {height}. Check that the annotation belongs to this picture."
            )


def fits(shape: Shape, height: int, width: int) -> bool:
    """Whether `check_shape` has nothing against a shape."""
    try:
        check_shape(shape, height, width)
    except DataError:
        return False
    return True


def rasterize(shape: Shape, height: int, width: int, line_width: int = 10, point_radius: int = 5) -> np.ndarray:
    """The pixels of a shape.

    Args:
        shape: checked.
        height, width: of the picture, pixels.
        line_width, point_radius: pixels, of what has no area of its own.
    Returns:
        bool (height, width).
    """
    return paint([(shape, 1)], height, width, line_width, point_radius).astype(bool)


def paint(
    shapes: Sequence[tuple[Shape, int]], height: int, width: int, line_width: int = 10, point_radius: int = 5
) -> np.ndarray:
    """A mask of shapes, a later one over an earlier one; class 0 cuts a hole.

    Args:
        shapes: each with its class index.
    Returns:
        uint8 (height, width), class indices.
    """
    canvas = Image.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    for shape, index in shapes:
        if shape.bitmap is not None:
            corner = (round(shape.points[0][0]), round(shape.points[0][1]))
            canvas.paste(index, corner, Image.fromarray(shape.bitmap))
        elif shape.kind == "line":
            draw.line(list(shape.points), fill=index, width=line_width)
        elif shape.kind == "point":
            draw.point(list(shape.points), fill=index)  # a disc of radius 0 has no pixels
            for centre in shape.points:
                draw.ellipse(_disc(centre, point_radius), outline=index, fill=index)
        elif shape.kind == "rectangle":
            xs, ys = zip(*shape.points, strict=True)
            draw.rectangle([min(xs), min(ys), max(xs), max(ys)], outline=index, fill=index)
        elif shape.kind == "circle":
            draw.ellipse(_disc(shape.points[0], _radii(shape)[0]), outline=index, fill=index)
        elif shape.kind == "ellipse":
            _paint_ellipse(canvas, shape, index)
        else:
            draw.polygon(list(shape.points), outline=index, fill=index)
    return np.array(canvas)


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
        whole = turn_upright(rasterize(shape, *stored_size), orientation)
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


def _check_count(shape: Shape) -> None:
    fewest, most = _COUNTS.get(shape.kind, (1, _MOST_POINTS))
    if fewest <= len(shape.points) <= most:
        return
    expected = f"{fewest}" if fewest == most else f"{fewest} to {most:,}"
    raise DataError(
        f"{shape.place}: expected {expected} points for a {shape.kind}, found {len(shape.points)}. "
        "Draw it again, or delete it."
    )


def _radii(shape: Shape) -> tuple[float, ...]:
    centre, *ends = shape.points
    return tuple(math.dist(centre, end) for end in ends)


def _disc(centre: Point, radius: float) -> list[float]:
    """The box that Pillow draws a disc into."""
    return [centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius]


def _paint_ellipse(canvas: Image.Image, shape: Shape, index: int) -> None:
    """Sets the pixels whose centres lie in an ellipse, which Pillow cannot turn, and rounds as a polygon."""
    (x, y), *ends = shape.points
    radii = [max(0.5, radius) for radius in _radii(shape)]
    (end_x, end_y), radius = max(zip(ends, radii, strict=True), key=lambda pair: math.dist(pair[0], (x, y)))
    reach = math.ceil(radius)
    left, top = max(0, math.floor(x) - reach), max(0, math.floor(y) - reach)
    right, bottom = min(canvas.width, math.ceil(x) + reach + 1), min(canvas.height, math.ceil(y) + reach + 1)
    if left >= right or top >= bottom:
        return
    rows, columns = np.ogrid[top:bottom, left:right]
    cosine, sine = ((end_x - x) / radius, (end_y - y) / radius) if radius > 0.5 else (1.0, 0.0)
    along = (columns - x) * cosine + (rows - y) * sine
    across = (rows - y) * cosine - (columns - x) * sine
    inside = (along / radius) ** 2 + (across / min(radii)) ** 2 <= 1
    canvas.paste(index, (left, top), Image.fromarray(inside))


def _slip(side: int) -> float:
    return max(2.0, _OVERSHOOT * side)
