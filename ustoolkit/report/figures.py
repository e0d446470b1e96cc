"""Plots of a report as SVG inside its page, in the page's colours and font, in light and dark mode alike."""

import math
import re
from collections.abc import Sequence
from html import escape
from io import StringIO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from matplotlib.typing import ColorType

Numbers = Sequence[float] | np.ndarray
SERIES = 6  # how many colours of their own the page has for labels; the labels after them share the last
MOST_POINTS = 2000  # in a scatter plot: beyond it a page grows without showing more

# Matplotlib draws in colours that nothing else has; in the page each becomes one that follows its mode.
INK, MUTED, RULE, ACCENT, SECOND = "#010101", "#010102", "#010103", "#010104", "#010105"
_OF_SERIES = tuple(f"#0102{number:02x}" for number in range(1, SERIES + 1))
PAGE_COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    ACCENT: "var(--accent)",
    SECOND: "var(--second)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(_OF_SERIES, start=1)},
}
_MARKERS = ("o", "^", "s", "D", "v", "P")
WIDE, _NARROW = (5.2, 3.2), (3.7, 2.7)  # inches; two and three of them stand side by side
FEWEST_FOR_TREND = 40  # images; below it the medians of five groups would say little


def dice_histogram(dice: Sequence[float], groups: Sequence[int]) -> str:
    """How many images reach which Dice, one bar a step of 0.05, the median marked.

    Args:
        dice: float (n,), in [0, 1], without NaN.
        groups: int (n,), which label each image has, 0, 1, …; bars are divided by it.
    Returns:
        an `<svg>` element.
    """
    figure, axes = new_figure(WIDE, "Dice of an image", "images")
    parts = _by_group(np.asarray(dice, float), groups)
    edges = np.linspace(0, 1, 21)
    below = np.zeros(len(edges) - 1)
    for group, values in parts:
        # Rounding keeps a Dice of exactly 0.15, computed as 0.15000000000000002, on its own side of an edge.
        counts, _ = np.histogram(np.round(values, 9), np.round(edges, 9))
        axes.bar(edges[:-1], counts, 0.044, bottom=below, align="edge", color=series_colour(group), linewidth=0)
        below += counts
    median = float(np.median(dice))
    axes.axvline(median, color=INK, linewidth=1, linestyle=(0, (3, 2)))
    axes.set(xlim=(-0.01, 1.01), ylim=(0, max(1.0, below.max()) * 1.16))
    side, offset = ("right", -4) if median > 0.5 else ("left", 4)
    axes.annotate(
        f"median {median:.2f}",
        (median, 1),
        xycoords=("data", "axes fraction"),
        xytext=(offset, -9),
        textcoords="offset points",
        ha=side,
        color=INK,
    )
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return to_svg(figure, "dice-histogram", "Histogram of the Dice of each image")


def dice_by_size(size: Numbers, dice: Numbers, groups: Numbers, size_name: str) -> str:
    """Dice of each image against the size of its lesion, with the median of five size classes as a line.

    Args:
        size: float (n,), above 0, in the unit that `size_name` names; drawn on a logarithmic axis.
        dice: float (n,), in [0, 1], without NaN.
        groups: int (n,), which label each image has, 0, 1, …
        size_name: the text at the axis.
    Returns:
        an `<svg>` element.
    """
    figure, axes = new_figure(WIDE, size_name, "Dice of an image")
    size, dice, groups = np.asarray(size, float), np.asarray(dice, float), np.asarray(groups, int)
    shown = np.random.default_rng(0).permutation(len(size))[:MOST_POINTS]
    for group, members in _by_group(shown, groups[shown]):
        marker = _MARKERS[min(group, SERIES - 1)]
        axes.plot(
            size[members],
            dice[members],
            marker,
            color=series_colour(group),
            markersize=4,
            markeredgewidth=0,
            alpha=0.7,
            clip_on=False,
        )
    if len(size) >= FEWEST_FOR_TREND:
        classes = np.array_split(np.argsort(size, kind="stable"), 5)
        across, up = zip(*((np.median(size[members]), np.median(dice[members])) for members in classes), strict=True)
        axes.plot(across, up, color=INK, linewidth=1.6, marker="o", markersize=4)
    axes.set_xscale("log")
    low, high = float(size.min()), float(size.max())
    axes.set(ylim=(0, 1.02), xlim=(low / 1.15, high * 1.15))
    axes.xaxis.set_major_locator(RoundSteps())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(plain_number))
    return to_svg(figure, "dice-by-size", f"Scatter plot of the Dice of each image against its {size_name}")


def loss_curves(history: Sequence[dict[str, float]]) -> str:
    """Training (second colour) and validation (accent) loss over the epochs, as an `<svg>` element."""
    figure, axes = _curves(history, {"loss": SECOND, "validation_loss": ACCENT}, "loss")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    return to_svg(figure, "loss", "Curves of the training and validation loss over the epochs")


def validation_curve(history: Sequence[dict[str, float]]) -> str:
    """Validation Dice over the epochs, the best one marked, as an `<svg>` element."""
    figure, axes = _curves(history, {"validation_dice": ACCENT}, "validation Dice")
    axes.set_ylim(0, 1.02)
    finite = [row for row in history if math.isfinite(row.get("validation_dice", math.nan))]
    if finite:
        best = max(finite, key=lambda row: row["validation_dice"])
        epoch, dice = best["epoch"], best["validation_dice"]
        axes.plot([epoch], [dice], "o", color=INK, markersize=5, clip_on=False)
        # In the corner that the curve of a training that works leaves free.
        axes.annotate(
            f"best: {dice:.3f} in epoch {epoch:.0f}",
            (1, 0),
            xycoords="axes fraction",
            xytext=(-4, 6),
            textcoords="offset points",
            ha="right",
            color=INK,
        )
    return to_svg(figure, "validation-dice", "Curve of the validation Dice over the epochs")


def rate_curve(history: Sequence[dict[str, float]], logarithmic: bool) -> str:
    """Learning rate over the epochs, as an `<svg>` element."""
    figure, axes = _curves(history, {"learning_rate": ACCENT}, "learning rate")
    if logarithmic and all(row["learning_rate"] > 0 for row in history):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(RoundSteps())
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
    return to_svg(figure, "learning-rate", "Curve of the learning rate over the epochs")


class RoundSteps(MaxNLocator):
    """Ticks at 1, 2 and 5 of each decade, or at its 1 alone where that would be too many."""

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        vmin, vmax = sorted((vmin, vmax))
        if vmin <= 0:
            return []
        decades = range(math.floor(math.log10(vmin)), math.ceil(math.log10(vmax)) + 1)
        steps = (1, 2, 5) if len(decades) <= 4 else (1,)
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        return [tick for tick in ticks if vmin <= tick <= vmax]

    def __call__(self) -> list[float]:
        if self.axis is None:
            raise ValueError("a locator without an axis has no ticks")
        return self.tick_values(*self.axis.get_view_interval())


def new_figure(
    inches: tuple[float, float],
    across: str,
    up: str,
    w_pad: float | None = None,
    h_pad: float | None = None,
    wspace: float | None = None,
) -> tuple[Figure, Axes]:
    """A figure with one pair of axes in the page's style.

    Args:
        inches: of the whole figure, width and height.
        across, up: what the axes show.
        w_pad, h_pad, wspace: of Matplotlib's `ConstrainedLayoutEngine`; None for its own.
    """
    layout = ConstrainedLayoutEngine(w_pad=w_pad, h_pad=h_pad, wspace=wspace)
    figure = Figure(figsize=inches, layout=layout, facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=8.5, length=3)
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(across, color=MUTED, fontsize=9)
    axes.set_ylabel(up, color=MUTED, fontsize=9)
    return figure, axes


def _curves(history: Sequence[dict[str, float]], colours: dict[str, ColorType], name: str) -> tuple[Figure, Axes]:
    figure, axes = new_figure(_NARROW, "epoch", name)
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(history) < 12 else ""
    for column, colour in colours.items():
        values = [row.get(column, math.nan) for row in history]
        axes.plot(epochs, values, color=colour, linewidth=1.6, marker=marker, markersize=3.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure, axes


def _by_group(values: np.ndarray, groups: Numbers) -> list[tuple[int, np.ndarray]]:
    groups = np.asarray(groups, int)
    return [(int(group), values[groups == group]) for group in np.unique(groups)]


def series_colour(group: int) -> str:
    """The page's colour of a group, by its number from 0."""
    return _OF_SERIES[min(group, SERIES - 1)]


def plain_number(value: float, position: int | None = None) -> str:
    """A number without Matplotlib's mathematical type setting, which does not survive in the page's font."""
    if value == 0 or 1e-2 <= abs(value) < 1e5:
        return f"{value:.6g}"
    digits, exponent = f"{value:.2e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    digits = f"{float(digits):g}"
    return f"10{power}" if digits == "1" else f"{digits} × 10{power}"


def to_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an element of a page: ids unique there, colours of the page, no size but its shape."""
    stream = StringIO()
    unwritten = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    # These two settings have no argument; they are put back at once.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(stream, metadata=unwritten)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family:[^;\"]*; ?", "", text)
    text = re.sub(r"\s(xmlns(:\w+)?|version)=\"[^\"]*\"", "", text).replace("xlink:href", "href")
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in PAGE_COLOURS.items():
        text = text.replace(colour, variable)
    width, height = (f"{inches * 72:g}" for inches in figure.get_size_inches())
    opening = f'<svg class="plot" role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {height}">'
    return re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1).strip()
