"""What each layer of a network has learned, as pictures: filters of a layer, of all layers, and of two networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ustoolkit.errors import DataError
from ustoolkit.report.figure_files import write_figure
from ustoolkit.report.layer_panels import bars, crosses, extents, layer_panels, points
from ustoolkit.report.picture_sheet import (
    below_each_other,
    beside,
    cell_of,
    font,
    grid,
    in_rgb,
    near_square,
    tile,
    with_header,
    write_sheet,
)

if TYPE_CHECKING:  # they bring TensorFlow, and the pictures need none
    from matplotlib.figure import Figure

    from ustoolkit.explain.maximization import Maximization
    from ustoolkit.explain.receptive_field import ReceptiveField
    from ustoolkit.explain.similarity import LayerChange
    from ustoolkit.explain.statistics import LayerStatistics

MOST_FILTERS = 256  # in one grid
_PAIRS_APART = 18  # pixels


def filter_grid(
    maximization: Maximization, statistics: LayerStatistics | None, path: Path | str, title: str | None = None
) -> Path:
    """Writes what excites each filter of a layer as one PNG, about as wide as high.

    Each picture bears its filter's number. Small ones are enlarged by a whole factor, each pixel a square.
    Dead filters are faded and crossed out.

    Args:
        maximization: of the layer; its first `MOST_FILTERS` are shown, and the header says how many are left out.
        statistics: of the layer, for its receptive field and dead filters; None where they are not known.
        path: ends in .png.
        title: the first line; None for the layer's name.
    Returns:
        the file.
    Raises:
        DataError: there is no filter, or the pictures have neither 1 nor 3 channels.
        OutputError: another ending, or the folder cannot be written to.
    """
    pictures = _pictures(maximization)
    filters = maximization.filters.tolist()
    height, width = pictures.shape[1:3]
    shown, dead = filters[:MOST_FILTERS], set(statistics.dead if statistics else ())
    columns = near_square(len(shown), height, width)
    cell = cell_of(height, width, columns)
    tiles = [tile(picture, cell, number in dead) for number, picture in zip(shown, pictures, strict=False)]
    facts = [_counted(statistics.filters if statistics else len(filters), "filter"), f"pictures {height} × {width}"]
    if statistics:
        facts += [f"receptive field {_extent(statistics.receptive_field)}"]
        facts += [f"{len(dead)} dead, crossed out"] if dead else []
    lines = [title or maximization.layer, " · ".join(facts)]
    left_out = (statistics.filters if statistics else len(filters)) - len(shown)
    if left_out > 0:
        lines.append(f"{_counted(left_out, 'more filter')} not shown")
    return write_sheet(path, with_header(lines, grid(tiles, [str(number) for number in shown], columns)))


def poster(
    maximizations: Sequence[Maximization], statistics: Mapping[str, LayerStatistics], path: Path | str, columns: int = 8
) -> Path:
    """Writes a network's layers below each other, a row of filters each, as one PNG.

    The filters shown are those that the search drove highest, the highest first; dead ones come last and are crossed
    out.

    Args:
        maximizations: of the layers, from the first to the deepest.
        statistics: by the layers' names; what is missing is left out of the text.
        path: ends in .png.
        columns: filters a row, at most.
    Returns:
        the file.
    Raises:
        DataError: there is no layer, a layer has no filter, or there is not one column.
        OutputError: another ending, or the folder cannot be written to.
    """
    if not maximizations or columns < 1:
        raise DataError(
            f"a poster of {len(maximizations)} layers and {columns} columns; expected 1 or more of both. "
            "Choose some layers."
        )
    rows = []
    for number, maximization in enumerate(maximizations, start=1):
        of_layer = statistics.get(maximization.layer)
        pictures, filters = _pictures(maximization), maximization.filters
        dead = np.isin(filters, of_layer.dead if of_layer else ())
        activations = np.nan_to_num(maximization.activations, nan=-np.inf)
        chosen = np.lexsort((-activations, dead))[:columns]
        cell = cell_of(pictures.shape[1], pictures.shape[2], max(columns, 8))
        tiles = [tile(pictures[index], cell, bool(dead[index])) for index in chosen]
        lines = [maximization.layer, *_layer_facts(number, len(maximizations), pictures.shape[1:3], of_layer)]
        rows.append((lines, grid(tiles, [str(filters[index]) for index in chosen], len(tiles))))
    across = 24 + max(
        int(font(13, bold=not place).getlength(line)) for lines, _ in rows for place, line in enumerate(lines)
    )
    sheet = below_each_other([beside(lines, across, body) for lines, body in rows])
    header = ["What excites each layer's filters", "from the first layer to the deepest; the strongest filters of each"]
    return write_sheet(path, with_header(header, sheet))


def pair_figure(
    left: Maximization,
    right: Maximization,
    path: Path | str,
    titles: tuple[str, str] = ("before", "after"),
    filters: Sequence[int] | None = None,
) -> Path:
    """Writes the same filters of one layer of two networks side by side, such as before and after fine-tuning.

    Args:
        left: of the one network.
        right: of the other network.
        path: ends in .png.
        titles: what the left and the right picture of a pair are.
        filters: numbers of the filters; None for the first `MOST_FILTERS` that both have.
    Returns:
        the file.
    Raises:
        DataError: a filter is missing on a side, there is none, or the layers differ.
        OutputError: another ending, or the folder cannot be written to.
    """
    if left.layer != right.layer:
        raise DataError(
            f"a pair of the layers '{left.layer}' and '{right.layer}'; expected one layer of two networks. "
            "Choose the same layer on both sides."
        )
    sides = [dict(zip(side.filters.tolist(), _pictures(side), strict=True)) for side in (left, right)]
    both = [number for number in sides[0] if number in sides[1]]
    chosen = both[:MOST_FILTERS] if filters is None else [int(number) for number in filters]
    missing = sorted(set(chosen) - set(both))
    if missing or not chosen:
        raise DataError(
            f"layer '{left.layer}': expected filters that both sides have, found "
            f"{f'{missing} in one side at most' if missing else 'none'}. Choose from {both}."
        )
    shapes = [side[chosen[0]].shape for side in sides]
    columns = near_square(len(chosen), shapes[0][0], shapes[0][1], beside=2)
    cell = cell_of(max(shape[0] for shape in shapes), max(shape[1] for shape in shapes), 2 * columns)
    between = np.full((cell[0], 2, 3), 255, np.uint8)
    tiles = [
        np.concatenate([tile(sides[0][number], cell), between, tile(sides[1][number], cell)], axis=1)
        for number in chosen
    ]
    body = grid(tiles, [str(number) for number in chosen], columns, _PAIRS_APART)
    facts = [_counted(len(chosen), "filter"), f"left of each pair: {titles[0]}", f"right: {titles[1]}"]
    return write_sheet(path, with_header([left.layer, " · ".join(facts)], body))


def statistics_figure(statistics: Sequence[LayerStatistics], path: Path | str) -> Path:
    """Writes how many filters of each layer are dead, how sparse its outputs are, and how much of an image it sees.

    Args:
        statistics: of the layers, from the first to the deepest. Of a receptive field the longer side is drawn.
        path: ends in .png, .svg or .pdf.
    Returns:
        the file.
    Raises:
        DataError: there is no layer.
        OutputError: another ending, or the folder cannot be written to.
    """
    names = ["dead filters, %", "outputs of 0 (sparsity), %", "receptive field, pixels"]
    figure, panels = layer_panels([layer.layer for layer in statistics], names)
    dead = [100 * len(layer.dead) / layer.filters if layer.filters else math.nan for layer in statistics]
    bars(panels[0], dead, 1)
    bars(panels[1], [100 * layer.sparsity for layer in statistics], 0)
    panels[0].set_xlim(0, min(100, max(10, *(1.1 * share for share in dead if share >= 0))))
    panels[1].set_xlim(0, 100)
    theoretical = [max(layer.receptive_field.height, layer.receptive_field.width) for layer in statistics]
    effective = [layer.effective_receptive_field for layer in statistics]
    extents(panels[2], {"theoretical": theoretical, "effective": effective})
    write_figure(path, figure)
    return Path(path)


def change_figure(
    changes: Sequence[LayerChange],
    path: Path | str,
    before_name: str,
    after_name: str,
    untrained: Sequence[float] | None = None,
) -> Path:
    """Writes `change_plot`.

    Args:
        changes, before_name, after_name, untrained: as for `change_plot`.
        path: ends in .png, .svg or .pdf.
    Returns:
        the file.
    Raises:
        DataError: there is no layer.
        OutputError: another ending, or the folder cannot be written to.
    """
    write_figure(path, change_plot(changes, before_name, after_name, untrained))
    return Path(path)


def change_plot(
    changes: Sequence[LayerChange], before_name: str, after_name: str, untrained: Sequence[float] | None = None
) -> Figure:
    """How far each layer's weights moved from one network to another, and how alike its outputs stayed.

    Args:
        changes: of the layers, from the first to the deepest.
        before_name: of the one network.
        after_name: of the other.
        untrained: CKA of the first network and one with random weights, for each layer, to compare with; None where
            there is none.
    Raises:
        DataError: there is no layer.
    """
    names = ["relative change of the weights", "alignment of the outputs (CKA)"]
    figure, panels = layer_panels([change.layer for change in changes], names)
    distances = [change.weight_distance for change in changes]
    alignments = [change.cka for change in changes]
    points(panels[0], distances, 1)
    points(panels[1], alignments, 0)
    if untrained is not None:
        crosses(panels[1], untrained, f"{before_name} and random weights")
    panels[0].set_xlim(0, 1.06 * max([value for value in distances if math.isfinite(value)], default=0) or 1)
    # The debiased estimate may be a little below 0.
    panels[1].set_xlim(min([0.0, *(1.1 * value for value in [*alignments, *(untrained or [])] if value < 0)]), 1.02)
    figure.suptitle(
        f"{before_name} → {after_name}", fontsize=10, parse_math=False, color=panels[0].xaxis.label.get_color()
    )
    return figure


def _pictures(maximization: Maximization) -> np.ndarray:
    try:
        return in_rgb(maximization.pictures())
    except DataError as problem:
        raise DataError(f"layer '{maximization.layer}': {problem}") from None


def _layer_facts(number: int, count: int, size: tuple[int, int], statistics: LayerStatistics | None) -> list[str]:
    """What stands beside a layer's row of filters."""
    facts = [f"layer {number} of {count}"]
    if statistics:
        field = statistics.receptive_field
        facts.append(
            _counted(statistics.filters, "filter") + (f", {len(statistics.dead)} dead" * bool(statistics.dead))
        )
        facts.append(f"receptive field {_extent(field)}")
        facts.append(f"stride {_stride(field)}" if _stride(field) else "one value an image")
    facts.append(f"pictures {size[0]} × {size[1]}")
    return facts


def _extent(field: ReceptiveField) -> str:
    if math.isinf(field.height) and math.isinf(field.width):
        return "whole image"
    return " × ".join("whole" if math.isinf(side) else f"{side:.0f}" for side in (field.height, field.width))


def _stride(field: ReceptiveField) -> str:
    """Pixels from one value of a layer to the next, and nothing where it has one only."""
    sides = field.stride_height, field.stride_width
    if not any(sides):
        return ""
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]} × {sides[1]}"


def _counted(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"
