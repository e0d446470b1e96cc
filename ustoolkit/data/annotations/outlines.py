"""The outlines of a mask's regions as polygons that an annotator can move, true to the mask within a pixel."""

from collections.abc import Iterator

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from ustoolkit.data.shapes import Point, Shape, rasterize

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_TOLERANCE = 0.6  # pixels that leaving out corners may move an outline


def outlines(region: np.ndarray) -> list[tuple[Point, ...]]:
    """Polygons through the centres of a region's outermost pixels, as `rasterize` fills them again.

    Args:
        region: bool (height, width).
    Returns:
        a polygon of (x, y), at least three, for each connected part; a part with a hole is cut in two there, since
        annotators know no holes.
    """
    for tolerance in (_TOLERANCE, 0):
        polygons = [_polygon(_simplified(rim, tolerance)) for rim in _rims(region, fine=1)]
        if _true_to(region, _filled(region, polygons)):
            break
    return polygons


def edge_outlines(region: np.ndarray) -> list[tuple[Point, ...]]:
    """Polygons along the outer edges of a region's pixels, where (0, 0) is the corner of the top left one, as in COCO.

    Args:
        region: bool (height, width).
    Returns:
        as `outlines`.
    """
    for tolerance in (_TOLERANCE, 0):
        polygons = [_polygon(_simplified((rim + 1) // 3, tolerance)) for rim in _rims(region, fine=3)]
        if _true_to(region, _filled_by_coco(region, polygons)):
            break
    return polygons


def _rims(region: np.ndarray, fine: int) -> Iterator[np.ndarray]:
    """The rim of each connected part without holes, int (points, 2) as (x, y), in pixels of 1 / `fine`."""
    pixels = region.astype(np.uint8).repeat(fine, axis=0).repeat(fine, axis=1)
    _, parts = cv2.connectedComponents(region.astype(np.uint8))
    found, tree = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for number, rim in enumerate(found):
        _, _, hole, parent = tree[0][number]
        if parent >= 0:
            continue
        if hole < 0:
            yield rim[:, 0]
            continue
        x, y = rim[0, 0] // fine
        part = parts == parts[y, x]
        columns = found[hole][:, 0, 0] // fine
        middle = (int(columns.min()) + int(columns.max()) + 1) // 2
        for side in (np.arange(region.shape[1]) < middle, np.arange(region.shape[1]) >= middle):
            yield from _rims(part & side, fine)


def _simplified(rim: np.ndarray, tolerance: float) -> np.ndarray:
    if not tolerance:
        return rim
    return cv2.approxPolyDP(np.ascontiguousarray(rim, np.int32)[:, np.newaxis], tolerance, closed=True)[:, 0]


def _filled(region: np.ndarray, polygons: list[tuple[Point, ...]]) -> np.ndarray:
    filled = np.zeros_like(region)
    for points in polygons:
        filled |= rasterize(Shape("", "", "polygon", points), *region.shape)
    return filled


def _filled_by_coco(region: np.ndarray, polygons: list[tuple[Point, ...]]) -> np.ndarray:
    if not polygons:
        return np.zeros_like(region)
    lines = [[value for point in points for value in point] for points in polygons]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(lines, *region.shape))).astype(bool)


def _true_to(region: np.ndarray, filled: np.ndarray) -> bool:
    """Whether two regions differ by their neighbouring pixels at most, on either side."""
    pairs = ((region, filled), (filled, region), (~region, ~filled), (~filled, ~region))
    return all(not (first & ~_grown(second)).any() for first, second in pairs)


def _grown(region: np.ndarray) -> np.ndarray:
    return cv2.dilate(region.astype(np.uint8), _CROSS).astype(bool)


def _polygon(line: np.ndarray) -> tuple[Point, ...]:
    points = [(float(x), float(y)) for x, y in line]
    return tuple(points + [points[-1]] * (3 - len(points)))
