"""How well predicted masks agree with annotated ones: an image at a time, then summarised with intervals.

A new metric is a function of two masks and one line in `METRICS`; the tables, the summaries and the shared
tests go through that dictionary. One that is 0 for equal masks belongs to `LOWER_IS_BETTER` too.
"""

from collections.abc import Callable

import numpy as np

from ustoolkit.evaluation.overlap import (
    adjusted_rand,
    dice,
    iou,
    pixel_accuracy,
    pixel_error,
    sensitivity,
    specificity,
)
from ustoolkit.evaluation.surface import hausdorff95, hausdorff95_penalised

Spacing = tuple[float, float]
"""Distance between the centres of pixels, row and column, in millimetres."""
Metric = Callable[[np.ndarray, np.ndarray, Spacing | None], float]
"""From truth and prediction, two bool (height, width), and the spacing, None where unknown, to a float; NaN where it is
undefined."""


def _overlap(measure: Callable[[np.ndarray, np.ndarray], float]) -> Metric:
    return lambda truth, prediction, spacing_mm: measure(truth, prediction)


def _in_pixels(measure: Callable[[np.ndarray, np.ndarray, Spacing], float]) -> Metric:
    return lambda truth, prediction, spacing_mm: measure(truth, prediction, (1.0, 1.0))


def _in_mm(measure: Callable[[np.ndarray, np.ndarray, Spacing], float]) -> Metric:
    def measured(truth: np.ndarray, prediction: np.ndarray, spacing_mm: Spacing | None) -> float:
        return float("nan") if spacing_mm is None else measure(truth, prediction, spacing_mm)

    return measured


METRICS: dict[str, Metric] = {
    "dice": _overlap(dice),
    "iou": _overlap(iou),
    "adjusted_rand": _overlap(adjusted_rand),
    "pixel_accuracy": _overlap(pixel_accuracy),
    "pixel_error": _overlap(pixel_error),
    "sensitivity": _overlap(sensitivity),
    "specificity": _overlap(specificity),
    "hausdorff95_pixel": _in_pixels(hausdorff95),
    "hausdorff95_penalised_pixel": _in_pixels(hausdorff95_penalised),
    "hausdorff95_mm": _in_mm(hausdorff95),
    "hausdorff95_penalised_mm": _in_mm(hausdorff95_penalised),
}
"""Metrics by the name that they have in tables."""

LOWER_IS_BETTER = frozenset({"pixel_error", *(name for name in METRICS if name.startswith("hausdorff95"))})
"""Those of `METRICS` that are 0 for equal masks."""
