"""Figures of a study from plain values: intervals of many rows, and scores over what a network costs.

Those of curves stand in `study_curves`, those of steps and bars in `study_bars`. Each is drawn in colours that
`figure_files.write_figure` replaces, at most 7.2 inches wide, to be read at 900 pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from ustoolkit.errors import DataError
from ustoolkit.report import axis_names, figures, study_axes
from ustoolkit.report.point_labels import PointLabel, place_labels

_BESIDE, _ROW_GAP = 0.15, 0.11  # inches: from one series of a row to the next, and between rows
_AROUND = 0.62  # inches above and below the rows
_NAME_LENGTH = 36  # characters of a line of a row's name
_COST_HEIGHT = 3.9
_LARGE = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class IntervalRow:
    """A value with its 95 % interval.

    Attributes:
        label: names the row; rows of one label but several series stand together.
        value: NaN where there is none.
        low, high: ends of the interval; NaN where there is none.
        series: names the colour and marker; empty where all rows are of one kind.
    """

    label: str
    value: float
    low: float
    high: float
    series: str = ""


@dataclass(frozen=True)
class CostPoint:
    """A network with its cost and its score.

    Attributes:
        label: is written beside the point.
        cost: above 0, such as the number of trainable weights.
        mean: of the score.
        deviation: standard deviation of the score, or NaN.
        series: names the colour and marker; points of one series are joined. Empty where a point stands alone.
    """

    label: str
    cost: float
    mean: float
    deviation: float
    series: str = ""


def interval_figure(rows: Sequence[IntervalRow], axis: str, reference: float | None = None) -> Figure:
    """A row for each label, from the top, with a dot and its interval; a row without a value says 'missing'.

    Args:
        rows: values with intervals; of one label and series there is one.
        axis: what the values are, with their unit.
        reference: where a thin upright line stands, such as 0 for differences; None for none.
    Returns:
        a figure whose height grows with the rows.
    Raises:
        DataError: there is no row, or two have the same label and series.
    """
    study_axes.require_some("row", rows)
    labels, series = (
        list(dict.fromkeys(names)) for names in zip(*((row.label, row.series) for row in rows), strict=True)
    )
    if len({(row.label, row.series) for row in rows}) < len(rows):
        raise DataError("two rows have the same label and series; expected one each. Name the series of each row.")
    names = [axis_names.wrapped(label, _NAME_LENGTH) for label in labels]
    heights = [
        max(axis_names.LINE * (name.count("\n") + 1), _BESIDE * len(series)) + _ROW_GAP + 0.04 * (len(series) > 1)
        for name in names
    ]
    centres = np.cumsum(heights) - np.array(heights) / 2
    legend = series if series != [""] else []
    columns = study_axes.legend_columns(legend, study_axes.WIDTH - 0.2) if legend else 1
    tall = max(0.5, sum(heights)) + _AROUND + study_axes.legend_inches(legend, columns)
    inches = study_axes.WIDTH, tall
    figure, axes = figures.new_figure(inches, axis_names.wrapped(axis, 76), "", w_pad=0.08, h_pad=0.06)
    axes.xaxis.label.set_parse_math(False)
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=figures.RULE, linewidth=0.7)
    axes.set_yticks(centres, names, parse_math=False, fontsize=axis_names.TEXT, color=figures.INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(sum(heights), 0)
    for edge in np.cumsum(heights)[:-1] if len(series) > 1 else ():
        axes.axhline(edge, color=figures.RULE, linewidth=0.7, zorder=0.5)
    place = dict(zip(labels, centres, strict=True))
    for row in rows:
        number = series.index(row.series)
        _interval(axes, row, place[row.label] + (number - (len(series) - 1) / 2) * _BESIDE, study_axes.style(number))
    shown = [number for row in rows if math.isfinite(row.value) for number in (row.value, row.low, row.high)]
    axes.set_xlim(study_axes.padded([*shown, math.nan if reference is None else reference]))
    if reference is not None:
        axes.axvline(reference, color=figures.MUTED, linewidth=1, zorder=1.5)
    study_axes.plain_ticks(axes, "x", 7)
    if legend:
        handles = [study_axes.line_handle(study_axes.style(number), dashed=False) for number in range(len(series))]
        study_axes.legend_below(figure, handles, [name or "other" for name in legend], columns)
    return figure


def cost_figure(points: Sequence[CostPoint], across: str, up: str) -> Figure:
    """Scores over costs on a logarithmic axis, each point named beside it, with bars of one standard deviation.

    Args:
        points: networks; one without a finite mean or with no cost above 0 is named below the figure only.
        across: what the cost is.
        up: what the score is.
    Returns:
        a figure in which names cover neither each other nor points, as far as there is room.
    Raises:
        DataError: there is no point.
    """
    study_axes.require_some("point", points)
    drawn = [point for point in points if math.isfinite(point.mean) and math.isfinite(point.cost) and point.cost > 0]
    series = list(dict.fromkeys(point.series for point in points))
    handles = [study_axes.line_handle(study_axes.style(number), dashed=False) for number in range(len(series))]
    legend = [name or "other" for name in series] if series != [""] else []
    handles = handles[: len(legend)]
    missing = [point.label for point in points if point not in drawn]
    columns = study_axes.legend_columns(legend, study_axes.WIDTH - 0.2) if legend else 1
    inches = study_axes.WIDTH, _COST_HEIGHT + study_axes.legend_inches(legend, columns) + 0.2 * bool(missing)
    figure, (axes,) = study_axes.panel_grid([""], inches, across, up)
    axes.set_xscale("log")
    for number, name in enumerate(series):
        look = study_axes.style(number)
        members = sorted((point for point in drawn if point.series == name), key=lambda point: point.cost)
        cost, mean, deviation = (
            np.array([(point.cost, point.mean, point.deviation) for point in members]).reshape(-1, 3).T
        )
        if name and len(members) > 1:
            axes.plot(cost, mean, color=look.colour, linewidth=1, alpha=0.5, zorder=2.4)
        study_axes.error_bars(axes, cost, mean - deviation, mean + deviation, look.colour)
        if members:
            axes.plot(cost, mean, look.marker, color=look.colour, markersize=6, zorder=3)
    _cost_limits(axes, drawn)
    if missing:
        note = axis_names.wrapped(f"without a value: {', '.join(missing)}", 100)
        axes.set_xlabel(f"{across}\n{note}", color=figures.MUTED, fontsize=9, parse_math=False)
    if legend:
        study_axes.legend_below(figure, handles, legend, columns)
    place_labels(axes, [PointLabel(point.label, point.cost, point.mean) for point in drawn], axis_names.TEXT)
    return figure


def _interval(axes: Axes, row: IntervalRow, height: float, look: study_axes.Style) -> None:
    if not math.isfinite(row.value):
        axes.annotate(
            "missing",
            (0, height),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, 0),
            textcoords="offset points",
            va="center_baseline",
            fontsize=axis_names.SMALL,
            color=look.colour if row.series else figures.MUTED,
        )
        return
    if math.isfinite(row.low) and math.isfinite(row.high):
        axes.plot(
            [row.low, row.high], [height] * 2, color=look.colour, linewidth=1.5, solid_capstyle="butt", zorder=2.8
        )
    axes.plot([row.value], [height], look.marker, color=look.colour, markersize=5.5, clip_on=False, zorder=3)


def _cost_limits(axes: Axes, drawn: Sequence[CostPoint]) -> None:
    """Room for names at all sides, and ticks in words of thousands and millions."""
    cost = [point.cost for point in drawn] or [1.0]
    ratio = max(cost) / min(cost)
    # At least two ticks of 1, 2 and 5 of a decade lie within a factor of 6.3.
    room = max(1.5, ratio**0.13, math.sqrt(6.3 / ratio))
    axes.set_xlim(min(cost) / room, max(cost) * room)
    spread = [point.deviation if math.isfinite(point.deviation) else 0.0 for point in drawn]
    ends = [point.mean + side * by for point, by in zip(drawn, spread, strict=True) for side in (-1, 1)]
    axes.set_ylim(study_axes.padded(ends, 0.12))
    axes.xaxis.set_major_locator(figures.RoundSteps())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_large_number))
    study_axes.plain_ticks(axes, "y")


def _large_number(value: float, position: int | None = None) -> str:
    for unit, letter in _LARGE:
        if value >= 10 * unit or (value >= unit and unit > 1e3):
            return f"{value / unit:g} {letter}"
    return figures.plain_number(value)
