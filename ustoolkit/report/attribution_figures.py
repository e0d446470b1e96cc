"""Why a network decided as it did, as pictures: maps laid over the image, and the check that they depend on it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, Normalize
from matplotlib.figure import Figure

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.inference.overlay import PREDICTION_COLOUR, in_colour
from ustoolkit.report import figures
from ustoolkit.report.figure_files import write_figure

if TYPE_CHECKING:  # it brings TensorFlow, and the pictures need none
    from ustoolkit.explain.sanity import SanityRow

# Where single pixels are far above the rest of a map, its colours end at a percentile of its size.
CLIPPED, _FAR_ABOVE = 99.5, 2.0
_MOST_COLUMNS = 4
_SIDE, _GAP, _TITLE, _BAR, _LINE = 2.7, 0.14, 0.28, 0.4, 0.19  # inches
_STRONGEST = 0.85  # opacity of the strongest value; some of the image remains to be seen
_TISSUE = 72  # grey on which a colour bar shows its colours, since they are seen on tissue
_SIGNED = LinearSegmentedColormap.from_list("against_for", ["#56beff", "#3d6f96", "#777777", "#a8692f", "#ff8c3c"])


def attribution_panel(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    path: Path | str,
    mask: np.ndarray | None = None,
    caption: str = "",
) -> Path:
    """Writes an image beside maps of what speaks for a decision, each laid over the image in colours.

    A map without negative values is drawn from transparent to yellow; one with both signs is blue where the image
    speaks against the decision and orange where it speaks for it, 0 transparent in the middle. Each map has a scale of
    its own, up to its largest value; where that is more than twice the 99.5th percentile, the scale ends there and
    says so by '≥'. What is not finite is left transparent.

    Args:
        image: uint8 (height, width, 1 or 3).
        maps: float32 (height, width) each, by the title above it.
        path: ends in .png, .svg or .pdf.
        mask: bool or uint8 (height, width), a region that is outlined in every picture, green as a prediction; None
            for none.
        caption: below the pictures.
    Returns:
        the file.
    Raises:
        DataError: there is no map, or the image is not as above.
        ShapeError: a map or the mask is not of the image's height and width.
        OutputError: another ending, or the folder cannot be written to.
    """
    _check(image, maps, mask)
    canvas = in_colour(image)
    height, width = canvas.shape[:2]
    scale = _SIDE / max(height, width)
    columns = min(_MOST_COLUMNS, 1 + len(maps))
    rows = -(-(1 + len(maps)) // columns)
    cell = max(1.5, width * scale) + _GAP, _TITLE + height * scale + _BAR
    lines = textwrap.wrap(caption, max(20, int(15.5 * columns * cell[0])))
    inches = _GAP + columns * cell[0], _GAP / 2 + rows * cell[1] + _LINE * len(lines) + (_GAP if lines else 0)
    figure = Figure(figsize=inches)
    for number, (title, values) in enumerate([("image", None), *maps.items()]):
        left = _GAP + number % columns * cell[0]
        top = inches[1] - _GAP / 2 - number // columns * cell[1] - _TITLE
        box = left, top - height * scale, width * scale, height * scale
        axes = _axes(figure, box)
        axes.set_axis_off()
        axes.set_title(title, loc="left", fontsize=9, color=figures.INK, parse_math=False, pad=4)
        if values is None:
            axes.imshow(canvas)
        else:
            bar = _axes(figure, (left, box[1] - 0.17, width * scale, 0.09))
            _draw_map(axes, bar, canvas, np.asarray(values, np.float32))
        if mask is not None:
            _outline(axes, np.asarray(mask) > 0)
    for number, line in enumerate(reversed(lines)):
        place = _GAP / inches[0], (_GAP / 2 + _LINE * number) / inches[1]
        figure.text(*place, line, fontsize=8.5, color=figures.MUTED, va="bottom", parse_math=False)
    write_figure(path, figure)
    return Path(path)


def sanity_figure(rows: Sequence[SanityRow], path: Path | str) -> Path:
    """Writes how alike maps stay while more and more layers are made random, from the output on.

    A map that depends on what the network has learned falls towards 0; the dashed line is the rank correlation below
    which it has to be once all layers are random.

    Args:
        rows: of a `SanityResult`.
        path: ends in .png, .svg or .pdf.
    Returns:
        the file.
    Raises:
        DataError: there is no row.
        OutputError: another ending, or the folder cannot be written to.
    """
    from ustoolkit.explain.sanity import MOST_CORRELATED  # with TensorFlow, which the panel does without

    if not rows:
        raise DataError("there is no stage of a sanity check to draw; expected one or more. Run the check first.")
    inches = max(figures.WIDE[0], 1.4 + 0.5 * len(rows)), 3.9
    figure, axes = figures.new_figure(
        inches, "layers made random, from the output on", "likeness to the trained network's maps"
    )
    places = np.arange(1 + len(rows))
    series = {
        "rank correlation": [1.0, *(row.correlation for row in rows)],
        "structural similarity": [1.0, *(row.similarity for row in rows)],
    }
    axes.axhline(0, color=figures.RULE, linewidth=1)
    for number, (name, values) in enumerate(series.items()):
        style: dict[str, Any] = {"marker": "o^"[number], "markersize": 5, "linewidth": 1.6, "clip_on": False}
        axes.plot(places, np.asarray(values, float), color=figures.series_colour(number), label=name, **style)
    limit = "limit of the rank correlation at the end"
    axes.axhline(MOST_CORRELATED, color=figures.MUTED, linewidth=1, linestyle=(0, (4, 3)), label=limit)
    defined = [value for values in series.values() for value in values if np.isfinite(value)]
    axes.set(ylim=(min(-0.05, *defined), 1.02), xlim=(-0.3, len(rows) + 0.3))
    labels = ["none", *(f"{row.layers}: {row.layer}" for row in rows)]
    axes.set_xticks(places, labels, rotation=40, ha="right", rotation_mode="anchor", parse_math=False, fontsize=8)
    axes.figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8.5, labelcolor=figures.INK)
    write_figure(path, figure)
    return Path(path)


def _check(image: np.ndarray, maps: Mapping[str, np.ndarray], mask: np.ndarray | None) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        raise DataError(
            f"an image of {image.dtype} and shape {image.shape}; expected uint8 (height, width, 1 or 3). "
            "Convert it to 8 bits."
        )
    if not maps:
        raise DataError("there is no map to lay over the image; expected one or more. Give maps by their names.")
    for name, values in {**maps, **({} if mask is None else {"mask": mask})}.items():
        if np.shape(values) != image.shape[:2]:
            raise ShapeError(
                f"{name}: shape {np.shape(values)}, the image {image.shape}; expected the same height and width. "
                "Resize it to the image, and sum over channels."
            )


def _axes(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Axes at a place in inches: left, bottom, width, height."""
    across, up = figure.get_size_inches()
    return figure.add_axes((box[0] / across, box[1] / up, box[2] / across, box[3] / up))


def _scale(values: np.ndarray) -> tuple[Colormap, tuple[float, float], bool]:
    """Colours, opaque to transparent, the values at their ends, and whether some values lie beyond."""
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max(initial=0))
    percentile = float(np.percentile(np.abs(finite), CLIPPED)) if finite.size else 0.0
    clipped = 0 < _FAR_ABOVE * percentile < largest
    end = percentile if clipped else largest or 1.0
    steps = np.linspace(0, 1, 256)
    if (finite < 0).any():
        colours, opacity, ends = _SIGNED(steps), np.abs(2 * steps - 1), (-end, end)
    else:
        # Inferno's beginning is black, which would darken tissue before it colours it.
        colours, opacity, ends = matplotlib.colormaps["inferno"](0.3 + 0.68 * steps), steps, (0.0, end)
    colours[:, 3] = _STRONGEST * opacity**0.8
    return ListedColormap(colours), ends, clipped


def _laid_over(canvas: np.ndarray, values: np.ndarray, colours: Colormap, ends: tuple[float, float]) -> np.ndarray:
    shown = colours(Normalize(*ends, clip=True)(np.clip(np.where(np.isnan(values), 0, values), *ends)))
    shown[~np.isfinite(values)] = 0
    opacity = shown[..., 3:]
    return np.rint(255 * shown[..., :3] * opacity + canvas * (1 - opacity)).astype(np.uint8)


def _draw_map(axes: Axes, below: Axes, canvas: np.ndarray, values: np.ndarray) -> None:
    """The image with a map over it, and its colour bar in axes of its own."""
    colours, ends, clipped = _scale(values)
    axes.imshow(_laid_over(canvas, values, colours, ends))
    seen = _laid_over(np.full((1, 256, 3), _TISSUE, np.uint8), np.linspace(*ends, 256)[np.newaxis], colours, ends)
    mappable = ScalarMappable(Normalize(*ends), ListedColormap(seen[0] / 255))
    bar = axes.figure.colorbar(mappable, below, orientation="horizontal")
    end = figures.plain_number(float(f"{ends[1]:.2g}"))
    last = f"≥ {end}" if clipped else end
    if not np.any(values):
        bar.set_ticks([0], labels=["0 everywhere"])
    elif ends[0]:
        bar.set_ticks([ends[0], 0, ends[1]], labels=[f"≤ −{end}" if clipped else f"−{end}", "0", last])
    else:
        bar.set_ticks([0, ends[1]], labels=["0", last])
    bar.outline.set_visible(False)
    below.tick_params(colors=figures.MUTED, labelsize=8, length=2)
    labels = below.get_xticklabels()  # those at the ends stay within the picture's width
    labels[-1].set_horizontalalignment("right")
    labels[0].set_horizontalalignment("left")


def _outline(axes: Axes, region: np.ndarray) -> None:
    """The region's edge, also along the border of the image, green on black to be seen on any colour."""
    region = np.pad(region, 1).astype(float)
    down, across = (np.arange(-1, side - 1) for side in region.shape)
    for colour, width in (("black", 2.4), (tuple(channel / 255 for channel in PREDICTION_COLOUR), 1.2)):
        if region.any():
            axes.contour(across, down, region, [0.5], colors=[colour], linewidths=width)
    axes.set(xlim=(-0.5, region.shape[1] - 2.5), ylim=(region.shape[0] - 2.5, -0.5))
