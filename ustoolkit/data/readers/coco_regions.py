"""COCO's outlines and run lengths to pixels, by pycocotools, which gets only what it can take.

It is C code that trusts its input: a run length that is negative, cut short or longer than the picture makes it write
outside of its memory, so everything is counted here first.
"""

import math
from itertools import pairwise
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ustoolkit.data.image_files import LARGEST_PIXELS
from ustoolkit.data.shapes import Shape, check_shape
from ustoolkit.errors import DataError

_LONGEST_OUTLINE = 2_000_000  # pixels; pycocotools keeps five points for each
_MOST_DIGITS = 7  # of five bits each, in a compressed run length: enough for any picture
_LONGEST_SHOWN = 40


def region_shape(segmentation: Any, label: str, place: str, height: int, width: int) -> Shape:
    """The pixels of one annotation, exactly those that COCO's own tools give.

    Args:
        segmentation: a list of polygons [x1, y1, x2, y2, …], or {"size": [height, width], "counts": …} with the
            counts as a list of numbers or compressed to text; as read from JSON, unchecked.
        label: the category's name.
        place: for messages: 'train.json, annotation 7'.
        height, width: of the picture that was annotated, pixels.
    Returns:
        a shape of kind 'mask', no larger than its region.
    Raises:
        DataError: it is none of these, does not fit the picture, or its runs do not add up to the picture.
    """
    if height * width > LARGEST_PIXELS:
        raise DataError(
            f"{place}: expected a picture of at most {LARGEST_PIXELS:,} pixels, found {width} × {height}. "
            "Correct the image's height and width."
        )
    if isinstance(segmentation, dict):
        encoded = _checked_runs(segmentation, place, height, width)
    else:
        polygons = _checked_polygons(segmentation, place, height, width)
        encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return _cropped(coco_mask.decode(encoded).astype(bool), label, place)


def _checked_polygons(segmentation: Any, place: str, height: int, width: int) -> list[list[float]]:
    polygons = segmentation if isinstance(segmentation, list) else []
    if polygons and not any(isinstance(polygon, list) for polygon in polygons):
        polygons = [polygons]  # a single outline, not in a list of its own
    if not polygons:
        raise DataError(f"{place}: expected outlines or run lengths, found {_shown(segmentation)}. {_REMEDY}")
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2 or not all(map(_is_number, polygon)):
            raise DataError(
                f"{place}: expected an outline of at least three corners as x1, y1, x2, y2, …, found "
                f"{_shown(polygon)}. {_REMEDY}"
            )
        corners = tuple(zip(polygon[::2], polygon[1::2], strict=True))
        check_shape(Shape("", place, "polygon", corners), height, width)
        length = sum(math.dist(one, other) for one, other in pairwise((*corners, corners[0])))
        if length > _LONGEST_OUTLINE:
            raise DataError(f"{place}: expected an outline, found {len(corners):,} corners all over. {_REMEDY}")
    return [[float(value) for value in polygon] for polygon in polygons]


def _checked_runs(segmentation: dict[str, Any], place: str, height: int, width: int) -> dict[str, Any]:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise DataError(
            f"{place}: expected run lengths of size [{height}, {width}], the image's, found {_shown(size)}. {_REMEDY}"
        )
    runs = _runs(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise DataError(f"{place}: expected run lengths, found {_shown(counts)}. {_REMEDY}")
    if sum(runs) != height * width:
        raise DataError(
            f"{place}: expected run lengths that add up to {height * width:,} pixels, found {sum(runs):,}. {_REMEDY}"
        )
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts.encode("ascii")}
    return coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)


def _runs(text: str) -> list[int] | None:
    """The numbers in COCO's compressed text: digits of five bits, from the third number on the change of two before."""
    runs: list[int] = []
    value = digits = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or digits == _MOST_DIGITS:
            return None
        value |= (bits & 31) << 5 * digits
        digits += 1
        if not bits & 32:
            negative = -1 << 5 * digits if bits & 16 else 0
            runs.append((value | negative) + (runs[-2] if len(runs) > 2 else 0))
            value = digits = 0
    return None if digits else runs


def _cropped(pixels: np.ndarray, label: str, place: str) -> Shape:
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if not len(rows):
        return Shape(label, place, "mask", ((0.0, 0.0),), np.zeros((1, 1), bool))
    top, left = int(rows[0]), int(columns[0])
    region = np.ascontiguousarray(pixels[top : rows[-1] + 1, left : columns[-1] + 1])
    return Shape(label, place, "mask", ((float(left), float(top)),), region)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


_REMEDY = "Draw the region again, or delete it."
