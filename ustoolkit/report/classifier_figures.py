"""What a classifier's probabilities look like, and how it was trained, as plots of a page."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from ustoolkit.report import figures

_CURVE = (3.7, 2.7)  # inches


def probability_histogram(
    probability: figures.Numbers, groups: figures.Numbers, threshold: float, positive: str
) -> str:
    """How many images are given which probability, by label, with the operating point.

    Args:
        probability: float (n,), in [0, 1], of the positive label.
        groups: int (n,), which label each image has, 0, 1, …; bars stand on each other by it.
        threshold: from which on an image is called positive.
        positive: name of that label.
    Returns:
        an `<svg>` element.
    """
    figure, axes = figures.new_figure(figures.WIDE, "", "images")
    axes.set_xlabel(f"probability of {positive}", color=figures.MUTED, fontsize=9, parse_math=False)
    probability, groups = np.asarray(probability, float), np.asarray(groups, int)
    edges = np.linspace(0, 1, 21)
    below = np.zeros(len(edges) - 1)
    for group in np.unique(groups):
        counts, _ = np.histogram(probability[groups == group], edges)
        axes.bar(edges[:-1], counts, 0.044, bottom=below, align="edge", color=figures.series_colour(group), linewidth=0)
        below += counts
    axes.axvline(threshold, color=figures.INK, linewidth=1, linestyle=(0, (3, 2)))
    side, offset = ("right", -4) if threshold > 0.5 else ("left", 4)
    axes.annotate(
        f"operating point {threshold:.2f}",
        (threshold, 1),
        xycoords=("data", "axes fraction"),
        xytext=(offset, -9),
        textcoords="offset points",
        ha=side,
        color=figures.INK,
    )
    axes.set(xlim=(-0.01, 1.01), ylim=(0, max(1.0, below.max()) * 1.16))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figures.to_svg(figure, "probabilities", f"Histogram of the probability of {positive}, by label")


def auc_curve(history: Sequence[dict[str, float]]) -> str:
    """Validation AUC over the epochs, as an `<svg>` element; '' where the history has none."""
    values = [row.get("validation_auc", math.nan) for row in history]
    if not any(math.isfinite(value) for value in values):
        return ""
    figure, axes = figures.new_figure(_CURVE, "epoch", "validation AUC")
    marker = "o" if len(history) < 12 else ""
    epochs = [row["epoch"] for row in history]
    axes.plot(epochs, values, color=figures.ACCENT, linewidth=1.6, marker=marker, markersize=3.5)
    axes.set_ylim(min(0.5, np.nanmin(values)) - 0.02, 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figures.to_svg(figure, "validation-auc", "Curve of the validation AUC over the epochs")
