"""Plots of an audit: how intensities and lesion sizes are spread over labels and devices."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import FuncFormatter, NullLocator

from ustoolkit.report import figures


def spread_plot(histogram: Mapping[str, object], counts: Mapping[str, Sequence[int]], name: str) -> str:
    """Share of each group's images in each bin, a line a group.

    Args:
        histogram: `edges` of the bins, `name` of the quantity with its unit, and whether it is `logarithmic`.
        counts: images in each bin, by group; those after the first `figures.SERIES` are not drawn.
        name: of the plot, unique in its page.
    Returns:
        an `<svg>` element.
    """
    figure, axes = figures.new_figure(figures.WIDE, str(histogram["name"]), "share of the images, %")
    edges = np.asarray(histogram["edges"], float)
    for number, values in enumerate(list(counts.values())[: figures.SERIES]):
        share = 100 * np.asarray(values) / max(1, sum(values))
        axes.stairs(share, edges, color=figures.series_colour(number), linewidth=1.6)
    axes.set_ylim(bottom=0)
    if histogram["logarithmic"]:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(figures.RoundSteps())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(figures.plain_number))
    return figures.to_svg(figure, name, f"Histogram of the {histogram['name']}, a line for each of {', '.join(counts)}")
