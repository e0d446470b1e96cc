"""The size of a lesion as it is reported: long diameter, short diameter at right angles to it, and area."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial.distance import pdist, squareform

from ustoolkit.errors import DataError, ShapeError

Ends = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class LesionSize:
    """A lesion's size, in pixels or in millimetres, as it was measured.

    Attributes:
        long_diameter: the largest distance between two points of the outline.
        short_diameter: of the chords at right angles to it, the longest.
        area: of the pixels, in pixels or mm².
        long_ends, short_ends: row and column of both ends, in pixels; whole numbers are the middles of pixels.
    """

    long_diameter: float
    short_diameter: float
    area: float
    long_ends: Ends
    short_ends: Ends


def measure_size(mask: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)) -> LesionSize:
    """Measures the lesion of a mask; of several regions, what encloses them all.

    The outline runs through the middles of pixels' outer edges: n pixels in a row are n long and 1 wide. Both diameters
    are those of its convex hull, as calipers take them, so that a dent does not shorten them.

    Args:
        mask: bool or uint8 (height, width), not 0 where the lesion is.
        spacing: distance of rows and of columns: (1, 1) for pixels, `Sample.spacing_mm` for millimetres.
    Returns:
        the size; of equally long diameters the one that begins highest, then farthest left.
    Raises:
        DataError: the mask is empty, or the spacing is no two positive numbers.
        ShapeError: the mask has not two dimensions.
    """
    scale = np.asarray(spacing, np.float64)
    if scale.shape != (2,) or not (np.isfinite(scale).all() and (scale > 0).all()):
        raise DataError(f"the spacing is {spacing}; expected two numbers above 0, of rows and columns. Correct it.")
    if mask.ndim != 2:
        raise ShapeError(f"the mask has shape {mask.shape}; expected (height, width). Give one mask of one image.")
    lesion = mask > 0
    if not lesion.any():
        raise DataError("the mask is empty, and nothing has no size. Measure only where there is a lesion.")
    corners = _hull(lesion)
    points = corners * scale
    distances = squareform(pdist(points))
    length = float(distances.max())
    ties = np.argwhere(distances >= length * (1 - 1e-12))
    first, second = min(ties.tolist(), key=lambda pair: (*corners[pair[0]], *corners[pair[1]]))
    along = (points[second] - points[first]) / length
    across = np.array([-along[1], along[0]])
    short, ends = _longest_chord((points - points[first]) @ along, (points - points[first]) @ across)
    short_ends = [(points[first] + at * along + away * across) / scale for at, away in ends]
    return LesionSize(
        length,
        short,
        float(np.count_nonzero(lesion) * scale.prod()),
        (_pair(corners[first]), _pair(corners[second])),
        (_pair(short_ends[0]), _pair(short_ends[1])),
    )


def _hull(lesion: np.ndarray) -> np.ndarray:
    """float64 (n, 2), rows and columns of the corners of the hull around the edges' middles, in order."""
    outermost = []
    for axis in (0, 1):
        lines = np.flatnonzero(lesion.any(axis=1 - axis))
        filled = lesion[lines] if axis == 0 else lesion[:, lines].T
        low, high = filled.argmax(axis=1), filled.shape[1] - 1 - filled[:, ::-1].argmax(axis=1)
        # Twice the coordinates are whole numbers, of which OpenCV's hull is exact.
        sides = (2 * low - 1, 2 * high + 1)
        outermost += [np.stack([2 * lines, side] if axis == 0 else [side, 2 * lines], axis=1) for side in sides]
    return cv2.convexHull(np.concatenate(outermost).astype(np.int32))[:, 0].astype(np.float64) / 2


def _longest_chord(along: np.ndarray, across: np.ndarray) -> tuple[float, list[tuple[float, float]]]:
    """The longest chord across a convex outline, and for both ends how far along and across they are.

    The length of chords is concave and changes its slope at corners only, so that the longest one meets a corner.
    """
    start, end = int(along.argmin()), int(along.argmax())
    there = np.arange(start, start + (end - start) % len(along) + 1) % len(along)
    back = np.arange(end, end + (start - end) % len(along) + 1) % len(along)
    outlines = [(along[there], across[there]), (along[back][::-1], across[back][::-1])]
    chords = np.abs(np.subtract(*(np.interp(along, *outline) for outline in outlines)))
    longest = along[chords >= chords.max() * (1 - 1e-9)]
    at = float(longest.min() + longest.max()) / 2  # of parallel sides the middle
    ends = [(at, float(np.interp(at, *outline))) for outline in outlines]
    return float(chords.max()), ends


def _pair(point: np.ndarray) -> tuple[float, float]:
    return float(point[0]), float(point[1])
