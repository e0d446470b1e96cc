"""Plots side by side whose common axis runs down the layers of a network, from the first to the deepest."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from ustoolkit.errors import DataError
from ustoolkit.report import figures

_PANEL, _NAMES, ROW, AROUND = 2.5, 2.0, 0.2, 1.1  # inches: a plot, the names, a layer, and above and below the plots
_MARKERS = ("o", "^")


def layer_panels(layers: Sequence[str], across: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with a plot for each quantity, the layers' names at the left of the first.

    Args:
        layers: names, from the first to the deepest; layer i is drawn at the height i, which grows downwards.
        across: what each plot shows.
    Returns:
        the figure, in colours that `figure_files.write_figure` replaces, and its axes from the left.
    Raises:
        DataError: there is no layer.
    """
    if not layers:
        raise DataError("there is no layer to draw; expected one or more. Choose some layers.")
    inches = _NAMES + _PANEL * len(across), AROUND + ROW * max(3, len(layers))
    figure, first = figures.new_figure(inches, across[0], "")
    cells = figure.add_gridspec(1, len(across))
    first.set_subplotspec(cells[0])
    panels = [first]
    for place, name in enumerate(across[1:], start=1):
        panels.append(figure.add_subplot(cells[place], sharey=first, facecolor="none"))
        panels[-1].spines[["top", "right"]].set_visible(False)
        panels[-1].spines[["left", "bottom"]].set_color(figures.MUTED)
        panels[-1].set_xlabel(name, color=figures.MUTED, fontsize=9)
        panels[-1].set_axisbelow(True)
    for axes in panels:
        axes.tick_params(colors=figures.MUTED, labelsize=8.5, length=3)
        axes.tick_params(axis="y", length=0, labelleft=axes is first)
        axes.grid(axis="both", color=figures.RULE, linewidth=0.7)
    first.set_yticks(range(len(layers)), layers, parse_math=False, fontsize=8, color=figures.INK)
    first.set_ylim(len(layers) - 0.4, -0.6)
    return figure, panels


def bars(axes: Axes, values: figures.Numbers, series: int) -> None:
    """A bar for each layer, and a word where there is no value."""
    values = np.asarray(values, float)
    defined = np.isfinite(values)
    axes.barh(np.flatnonzero(defined), values[defined], 0.62, color=figures.series_colour(series), linewidth=0)
    _note_undefined(axes, ~defined)


def points(axes: Axes, values: figures.Numbers, series: int) -> None:
    """A point for each layer, joined by a line, which is broken where there is no value."""
    values = np.asarray(values, float)
    defined = np.isfinite(values)
    places = np.arange(len(values))
    colour, marker = figures.series_colour(series), _MARKERS[series % 2]
    if defined.any():  # a line without points counts for the layout as one in the figure's corner
        line = np.where(defined, values, np.nan)
        axes.plot(line, places, color=colour, linewidth=1, alpha=0.5, clip_on=False, zorder=2.5)
        axes.plot(values[defined], places[defined], marker, color=colour, markersize=5, clip_on=False, zorder=3)
    _note_undefined(axes, ~defined)


def crosses(axes: Axes, values: Sequence[float], name: str) -> None:
    """A small cross for each layer to compare points with, named in a legend below the figure."""
    style: dict[str, Any] = {"color": figures.MUTED, "marker": "x", "markersize": 4.5, "linestyle": ""}
    axes.plot(np.asarray(values, float), np.arange(len(values)), clip_on=False, zorder=2.7, **style)
    axes.figure.legend(
        handles=[Line2D([], [], label=name, **style)],
        loc="outside lower right",
        frameon=False,
        fontsize=8.5,
        handletextpad=0.2,
        labelcolor=figures.INK,
    )


def extents(axes: Axes, sides: dict[str, Sequence[float]]) -> None:
    """Pixels on a logarithmic axis, at whose end infinity is 'the whole image'; what is undefined is left out.

    Args:
        axes: of `layer_panels`.
        sides: float pixels of each layer, by what they are; the names stand in a legend below the figure.
    """
    values = {name: np.asarray(numbers, float) for name, numbers in sides.items()}
    finite = [numbers[np.isfinite(numbers) & (numbers > 0)] for numbers in values.values()]
    drawn = np.concatenate(finite) if finite else np.zeros(0)
    low, high = (float(drawn.min()), float(drawn.max())) if drawn.size else (1.0, 1.0)
    low, high = low / 1.25, max(high * 1.25, low * 4)
    whole = high * (high / low) ** 0.22
    unlimited = any(np.isposinf(numbers).any() for numbers in values.values())
    axes.set_xscale("log")
    axes.set_xlim(low, whole * (whole / low) ** 0.06 if unlimited else high)
    ticks = [tick for tick in figures.RoundSteps().tick_values(low, high) if not unlimited or tick < whole / 1.6]
    ticks = _thinned(ticks)
    labels = [figures.plain_number(tick) for tick in ticks]
    if unlimited:
        ticks, labels = [*ticks, whole], [*labels, "whole\nimage"]
        axes.axvline(whole, color=figures.MUTED, linewidth=1, linestyle=(0, (1, 2)))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(labels)
    handles = []
    for number, (name, numbers) in enumerate(values.items()):
        shown = np.where(np.isposinf(numbers), whole, np.where(numbers > 0, numbers, np.nan))
        style: dict[str, Any] = {
            "color": figures.series_colour(number),
            "marker": _MARKERS[number % 2],
            "markersize": 6.5 - 2 * (number % 2),
        }
        places = np.flatnonzero(~np.isnan(shown))
        if places.size:
            axes.plot(shown[places], places, linestyle="", clip_on=False, zorder=3, **style)
        handles.append(Line2D([], [], linestyle="", label=name, **style))
    axes.figure.legend(
        handles=handles,
        loc="outside lower right",
        ncols=len(handles),
        frameon=False,
        fontsize=8.5,
        handletextpad=0.2,
        labelcolor=figures.INK,
    )


def _thinned(ticks: list[float]) -> list[float]:
    return ticks if len(ticks) <= 6 else [tick for tick in ticks if math.log10(tick) % 1 == 0]


def _note_undefined(axes: Axes, undefined: np.ndarray) -> None:
    # At the left edge, whatever the axis' range turns out to be.
    for place in np.flatnonzero(undefined):
        axes.annotate(
            "undefined",
            (0, place),
            xycoords=axes.get_yaxis_transform(),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=figures.MUTED,
        )
