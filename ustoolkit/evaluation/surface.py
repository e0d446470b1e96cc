"""How far apart the outlines of two masks run."""

import math

import numpy as np
from scipy import ndimage

from ustoolkit.errors import DataError
from ustoolkit.evaluation.overlap import mask_pair


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
    truth, prediction = mask_pair(truth, prediction)
    spacing_mm = _checked_spacing(spacing_mm)
    if not truth.any() or not prediction.any():
        return math.nan
    # Around the box of both masks lies only background, as beyond the image: the borders are the same within.
    box = ndimage.find_objects((truth | prediction).astype(np.uint8))[0]
    truth_border, prediction_border = border_pixels(truth[box]), border_pixels(prediction[box])
    return max(
        _directed_percentile(truth_border, prediction_border, spacing_mm),
        _directed_percentile(prediction_border, truth_border, spacing_mm),
    )


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


def _directed_percentile(source: np.ndarray, target: np.ndarray, spacing_mm: tuple[float, float]) -> float:
    distances = ndimage.distance_transform_edt(~target, sampling=spacing_mm)
    return float(np.percentile(distances[source], 95))


def _checked_spacing(spacing_mm: tuple[float, float]) -> tuple[float, float]:
    spacing = tuple(float(value) for value in spacing_mm)
    if len(spacing) != 2 or not all(math.isfinite(value) and value > 0 for value in spacing):
        raise DataError(
            f"spacing_mm {spacing}: expected two positive numbers, the millimetres from a pixel to the "
            "next row and column. Correct the spacing where the image was read, or leave it out."
        )
    return spacing
