"""What stands in labelme's files as shapes: outlines of several types, and bitmaps in base64."""

import base64
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ustoolkit.data.image_files import LARGEST_PIXELS, read_picture
from ustoolkit.data.readers.annotation_files import as_object, as_points, as_text, shown
from ustoolkit.data.readers.meaning import meaning
from ustoolkit.data.shapes import Point, Shape
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings

_KINDS = {
    "polygon": "polygon",
    "oriented_rectangle": "polygon",
    "rotated_rectangle": "polygon",
    "rotation": "polygon",  # X-AnyLabeling's oriented rectangle
    "quadrilateral": "polygon",
    "rectangle": "rectangle",
    "circle": "circle",
    "ellipse": "ellipse",
    "line": "line",
    "linestrip": "line",
    "point": "point",
    "points": "point",
    "mask": "mask",
}
_MOST_MASK_PIXELS = 4 * LARGEST_PIXELS  # of all the bitmaps of an image together
_MASK_DRIFT = 2  # pixels that a dragged mask's box may differ from its bitmap


def numbered_shapes(content: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each shape as it stands in a file, with its place, counted from 1.

    Args:
        content: of the file.
        place: the file's name, for messages.
    Raises:
        DataError: there is no list of shapes.
    """
    shapes = content.get("shapes")
    if not isinstance(shapes, list):
        found = shown(shapes) if "shapes" in content else "none"
        raise DataError(f"{place}: expected a list of shapes, found {found}. Save the annotation again.")
    for number, shape in enumerate(shapes, start=1):
        yield f"{place}, shape {number}", as_object(shape, "shape", f"{place}, shape {number}")


def shapes_of(content: dict[str, Any], place: str, settings: DataSetSettings) -> tuple[Shape, ...]:
    """All shapes of an image, in the order drawn.

    Args:
        content: of the file.
        place: the file's name, for messages.
        settings: `ignore` says which labels are left out, whatever their shape.
    Raises:
        DataError: a shape is not what labelme writes, or of an unknown type.
    """
    shapes, pixels = [], 0
    for number, told in numbered_shapes(content, place):
        shape = _shape(told, number, settings)
        shapes.append(shape)
        pixels += 0 if shape.bitmap is None else shape.bitmap.size
        if pixels > _MOST_MASK_PIXELS:
            raise DataError(
                f"{number}: expected masks of at most {_MOST_MASK_PIXELS:,} pixels, found more. Draw polygons."
            )
    return tuple(shapes)


def _shape(shape: dict[str, Any], place: str, settings: DataSetSettings) -> Shape:
    """A shape as drawn; of one to be left out only the label."""
    label = as_text(shape.get("label"), "label", place)
    if meaning(label, settings, place) is None:
        return Shape(label, place, "point", ())
    spelled = as_text(shape.get("shape_type"), "shape_type", place) or "polygon"
    kind = _KINDS.get(spelled)
    if kind is None:
        raise DataError(
            f"{place}: expected a shape_type of {', '.join(_KINDS)}, found {spelled[:60]!r}. Draw it as one "
            "of these, or delete it."
        )
    points = as_points(shape.get("points"), place)
    if kind == "mask":
        return _mask(shape, points, label, place)
    if kind == "rectangle" and len(points) == 4:  # X-AnyLabeling's corners
        kind = "polygon"
    if kind == "ellipse":
        points = _ellipse(points, place)
    return Shape(label, place, kind, points)


def _ellipse(points: tuple[Point, ...], place: str) -> tuple[Point, ...]:
    """Centre and ends of the axes of the ellipse that two opposite corners of its box stand for."""
    if len(points) != 2:
        raise DataError(
            f"{place}: expected two opposite corners of an ellipse's box, found {len(points)} points. Draw a polygon."
        )
    (left, top), (right, bottom) = points
    x, y = (left + right) / 2, (top + bottom) / 2
    return (x, y), (right, y), (x, bottom)


def _mask(shape: dict[str, Any], points: tuple[Point, ...], label: str, place: str) -> Shape:
    if len(points) != 2:
        raise DataError(f"{place}: expected two corners of a mask, found {len(points)}. Draw it again.")
    encoded = decoded(shape.get("mask"), "mask", place)
    bitmap = read_picture(place, encoded).pixels.any(axis=2)
    left, top, right, bottom = (
        math.trunc(choose(point[axis] for point in points)) for choose in (min, max) for axis in (0, 1)
    )
    rows, columns = bitmap.shape
    if max(abs(bottom - top + 1 - rows), abs(right - left + 1 - columns)) > _MASK_DRIFT:
        raise DataError(
            f"{place}: a mask of {columns} × {rows} pixels does not fill its box of {right - left + 1} × "
            f"{bottom - top + 1}. Draw it again."
        )
    return Shape(label, place, "mask", ((float(left), float(top)),), np.ascontiguousarray(bitmap))


def decoded(value: Any, what: str, place: str) -> bytes:
    """The bytes of an image in base64.

    Raises:
        DataError: it is none.
    """
    try:
        if not isinstance(value, str) or not value:
            raise ValueError(f"found {shown(value)}")
        return base64.b64decode(value.rpartition(",")[2] if value.startswith("data:") else value)
    except ValueError as problem:
        raise DataError(f"{place}: expected {what} as an image in base64 ({problem}). Save it again.") from None
