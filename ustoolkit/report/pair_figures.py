"""Two runs image by image, as plots of a page: one's Dice over the other's, and their differences in order."""

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ustoolkit.report import figures

_SQUARE = (4.4, 4.3)  # inches
_LINEAR = 0.05  # of a difference in Dice, up to which its axis is linear
_TICKS = (-1, -0.5, -0.2, -0.1, -0.05, 0, 0.05, 0.1, 0.2, 0.5, 1)
_MARKERS = ("o", "^", "s", "D", "v", "P")


def dice_scatter(
    first: figures.Numbers, other: figures.Numbers, groups: figures.Numbers, names: tuple[str, str]
) -> str:
    """Dice of one run over that of another, a mark an image; above the diagonal the other is higher.

    Args:
        first, other: float (n,), in [0, 1], without NaN.
        groups: int (n,), which label each image has, 0, 1, …
        names: of the runs.
    Returns:
        an `<svg>` element.
    """
    figure, axes = figures.new_figure(_SQUARE, "", "")
    axes.set_xlabel(f"Dice, {names[0]}", color=figures.MUTED, fontsize=9, parse_math=False)
    axes.set_ylabel(f"Dice, {names[1]}", color=figures.MUTED, fontsize=9, parse_math=False)
    axes.grid(axis="x", color=figures.RULE, linewidth=0.7)
    axes.plot([0, 1], [0, 1], color=figures.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    first, other, groups = np.asarray(first, float), np.asarray(other, float), np.asarray(groups, int)
    shown = np.random.default_rng(0).permutation(len(first))[: figures.MOST_POINTS]
    for group in np.unique(groups):
        members = shown[groups[shown] == group]
        marker = _MARKERS[min(group, len(_MARKERS) - 1)]
        axes.plot(
            first[members],
            other[members],
            marker,
            color=figures.series_colour(group),
            markersize=4.5,
            markeredgewidth=0,
            alpha=0.65,
            clip_on=False,
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
    return figures.to_svg(figure, "dice-pairs", f"Scatter plot of the Dice of {names[1]} against that of {names[0]}")


def sorted_differences(difference: figures.Numbers, name: str) -> str:
    """The differences of all images in order; beyond ±0.05 on a logarithmic axis, so that small ones are seen too.

    Args:
        difference: float (n,), in [−1, 1], without NaN.
        name: what the difference is.
    Returns:
        an `<svg>` element.
    """
    figure, axes = figures.new_figure(_SQUARE, "images, in order of the difference", "")
    axes.set_ylabel(name, color=figures.MUTED, fontsize=9, parse_math=False)
    difference = np.sort(np.asarray(difference, float))
    edges = np.arange(len(difference) + 1)
    for chosen, colour in ((difference < 0, figures.SECOND), (difference > 0, figures.ACCENT)):
        axes.stairs(np.where(chosen, difference, 0.0), edges, fill=True, color=colour, linewidth=0)
    axes.axhline(0, color=figures.MUTED, linewidth=1)
    mean = float(difference.mean())
    axes.axhline(mean, color=figures.INK, linewidth=1, linestyle=(0, (3, 2)))
    axes.annotate(
        f"mean {mean:+.3f}".replace("-", "−"),
        (0, 1),  # the corner that rising values leave free
        xycoords="axes fraction",
        xytext=(5, -12),
        textcoords="offset points",
        color=figures.INK,
    )
    reach = min(1.0, max(0.1, 1.1 * float(np.abs(difference).max())))
    axes.set_yscale("symlog", linthresh=_LINEAR, linscale=1)
    axes.set(xlim=(0, len(difference)), ylim=(-reach, reach))
    ticks = [tick for tick in _TICKS if abs(tick) <= reach]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0"))
    return figures.to_svg(figure, "dice-differences", f"The images in order of the {name}")
