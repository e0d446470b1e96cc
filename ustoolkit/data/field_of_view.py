"""Where on a screen the scan is: what lies around it shows the device, the settings and the patient's name."""

import json
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from ustoolkit.data.overlays import Box, brightness, caliper_centres, is_within, text_boxes

Area = tuple[int, int, int, int]  # top, bottom, left, right; rows top to bottom - 1 and columns left to right - 1

_FLAT = 2  # grey levels between neighbours; speckle differs by more, an empty screen by less
_WINDOW = 1 / 40  # of the shorter side
_SMALLEST_WINDOW = 5  # pixels
_DENSE = 0.75  # share of a window's pixels that differ from their neighbours
_EMPTY = 0.3  # share of a window's pixels that are background: more between letters, less in speckle
_DARK = 60  # grey levels above the background: letters are brighter
_SMALLEST_PART = 0.15  # of the largest part's area: one of two scans side by side, and no logo
_SMALLEST_SCAN = 0.05  # of the image's area
_SPARSE = 0.35  # share of a line's extent that is filled: ticks of a scale have less
_SHORTEST_LINE = 0.01  # of the shorter side, and 3 pixels: a tick is thinner
_FADING = 0.02  # share of a row that is filled: the last echoes from the depth have more, an empty screen none
_BESIDE = 0.02  # of the shorter side, around a caliper


def field_of_view(image: np.ndarray) -> Area:
    """Finds the scan on a screen.

    A scan is a large region of speckle; letters, scales and bars are sparse, thin or flat. Calipers above or below it
    lie in its dark depth, and are taken in. Where no frame can be told from the scan, the whole image is the scan.

    Args:
        image: uint8 (height, width, 1 or 3).
    Returns:
        top, bottom, left, right in pixels: `image[top:bottom, left:right]` is the scan.
    """
    return locate_scan(image)[0]


def told_field_of_view(attributes: Mapping[str, Any], height: int, width: int) -> Area | None:
    """The area that the source told, as DICOM does.

    Args:
        attributes: of the sample; its `field_of_view` is [x, y, width, height] in pixels, or that as JSON.
        height, width: of its image, pixels.
    Returns:
        as `field_of_view`; None where nothing is told, or nothing that lies in the image.
    """
    try:
        told = attributes["field_of_view"]
        told = json.loads(told) if isinstance(told, str) else told
        left, top, across, down = (round(float(value)) for value in told)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    area = (max(0, top), min(height, top + down), max(0, left), min(width, left + across))
    return area if area[0] < area[1] and area[2] < area[3] else None


def locate_scan(image: np.ndarray) -> tuple[Area, np.ndarray]:
    """The field of view, and the text that lies beside the scan, in a sector's corners say.

    Args:
        image: uint8 (height, width, 1 or 3).
    Returns:
        the area as `field_of_view` gives it; the pixels of text outside of the scan's outline, bool (height, width).
    """
    grey = brightness(image)
    height, width = grey.shape
    whole, nowhere = (0, height, 0, width), np.zeros(grey.shape, bool)
    text = text_boxes(grey)
    screen = _without_text(grey, text)
    if screen is None:
        return whole, nowhere
    scan = _scan(*screen)
    if np.count_nonzero(scan) < _SMALLEST_SCAN * scan.size:
        return whole, nowhere
    top, bottom = _dense_span(scan)
    left, right = _dense_span(scan.T)
    bottom = _faded(screen[0][:, left:right] > _FLAT, bottom)
    top, bottom, left, right = _with_calipers((top, bottom, left, right), grey, text)
    if top == 0 and left == 0 and right == width:
        return whole, nowhere  # an image without a frame, dark in the depth
    outline = _hull(scan)
    beside = nowhere
    for x, y, w, h in text:
        if not outline[y : y + h, x : x + w].any():  # else it is a note on the tissue
            beside[max(0, y - h // 2) : y + h + h // 2, max(0, x - h) : x + w + h] = True
    return (top, bottom, left, right), beside & ~outline


def _without_text(grey: np.ndarray, text: list[Box]) -> tuple[np.ndarray, np.ndarray] | None:
    """How far each pixel is from the screen's own grey, and which differ from their neighbours, both without text.

    None where nothing is flat: then there is no screen around the scan.
    """
    window = np.ones((3, 3), np.uint8)
    differing = cv2.subtract(cv2.dilate(grey, window), cv2.erode(grey, window)) > _FLAT
    counts = np.bincount(grey[~differing], minlength=256)
    if counts.max() < 0.01 * grey.size:
        return None
    above = cv2.absdiff(grey, np.full_like(grey, counts.argmax()))
    for x, y, w, h in text:
        letters = slice(max(0, y - 2), y + h + 2), slice(max(0, x - h // 2), x + w + h // 2)
        above[letters], differing[letters] = 0, False
    return above, differing


def _scan(above: np.ndarray, differing: np.ndarray) -> np.ndarray:
    """The pixels of large regions of speckle, uint8 (height, width), 0 and 1."""
    side = max(_SMALLEST_WINDOW, round(min(above.shape) * _WINDOW)) | 1
    full = above > _FLAT
    density = cv2.blur(differing.astype(np.float32), (side, side))
    empty = 1 - cv2.blur(full.astype(np.float32), (side, side))
    dark = cv2.dilate(above, np.ones((side, side), np.uint8)) < _DARK
    speckle = (density > _DENSE) & ((empty < _EMPTY) | dark)
    core = cv2.morphologyEx(speckle.astype(np.uint8), cv2.MORPH_OPEN, _disc(side))
    core = _large_parts(cv2.morphologyEx(core, cv2.MORPH_CLOSE, _disc(side)))
    # A window at the edge is half empty, so the core ends half a window inside the scan.
    near = cv2.dilate(core, np.ones((side + 2, side + 2), np.uint8))
    return near & (full | (core > 0)).astype(np.uint8)


def _disc(diameter: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))


def _large_parts(pixels: np.ndarray) -> np.ndarray:
    _, parts, stats, _ = cv2.connectedComponentsWithStats(pixels)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return (areas >= max(1.0, _SMALLEST_PART * areas.max()))[parts].astype(np.uint8)


def _dense_span(scan: np.ndarray) -> tuple[int, int]:
    """The first row and the one after the last whose filled pixels lie close to each other; none does in a scale."""
    counts = np.count_nonzero(scan, axis=1)
    first = scan.argmax(axis=1)
    last = scan.shape[1] - scan[:, ::-1].argmax(axis=1)
    shortest = max(3, _SHORTEST_LINE * min(scan.shape))
    dense = np.flatnonzero((counts >= shortest) & (counts >= _SPARSE * (last - first)))
    return (int(dense[0]), int(dense[-1]) + 1) if dense.size else (0, scan.shape[0])


def _faded(full: np.ndarray, bottom: int) -> int:
    """The row after the last echoes below a scan's visible end, up to the first row that has next to none."""
    empty = np.flatnonzero(full[bottom:].mean(axis=1) < _FADING)
    return bottom + int(empty[0]) if empty.size else len(full)


def _with_calipers(area: Area, grey: np.ndarray, text: list[Box]) -> Area:
    top, bottom, left, right = area
    margin = round(_BESIDE * min(grey.shape))
    for row, column in caliper_centres(grey):
        if left <= column < right and not is_within((row, column), text):
            top, bottom = min(top, max(0, row - margin)), max(bottom, min(grey.shape[0], row + margin + 1))
    return top, bottom, left, right


def _hull(scan: np.ndarray) -> np.ndarray:
    """The convex outline of each part, filled: bool (height, width)."""
    filled = np.zeros_like(scan)
    contours, _ = cv2.findContours(scan, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours:
        cv2.fillConvexPoly(filled, cv2.convexHull(contour), 1)
    return filled > 0
