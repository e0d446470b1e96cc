"""How far apart the outlines of two masks run."""

import math

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from ustoolkit.errors import DataError
from ustoolkit.evaluation.overlap import mask_pair

_DENSE = 0.1  # of a box's pixels; a tree of more takes longer than a distance transform of the box


def hausdorff95(truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, float] = (1.0, 1.0)) -> float:
    """Distance that 95 % of each outline keeps to the other: the 95 % Hausdorff distance.

    From every border pixel of one mask the distance to the nearest border pixel of the other is taken; the
    95th percentile of these is one directed distance, and the larger of the two directions is returned. A
    border pixel is a mask pixel of which one of the four neighbours lies outside the mask; what is beyond the
    image lies outside. After Huttenlocher et al., "Comparing images using the Hausdorff distance", IEEE TPAMI
    15:850 (1993), with percentiles as in Maier-Hein et al., "Metrics reloaded", Nature Methods 21:195 (2024).

    >>> truth = np.zeros((8, 8), bool)
    >>> truth[2:4, 2:4] = True
    >>> hausdorff95(truth, np.roll(truth, 3, axis=1))
    3.0

    Args:
        truth: bool (height, width), the annotated lesion.
        prediction: bool (height, width), the predicted lesion.
        spacing_mm: (row, column) distance between pixel centres in millimetres; (1.0, 1.0) gives pixels.
    Returns:
        float ≥ 0 in the unit of the spacing; NaN where either mask is empty.
    Raises:
        ShapeError: the masks differ in shape, or are not two-dimensional.
        DataError: the spacing is not two positive numbers.
    """
    distances = surface_distances(truth, prediction, spacing_mm)
    return max(float(np.percentile(directed, 95)) if directed.size else math.nan for directed in distances)


def hausdorff95_penalised(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, float] = (1.0, 1.0)
) -> float:
    """The 95 % Hausdorff distance, with a lesion wholly missed or wholly invented as far off as can be.

    Leaving such images out of a mean would reward predicting nothing where the lesion is hard to find. The
    image diagonal is never less than a distance within the image, so predicting nothing never pays.

    Args:
        truth: bool (height, width), the annotated lesion.
        prediction: bool (height, width), the predicted lesion.
        spacing_mm: (row, column) distance between pixel centres in millimetres; (1.0, 1.0) gives pixels.
    Returns:
        float ≥ 0 in the unit of the spacing: `hausdorff95`, or the image diagonal where exactly one of the
        masks is empty; NaN where both are.
    Raises:
        ShapeError: the masks differ in shape, or are not two-dimensional.
        DataError: the spacing is not two positive numbers.
    """
    truth, prediction = mask_pair(truth, prediction)
    if truth.any() != prediction.any():
        row_spacing, column_spacing = _checked_spacing(spacing_mm)
        return math.hypot(truth.shape[0] * row_spacing, truth.shape[1] * column_spacing)
    return hausdorff95(truth, prediction, spacing_mm)


def surface_distances(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, float] = (1.0, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """How far each border pixel of one mask is from the nearest border pixel of the other, both ways.

    Args:
        truth: bool (height, width), the annotated lesion.
        prediction: bool (height, width), the predicted lesion.
        spacing_mm: (row, column) distance between pixel centres in millimetres; (1.0, 1.0) gives pixels.
    Returns:
        two float64 (border pixels,) ≥ 0 in the unit of the spacing, by rows: from the truth's border, and from the
        prediction's; both without values where either mask is empty.
    Raises:
        ShapeError: the masks differ in shape, or are not two-dimensional.
        DataError: the spacing is not two positive numbers.
    """
    truth, prediction = mask_pair(truth, prediction)
    spacing_mm = _checked_spacing(spacing_mm)
    box = _box_of_both(truth, prediction)
    if box is None:
        return np.empty(0), np.empty(0)
    # Around the box of both masks lies only background, as beyond the image: the borders are the same within.
    borders = [border_pixels(mask[box]) for mask in (truth, prediction)]
    if sum(map(np.count_nonzero, borders)) > 2 * _DENSE * borders[0].size:
        far = [distance_transform_edt(~border, sampling=spacing_mm) for border in borders]
        return far[1][borders[0]], far[0][borders[1]]
    truth_points, prediction_points = (_positions(border, spacing_mm) for border in borders)
    return _to_nearest(truth_points, prediction_points), _to_nearest(prediction_points, truth_points)


def border_pixels(mask: np.ndarray) -> np.ndarray:
    """Returns the mask pixels of which one of the four neighbours lies outside the mask or the image.

    Args:
        mask: bool (height, width).
    Returns:
        bool (height, width).
    """
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    return mask & ~inner


def _box_of_both(truth: np.ndarray, prediction: np.ndarray) -> tuple[slice, slice] | None:
    """The rows and columns that hold both masks; None where either is empty."""
    if not truth.size:
        return None
    boxes = np.array([cv2.boundingRect(mask.view(np.uint8)) for mask in (truth, prediction)])
    starts, sizes = boxes[:, :2], boxes[:, 2:]
    if not sizes.all():
        return None
    left, top = starts.min(axis=0)
    right, bottom = (starts + sizes).max(axis=0)
    return slice(top, bottom), slice(left, right)


def _positions(border: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """float64 (pixels, 2): row and column of each, by rows, in the unit of the spacing."""
    found = np.flatnonzero(border)  # with its division several times as fast as np.argwhere
    return np.column_stack(np.divmod(found, border.shape[1])) * spacing_mm


def _to_nearest(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """float64 (points,): from each of float (points, 2) to the nearest of float (targets, 2)."""
    return KDTree(targets, leafsize=16, balanced_tree=False).query(points)[0]


def _checked_spacing(spacing_mm: tuple[float, float]) -> tuple[float, float]:
    spacing = tuple(float(value) for value in spacing_mm)
    if len(spacing) != 2 or not all(math.isfinite(value) and value > 0 for value in spacing):
        raise DataError(
            f"spacing_mm {spacing}: expected two positive numbers, the millimetres from a pixel to the "
            "next row and column. Correct the spacing where the image was read, or leave it out."
        )
    return spacing
