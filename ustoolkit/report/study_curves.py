"""Curves of a study: scores and losses over the epochs of several runs, and scores over steps of one setting."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.report import axis_names, figures, study_axes
from ustoolkit.report.point_labels import PointLabel, place_labels

_PANEL_HEIGHT, _ALONE = 2.9, 5.6  # inches: of a line of panels, and the width of one panel alone
_FEW_EPOCHS = 12  # a curve of fewer points shows them
_DIRECTIONS = (0, 4, 2, 1, 3, 5)  # colours of steps: blue and red first
_APART = 0.07  # steps between series, so that error bars of one step stand beside each other


@dataclass(frozen=True)
class StepSeries:
    """Scores at the steps 1, 2, … of one setting.

    Attributes:
        mean: one a step, NaN where there is none.
        deviation: standard deviations, NaN where there is none.
        marks: what is written beside a step, empty for nothing; none at all, or one a step.
    """

    mean: Sequence[float]
    deviation: Sequence[float]
    marks: Sequence[str] = ()


def curve_figure(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    across: str,
    styles: Mapping[str, tuple[int, int]] | None = None,
) -> Figure:
    """Means of several runs over the epochs, with a band from the least to the greatest.

    A line is thin where some of its runs have ended, since there it is the mean of the others.

    Args:
        panels: by title and label, float (runs, epochs), NaN where a run has ended or has no value; the first epoch
            is 1.
        across: what the columns are, such as 'epoch'.
        styles: the number of the colour and of the dash, from 0, by label. None: labels of the form 'A, B' have a
            colour for each A and a dash for each B where that tells them apart, others one colour after the other.
    Returns:
        a figure with the panels side by side, two a line, and one legend below.
    Raises:
        DataError: there is no panel, a panel has no label, or `styles` lacks one.
        ShapeError: an array does not have two axes, or has no column.
    """
    study_axes.require_some("panel", panels)
    labels = list(dict.fromkeys(label for curves in panels.values() for label in curves))
    for title, curves in panels.items():
        study_axes.require_some(f"curve of '{title}'", curves)
    looks = _looks(labels, styles)
    first_factor = len({look.colour for look in looks.values()}) if _two_factors(labels) and styles is None else 0
    figure, every = _figure(panels, across, "", labels, first_factor)
    # Many bands upon each other would hide the lines.
    band, wide = (0.18, 1.6) if len(labels) <= 4 else (0.09, 1.3)
    marked = False
    for axes, (title, curves) in zip(every, panels.items(), strict=True):
        for label, given in curves.items():
            values = np.asarray(given, float)
            if values.ndim != 2 or not values.size:
                raise ShapeError(
                    f"'{label}' of '{title}': expected an array (runs, epochs), found the shape {values.shape}. "
                    "Give one row for each run."
                )
            marked |= values.shape[1] < _FEW_EPOCHS
            _curve(axes, np.where(np.isfinite(values), values, np.nan), looks[label], band, wide)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        study_axes.plain_ticks(axes, "y")
    handles = [study_axes.line_handle(looks[label], marked=marked) for label in labels]
    study_axes.legend_below(figure, handles, labels, _columns(labels, len(panels), first_factor))
    return figure


def step_figure(panels: Mapping[str, Mapping[str, StepSeries]], across: str, up: str) -> Figure:
    """Scores over the steps of one setting with bars of one standard deviation, a panel for each data set.

    As figure 4 of "Fine Tuning U-Net for Ultrasound Image Segmentation: Which Layers?" (Amiri et al., DART 2019), whose
    two series are directions through the network. All panels have the same axes.

    Args:
        panels: by title and label; the first label is blue, the second red.
        across: what the steps count.
        up: what the score is.
    Returns:
        a figure with the panels side by side, two a line, and one legend below.
    Raises:
        DataError: there is no panel, or a panel has no series.
        ShapeError: mean, deviation and marks of a series differ in length.
    """
    study_axes.require_some("panel", panels)
    for title, of_panel in panels.items():
        study_axes.require_some(f"series of '{title}'", of_panel)
        for label, series in of_panel.items():
            where, names = f"'{label}' of '{title}'", series.marks or [""] * len(series.mean)
            study_axes.same_length(where, len(series.mean), deviation=series.deviation, marks=names)
    labels = list(dict.fromkeys(label for of_panel in panels.values() for label in of_panel))
    looks = {label: study_axes.style(_DIRECTIONS[number % len(_DIRECTIONS)]) for number, label in enumerate(labels)}
    figure, every = _figure(panels, across, up, labels)
    steps, ends = 1, []
    for axes, of_panel in zip(every, panels.values(), strict=True):
        for label, series in of_panel.items():
            mean, deviation = np.asarray(series.mean, float), np.asarray(series.deviation, float)
            places = _places(len(mean), labels.index(label), len(labels))
            steps = max(steps, len(mean))
            study_axes.error_bars(axes, places, mean - deviation, mean + deviation, looks[label].colour)
            shown = np.where(np.isfinite(mean), mean, np.nan)
            axes.plot(
                places,
                shown,
                marker=looks[label].marker,
                color=looks[label].colour,
                linewidth=1.6,
                markersize=5,
                zorder=3,
            )
            ends += [*shown, *(mean - deviation), *(mean + deviation)]
    for axes in every:
        axes.set(xlim=(0.5, steps + 0.5), ylim=study_axes.padded(ends, 0.08))
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
        study_axes.plain_ticks(axes, "y")
    handles = [study_axes.line_handle(looks[label]) for label in labels]
    study_axes.legend_below(figure, handles, labels, _columns(labels, len(panels)))
    for axes, of_panel in zip(every, panels.values(), strict=True):
        marks = [
            PointLabel(mark, place, mean, 270 if labels.index(label) % 2 else 90)
            for label, series in of_panel.items()
            for place, mean, mark in zip(
                _places(len(series.mean), labels.index(label), len(labels)), series.mean, series.marks, strict=False
            )
            if mark and math.isfinite(mean)
        ]
        place_labels(axes, marks, axis_names.SMALL)
    return figure


def _figure(
    panels: Mapping[str, object], across: str, up: str, labels: Sequence[str], first_factor: int = 0
) -> tuple[Figure, list[Axes]]:
    columns = min(2, len(panels))
    legend = study_axes.legend_inches(labels, _columns(labels, len(panels), first_factor))
    inches = _wide(len(panels)), _PANEL_HEIGHT * math.ceil(len(panels) / columns) + legend
    return study_axes.panel_grid(list(panels), inches, across, up, columns)


def _wide(panels: int) -> float:
    return _ALONE if panels == 1 else study_axes.WIDTH


def _columns(labels: Sequence[str], panels: int, preferred: int = 0) -> int:
    return study_axes.legend_columns(labels, _wide(panels) - 0.2, preferred)


def _places(steps: int, number: int, series: int) -> np.ndarray:
    return np.arange(1, steps + 1) + (number - (series - 1) / 2) * _APART


def _curve(axes: Axes, values: np.ndarray, look: study_axes.Style, band: float, wide: float) -> None:
    epochs = np.arange(1, values.shape[1] + 1)
    there = np.isfinite(values)
    going = there.sum(axis=0)
    mean = np.where(going > 0, np.where(there, values, 0).sum(axis=0) / np.maximum(going, 1), np.nan)
    if len(values) > 1:
        least = np.where(going > 0, np.where(there, values, np.inf).min(axis=0), np.nan)
        greatest = np.where(going > 0, np.where(there, values, -np.inf).max(axis=0), np.nan)
        axes.fill_between(epochs, least, greatest, color=look.colour, alpha=band, linewidth=0, zorder=1.8)
    marker = look.marker if values.shape[1] < _FEW_EPOCHS else ""
    style: dict[str, Any] = {"color": look.colour, "linestyle": look.dash, "marker": marker, "markersize": 4}
    everyone = going == len(values)
    axes.plot(epochs, np.where(everyone, mean, np.nan), linewidth=wide, zorder=3, **style)
    # From the last epoch of all runs on, so that the line has no gap.
    others = ~everyone | np.append(~everyone[1:], False) | np.append(False, ~everyone[:-1])
    if not everyone.all():
        axes.plot(epochs, np.where(others, mean, np.nan), linewidth=0.8, zorder=2.9, **style)


def _looks(labels: Sequence[str], styles: Mapping[str, tuple[int, int]] | None) -> dict[str, study_axes.Style]:
    if styles is not None:
        lacking = [label for label in labels if label not in styles]
        if lacking:
            raise DataError(f"no style for '{lacking[0]}'; expected one for each label. Add it to the styles.")
        return {label: study_axes.style(*styles[label]) for label in labels}
    if not _two_factors(labels):
        return {label: study_axes.style(number, number // figures.SERIES) for number, label in enumerate(labels)}
    first, second = (
        list(dict.fromkeys(part)) for part in zip(*(label.split(", ", 1) for label in labels), strict=True)
    )
    parts = {label: label.split(", ", 1) for label in labels}
    return {label: study_axes.style(first.index(one), second.index(two)) for label, (one, two) in parts.items()}


def _two_factors(labels: Sequence[str]) -> bool:
    """Whether 'A, B' is told apart by a colour for each A and a dash for each B."""
    parts = [label.split(", ", 1) for label in labels]
    if any(len(part) != 2 for part in parts):
        return False
    first, second = ({part[side] for part in parts} for side in (0, 1))
    return len(first) <= figures.SERIES and 1 < len(second) <= 4 and len(labels) > len(first)
