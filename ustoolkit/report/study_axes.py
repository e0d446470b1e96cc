"""What the figures of a study share: how a series looks, panels side by side, names at an axis, the legend below."""

import math
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import LineStyleType

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.report import figures
from ustoolkit.report.axis_names import TEXT, text_inches, wrapped

WIDTH = 7.2  # inches; at 900 pixels the smallest text is some 13 pixels high
_MARKERS = ("o", "^", "s", "D", "v", "P")
_DASHES: tuple[LineStyleType, ...] = ("solid", (0, (4, 2)), (0, (1, 1.3)), (0, (6, 1.5, 1, 1.5)))
_HANDLE = 0.55  # inches: what stands before a name of the legend, and the gap behind it
_LONGEST_ENTRY = 62  # characters of a legend's line


@dataclass(frozen=True)
class Style:
    """How a series looks, told apart by colour and by form, since a print or an eye may lack the colours.

    Attributes:
        colour: of `figures.series_colour`.
        marker, dash: as Matplotlib names them.
    """

    colour: str
    marker: str
    dash: LineStyleType


def style(colour: int, dash: int = 0) -> Style:
    """The look of series number `colour` (from 0, six differ) with dash number `dash` (from 0, four differ)."""
    number = colour % figures.SERIES
    return Style(figures.series_colour(number), _MARKERS[number], _DASHES[dash % len(_DASHES)])


def line_handle(look: Style, marked: bool = True, dashed: bool = True) -> Line2D:
    """What stands for a series in the legend: its line, its marker, or both."""
    return Line2D(
        [],
        [],
        color=look.colour,
        linewidth=1.6,
        linestyle=look.dash if dashed else "",
        marker=look.marker if marked else "",
        markersize=5,
    )


def panel_grid(
    titles: Sequence[str], inches: tuple[float, float], across: str, up: str, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """Axes side by side in the page's style, each with its title; `up` stands at the first of each line.

    Args:
        titles: one for each panel; a single empty one draws none.
        inches: of the whole figure.
        across, up: what the axes show.
        columns: panels in a line.
    Returns:
        the figure, and its axes line by line.
    """
    # The name of an upright axis has no more room than the plot, some 2.3 inches high.
    across, up = wrapped(across, 84 // columns), wrapped(up, 30)
    figure, first = figures.new_figure(inches, across, up, w_pad=0.06, h_pad=0.06, wspace=0.03)
    cells = figure.add_gridspec(math.ceil(len(titles) / columns), columns)
    first.set_subplotspec(cells[0, 0])
    panels = [first]
    for number in range(1, len(titles)):
        axes = figure.add_subplot(cells[divmod(number, columns)], facecolor="none")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(figures.MUTED)
        axes.tick_params(colors=figures.MUTED, labelsize=TEXT, length=3)
        axes.grid(axis="y", color=figures.RULE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_xlabel(across, color=figures.MUTED, fontsize=9)
        axes.set_ylabel("" if number % columns else up, color=figures.MUTED, fontsize=9)
        panels.append(axes)
    for axes, title in zip(panels, titles, strict=True):
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_parse_math(False)
        axes.set_title(
            wrapped(title, 96 // columns), loc="left", fontsize=9, color=figures.INK, pad=7, parse_math=False
        )
    return figure, panels


def legend_columns(labels: Sequence[str], inches: float, preferred: int = 0) -> int:
    """In how many columns a legend fits into a width; `preferred` where that many fit, 0 for no preference."""
    widest = max(text_inches(line) for label in labels for line in _entry(label).split("\n"))
    most = max(1, math.floor(inches / (widest + _HANDLE)))
    if 0 < preferred <= most:
        return preferred
    lines = math.ceil(len(labels) / most)
    return math.ceil(len(labels) / lines)


def legend_inches(labels: Sequence[str], columns: int) -> float:
    """The height that a legend of so many columns needs; 0 for one without names."""
    if not labels:
        return 0.0
    lines = math.ceil(len(labels) / columns)
    # Matplotlib fills one column after the other; the tallest name makes its line as tall.
    tallest = [max(_entry(label).count("\n") + 1 for label in labels[line::lines]) for line in range(lines)]
    return 0.1 + 0.185 * sum(tallest)


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], columns: int) -> None:
    """A legend below all panels, where it covers nothing."""
    # A name that begins with an underscore would be left out, so it is written afterwards.
    legend = figure.legend(
        handles,
        [" "] * len(labels),
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=TEXT,
        labelspacing=0.35,
        columnspacing=1.6,
        handlelength=2.4,
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set(text=_entry(label), parse_math=False, color=figures.INK)


def error_bars(axes: Axes, across: figures.Numbers, low: np.ndarray, high: np.ndarray, colour: str) -> None:
    """Upright bars from low to high, where both are finite, with short ends."""
    shown = np.isfinite(low) & np.isfinite(high)
    if not shown.any():
        return
    middle = (low[shown] + high[shown]) / 2
    axes.errorbar(
        np.asarray(across, float)[shown],
        middle,
        yerr=(middle - low[shown], high[shown] - middle),
        fmt="none",
        color=colour,
        elinewidth=1.1,
        capsize=2.6,
        capthick=1.1,
        zorder=2.8,
    )


def plain_ticks(axes: Axes, which: Literal["x", "y"], most: int = 6) -> None:
    """At most so many steps between ticks, each of 1, 2 or 5, without an offset or a power beside the axis."""
    (axes.xaxis if which == "x" else axes.yaxis).set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))
    axes.ticklabel_format(axis=which, style="plain", useOffset=False)


def padded(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """Limits that leave some room around the finite values; around one value alone too, and (0, 1) for none."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    # Numbers that differ by rounding only would have ticks of fifteen digits.
    alike = high - low <= 1e-9 * max(abs(low), abs(high))
    room = 0.05 * max(abs(high), 1e-3) if alike else share * (high - low)
    return low - room, high + room


def require_some(what: str, things: Sized) -> None:
    """Refuses a figure of nothing.

    Raises:
        DataError: there is none of `things`.
    """
    if not things:
        raise DataError(f"there is no {what} to draw; expected one or more. Give the figure its values.")


def same_length(where: str, expected: int, **columns: Sized) -> None:
    """Refuses columns of unequal length.

    Raises:
        ShapeError: one of the columns does not have `expected` values.
    """
    for name, values in columns.items():
        if len(values) != expected:
            raise ShapeError(f"{where}: expected {expected} of '{name}', found {len(values)}. Give one for each point.")


def _entry(label: str) -> str:
    return wrapped(label, _LONGEST_ENTRY)
