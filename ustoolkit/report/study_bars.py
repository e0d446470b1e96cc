"""Bars of several scores, and the ladder of settings that were tried one after the other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ustoolkit.report import axis_names, figures, study_axes

_HEIGHT, _SIDES = 2.9, 0.8  # inches: of the plot above the names, and left and right of it
_GROUP, _WIDEST_BAR = 0.8, 0.6  # of the room of a category, that bars take; inches
_MOST_UPRIGHT = 30  # bars; more of them lie
_LYING_BAR, _LYING_GAP = 0.15, 0.14  # inches
_NAME_LENGTH = 36


@dataclass(frozen=True)
class LadderStep:
    """One change that was tried, with the score that it gave.

    Attributes:
        label: names the change.
        mean: of the score; NaN where there is none.
        deviation: standard deviation, or NaN.
        kept: whether the next step builds on it.
        low, high: ends of an interval that is drawn instead of the deviation; NaN for none.
    """

    label: str
    mean: float
    deviation: float
    kept: bool
    low: float = math.nan
    high: float = math.nan


def ladder_figure(steps: Sequence[LadderStep], up: str) -> Figure:
    """A stair through the steps that were kept; one that was not is hollow, and the stair goes on below or above it.

    Args:
        steps: in the order in which they were tried, the first being what the others begin from.
        up: what the score is.
    Returns:
        a figure with a point for each step, its bar, and its name below.
    Raises:
        DataError: there is no step.
    """
    study_axes.require_some("step", steps)
    names = [step.label for step in steps]
    wide = min(study_axes.WIDTH, max(4.5, _SIDES + 1.1 * len(steps)))
    if not axis_names.fits_level(names, (wide - _SIDES) / len(steps)):
        wide = study_axes.WIDTH
    room = (wide - _SIDES) / len(steps)
    legend = ["kept", "not kept"]
    inches = wide, _HEIGHT + axis_names.names_inches(names, room) + study_axes.legend_inches(legend, 2)
    figure, (axes,) = study_axes.panel_grid([""], inches, "", up)
    mean = np.array([step.mean if math.isfinite(step.mean) else math.nan for step in steps])
    low, high = np.array([_ends(step) for step in steps]).T
    kept = np.array([step.kept for step in steps]) & np.isfinite(mean)
    colour = figures.series_colour(0)
    level = _levels(mean, kept)
    axes.stairs(
        level, np.arange(len(steps) + 1) - 0.5, baseline=None, color=colour, linewidth=1.4, alpha=0.55, zorder=2
    )
    study_axes.error_bars(axes, range(len(steps)), low, high, colour)
    filled: dict[str, Any] = {"color": colour, "markersize": 6.5, "linestyle": "", "marker": "o", "zorder": 3}
    hollow = {**filled, "markerfacecolor": "none", "markeredgewidth": 1.4}
    tried = ~kept & np.isfinite(mean)
    for those, style in ((kept, filled), (tried, hollow)):
        if those.any():
            axes.plot(np.flatnonzero(those), mean[those], **style)
    ends = study_axes.padded([*mean, *low, *high], 0.1)
    axes.set(xlim=(-0.5, len(steps) - 0.5), ylim=ends)
    for place in np.flatnonzero(np.isnan(mean)):
        _missing(axes, (float(place), ends[0]), upright=True)
    study_axes.plain_ticks(axes, "y")
    axis_names.name_positions(axes, names, room)
    study_axes.legend_below(figure, [Line2D([], [], **filled), Line2D([], [], **hollow)], legend, 2)
    return figure


def bar_figure(
    categories: Sequence[str],
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    up: str,
    limits: tuple[float, float] | None = (0.0, 1.0),
) -> Figure:
    """Bars in groups, with lines of one standard deviation; many of them, or those with long names, lie.

    The bars of a group stand in the order of the legend.

    Args:
        categories: a group of bars for each.
        series: by name, means and standard deviations, one a category; NaN for none.
        up: what the bars show.
        limits: of the axis, which is longer where a bar or its line goes beyond; None for those of the values and 0.
    Returns:
        a figure; where there is no value a word stands instead of the bar.
    Raises:
        DataError: there is no category or no series.
        ShapeError: means or deviations are not one a category.
    """
    study_axes.require_some("category", categories)
    study_axes.require_some("series", series)
    for name, (mean, deviation) in series.items():
        study_axes.same_length(f"'{name}'", len(categories), mean=mean, deviation=deviation)
    room = (study_axes.WIDTH - _SIDES) / len(categories)
    lies = len(categories) * len(series) > _MOST_UPRIGHT or not axis_names.fits_level(categories, room)
    legend = list(series) if len(series) > 1 or "" not in series else []
    columns = study_axes.legend_columns(legend, study_axes.WIDTH - 0.2) if legend else 1
    below = study_axes.legend_inches(legend, columns)
    names = [axis_names.wrapped(name, _NAME_LENGTH) for name in categories]
    if lies:
        lines = max(name.count("\n") + 1 for name in names)
        group = max(_LYING_BAR * len(series), axis_names.LINE * lines) + _LYING_GAP
        inches = study_axes.WIDTH, group * len(categories) + 0.6 + below
        figure, (axes,) = study_axes.panel_grid([""], inches, up, "")
        axes.set_yticks(range(len(names)), names, parse_math=False, fontsize=axis_names.TEXT, color=figures.INK)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x", color=figures.RULE, linewidth=0.7)
    else:
        height = _HEIGHT + axis_names.names_inches(categories, room) + below
        figure, (axes,) = study_axes.panel_grid([""], (study_axes.WIDTH, height), "", up)
        axis_names.name_positions(axes, categories, room)
        axes.set_xlim(-0.5, len(names) - 0.5)
    axes.tick_params(axis="y" if lies else "x", length=0)
    _set_limits(axes, series, limits, lies)
    wide = min(_GROUP / len(series), math.inf if lies else _WIDEST_BAR / room)
    for number, (mean, deviation) in enumerate(series.values()):
        places = np.arange(len(categories)) + (number - (len(series) - 1) / 2) * wide
        _bars(axes, places, np.asarray(mean, float), np.asarray(deviation, float), number, wide, lies)
    if legend:
        handles = [Patch(**_fill(number)) for number in range(len(series))]
        study_axes.legend_below(figure, handles, legend, columns)
    return figure


def _bars(
    axes: Axes, places: np.ndarray, mean: np.ndarray, deviation: np.ndarray, number: int, wide: float, lies: bool
) -> None:
    there = np.isfinite(mean)
    draw = axes.barh if lies else axes.bar
    draw(places[there], mean[there], 0.92 * wide, **_fill(number))
    lined = there & np.isfinite(deviation)
    if lined.any():
        which = {"xerr" if lies else "yerr": deviation[lined]}
        points = (mean[lined], places[lined]) if lies else (places[lined], mean[lined])
        axes.errorbar(
            *points, fmt="none", color=figures.INK, elinewidth=0.9, capsize=2, capthick=0.9, zorder=3, **which
        )
    zero = max(0.0, (axes.get_xlim() if lies else axes.get_ylim())[0])
    for place in places[~there]:
        _missing(axes, (zero, place) if lies else (place, zero), upright=not lies)


def _fill(number: int) -> dict[str, Any]:
    """Colours come again after the last, then with stripes."""
    stripes = {"hatch": "////", "edgecolor": figures.INK} if number >= figures.SERIES else {}
    return {"facecolor": study_axes.style(number).colour, "linewidth": 0, **stripes}


def _set_limits(
    axes: Axes,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    limits: tuple[float, float] | None,
    lies: bool,
) -> None:
    mean, deviation = np.array(list(series.values()), float).transpose(1, 0, 2)
    ends = np.array([mean, mean - deviation, mean + deviation])
    ends = ends[np.isfinite(ends)]
    beyond = study_axes.padded([0.0, *ends], 0.04)
    low, high = (0.0, 0.0) if limits is None else limits
    low = beyond[0] if ends.size and ends.min() < low else low
    high = beyond[1] if limits is None or (ends.size and ends.max() > high) else high
    axes.set(**{"xlim" if lies else "ylim": (low, high)})
    study_axes.plain_ticks(axes, "x" if lies else "y")


def _missing(axes: Axes, place: tuple[float, float], upright: bool) -> None:
    axes.annotate(
        "missing",
        place,
        xytext=(0, 4) if upright else (4, 0),
        textcoords="offset points",
        rotation=90 if upright else 0,
        ha="center" if upright else "left",
        va="bottom" if upright else "center",
        fontsize=axis_names.SMALL,
        color=figures.MUTED,
    )


def _ends(step: LadderStep) -> tuple[float, float]:
    if math.isfinite(step.low) and math.isfinite(step.high):
        return step.low, step.high
    return step.mean - step.deviation, step.mean + step.deviation


def _levels(mean: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The score that each step left behind: its own where it was kept, else that of the last one that was."""
    level = np.full(len(mean), np.nan)
    for number in range(len(mean)):
        level[number] = mean[number] if kept[number] else (level[number - 1] if number else np.nan)
    return level
