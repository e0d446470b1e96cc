"""Curves of a diagnosis: ROC, precision-recall and reliability, of one method or of several together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_curve, roc_curve

from ustoolkit.errors import DataError
from ustoolkit.evaluation.calibration import brier_score, expected_calibration_error, reliability, reliability_bins
from ustoolkit.evaluation.probabilities import checked_probability
from ustoolkit.evaluation.roc import auc_interval
from ustoolkit.report import figures

_SIDE, _LINE_HEIGHT = 4.0, 0.21  # inches: of the plot, and of each line below it
_HISTOGRAM_HEIGHT = 1.1
_BINS = 10
_MARKERS = ("o", "^", "s", "D", "v", "P")
_DASHES = (0, (4, 3))
_LONGEST_ENTRY = 52  # characters of the legend that fit below the plot


@dataclass(frozen=True)
class ScoredImages:
    """What one curve is drawn from.

    Attributes:
        truth: bool (n,), whether each image is positive.
        probability: float (n,), in [0, 1], of the positive label.
        threshold: the operating point, to be marked; None for none.
        groups: (n,) str, the patient of each image, for the interval of the area; None where each stands for itself.
    """

    truth: np.ndarray
    probability: np.ndarray
    threshold: float | None = None
    groups: np.ndarray | None = None


def roc_figure(curves: Mapping[str, ScoredImages]) -> Figure:
    """Sensitivity over 1 − specificity, with the area under each curve and the operating points.

    Args:
        curves: by name, in the order of their colours; after the sixth they share one.
    Returns:
        a figure in colours that `figures.to_svg` and `figure_files.write_figure` replace.
    Raises:
        ShapeError: truth, probability and groups of a curve differ in length.
        DataError: there is no curve, a curve has images of one class only, or a probability is not valid.
    """
    figure, axes = _square("1 − specificity", "sensitivity", len(curves))
    axes.plot([0, 1], [0, 1], color=figures.MUTED, linewidth=1, linestyle=_DASHES)
    entries = []
    for number, (name, scored) in enumerate(_checked(curves, both_classes=True).items()):
        false, true, _ = roc_curve(scored.truth, scored.probability)
        _curve(axes, false, true, number)
        if scored.threshold is not None:
            called = scored.probability >= scored.threshold
            _operating_point(axes, called[~scored.truth].mean(), called[scored.truth].mean(), number)
        area, low, high = auc_interval(scored.truth, scored.probability, scored.groups)
        interval = "" if np.isnan(low) else f" ({low:.3f}–{high:.3f})"
        entries.append((name, f"area {area:.3f}{interval}", scored.threshold is not None))
    _legend(figure, entries)
    return figure


def precision_recall_figure(curves: Mapping[str, ScoredImages]) -> Figure:
    """Positive predictive value over sensitivity, with the average precision and the operating points.

    The dashed line is the share of positive images, which calling images positive at random would reach.

    Args:
        curves: as `roc_figure` takes them.
    Returns:
        a figure in colours that `figures.to_svg` and `figure_files.write_figure` replace.
    Raises:
        ShapeError, DataError: as `roc_figure`.
    """
    figure, axes = _square("sensitivity (recall)", "positive predictive value (precision)", len(curves))
    scored_images = _checked(curves, both_classes=True)
    for share in {round(float(scored.truth.mean()), 9) for scored in scored_images.values()}:
        axes.axhline(share, color=figures.MUTED, linewidth=1, linestyle=_DASHES)
    entries = []
    for number, (name, scored) in enumerate(scored_images.items()):
        precision, recall, _ = precision_recall_curve(scored.truth, scored.probability, drop_intermediate=True)
        # Held at each step, as the average precision adds it up: a straight line would promise more.
        _curve(axes, recall, precision, number, drawstyle="steps-post")
        average = -float(np.sum(np.diff(recall) * precision[:-1]))
        called = scored.probability >= (np.inf if scored.threshold is None else scored.threshold)
        if called.any():
            _operating_point(axes, called[scored.truth].mean(), scored.truth[called].mean(), number)
        entries.append((name, f"average precision {average:.3f}", bool(called.any())))
    _legend(figure, entries)
    return figure


def reliability_figure(curves: Mapping[str, ScoredImages]) -> Figure:
    """Share of positive images over their probability, in ten bins, and below how many images each bin has.

    A single curve has bars: the 95 % interval of each share by Wilson ("Probable inference", JASA, 1927), which takes
    images as independent, so that several of one patient would need longer ones.

    Args:
        curves: as `roc_figure` takes them; one class is enough.
    Returns:
        a figure in colours that `figures.to_svg` and `figure_files.write_figure` replace.
    Raises:
        ShapeError, DataError: as `roc_figure`.
    """
    figure, axes = _square("", "share of positives", len(curves), _HISTOGRAM_HEIGHT)
    grid = figure.add_gridspec(2, 1, height_ratios=(_SIDE - 0.5, _HISTOGRAM_HEIGHT - 0.2))
    axes.set_subplotspec(grid[0])
    axes.tick_params(labelbottom=False)
    below = figure.add_subplot(grid[1], sharex=axes, facecolor="none")
    _style_histogram(below)
    axes.plot([0, 1], [0, 1], color=figures.MUTED, linewidth=1, linestyle=_DASHES)
    edges, entries = np.linspace(0, 1, _BINS + 1), []
    for number, (name, scored) in enumerate(_checked(curves).items()):
        colour = figures.series_colour(number)
        of_bins = reliability(scored.truth, scored.probability, _BINS)
        _curve(axes, of_bins["mean_probability"], of_bins["share_positive"], number, marker=True)
        if len(curves) == 1:
            _wilson_bars(axes, of_bins, colour)
        counts = np.bincount(reliability_bins(scored.probability, _BINS), minlength=_BINS)
        if len(curves) == 1:
            below.stairs(counts, edges, fill=True, color=colour, alpha=0.35, linewidth=0)
        below.stairs(counts, edges, color=colour, linewidth=1.3)
        error = expected_calibration_error(scored.truth, scored.probability, _BINS)
        brier = brier_score(scored.truth, scored.probability)
        entries.append((name, f"calibration error {error:.3f}, Brier {brier:.3f}", True))
    below.set_ylim(bottom=0)
    _legend(figure, entries)
    return figure


FIGURES: dict[str, tuple[Callable[[Mapping[str, ScoredImages]], Figure], str]] = {
    "roc": (roc_figure, "ROC curves"),
    "precision_recall": (precision_recall_figure, "Precision-recall curves"),
    "reliability": (reliability_figure, "Reliability curves and histograms of the probabilities"),
}


def page_plot(kind: str, curves: Mapping[str, ScoredImages], prefix: str = "") -> str:
    """One of `FIGURES` for a page.

    Args:
        kind: a key of `FIGURES`.
        curves: by name, in the order of their colours.
        prefix: before the plot's name, for a page that has several of a kind.
    Returns:
        an `<svg>` element.
    Raises:
        ShapeError, DataError: as the figure's function.
    """
    draw, title = FIGURES[kind]
    return figures.to_svg(draw(curves), prefix + kind.replace("_", "-"), f"{title} of {', '.join(curves)}")


def _checked(curves: Mapping[str, ScoredImages], both_classes: bool = False) -> dict[str, ScoredImages]:
    if not curves:
        raise DataError("there is no curve to draw; expected one or more. Give the scored images by name.")
    checked = {}
    for name, scored in curves.items():
        truth, probability = checked_probability(scored.truth, scored.probability)
        if not truth.size or (both_classes and truth.all() == truth.any()):
            raise DataError(
                f"{name}: {np.count_nonzero(truth)} positive and {np.count_nonzero(~truth)} negative images; expected "
                f"{'both' if both_classes else 'some'}. Choose a part of the split that has them."
            )
        checked[name] = ScoredImages(truth, probability, scored.threshold, scored.groups)
    return checked


def _square(across: str, up: str, lines: int, more_height: float = 0.0) -> tuple[Figure, Axes]:
    inches = _SIDE, _SIDE + more_height + _LINE_HEIGHT * lines
    figure, axes = figures.new_figure(inches, across, up, w_pad=0.09, h_pad=0.07)  # markers at 1 reach out of the axes
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
    axes.grid(axis="x", color=figures.RULE, linewidth=0.7)
    return figure, axes


def _style_histogram(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(figures.MUTED)
    axes.tick_params(colors=figures.MUTED, labelsize=8.5, length=3)
    axes.set_xlabel("probability of the positive label", color=figures.MUTED, fontsize=9)
    axes.set_ylabel("number", color=figures.MUTED, fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))


def _curve(
    axes: Axes, across: figures.Numbers, up: figures.Numbers, number: int, marker: bool = False, **style: Any
) -> None:
    shape = _MARKERS[number % len(_MARKERS)] if marker else ""
    colour = figures.series_colour(number)
    # Along an edge of the plot, half of a clipped line would be missing.
    axes.plot(across, up, marker=shape, color=colour, linewidth=1.7, markersize=4.5, clip_on=False, zorder=3, **style)


def _wilson_bars(axes: Axes, of_bins: dict[str, list], colour: str) -> None:
    for middle, share, count in zip(*of_bins.values(), strict=True):
        interval = binomtest(round(share * count), count).proportion_ci(method="wilson")
        axes.plot([middle, middle], interval, color=colour, linewidth=1, alpha=0.6, clip_on=False, zorder=2.5)


def _operating_point(axes: Axes, across: float, up: float, number: int) -> None:
    axes.plot(
        [across],
        [up],
        _MARKERS[number % len(_MARKERS)],
        color=figures.series_colour(number),
        markeredgecolor=figures.INK,
        markeredgewidth=1,
        markersize=7,
        clip_on=False,
        zorder=4,
    )


def _legend(figure: Figure, entries: list[tuple[str, str, bool]]) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=figures.series_colour(number),
            linewidth=1.7,
            marker=_MARKERS[number % len(_MARKERS)] if marked else "",
            markersize=5,
        )
        for number, (_, _, marked) in enumerate(entries)
    ]
    legend = figure.legend(
        handles, [" "] * len(handles), loc="outside lower left", frameon=False, fontsize=8.5, labelspacing=0.35
    )
    for text, (name, score, _) in zip(legend.get_texts(), entries, strict=True):
        # Names are any text: not a formula, nor hidden where they begin with an underscore.
        text.set(text=f"{_shortened(name, _LONGEST_ENTRY - len(score))}: {score}", parse_math=False, color=figures.INK)


def _shortened(name: str, longest: int) -> str:
    """Runs often differ at the end of their name, so it is the middle that goes."""
    return name if len(name) <= longest else f"{name[: longest // 2 - 1]}…{name[-(longest // 2) :]}"
