"""What a network has learned and why it decided, as pictures in one folder with a table of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.explain.engines import ENGINES, at_size, evenly_chosen
from ustoolkit.explain.maximization import Maximization, MaximizationSettings
from ustoolkit.explain.random_weights import untrained
from ustoolkit.explain.receptive_field import receptive_fields
from ustoolkit.explain.similarity import compare_networks
from ustoolkit.explain.statistics import LayerStatistics, layer_statistics
from ustoolkit.explain.subject import Subject, check_alike, picture_size
from ustoolkit.files import safe_name
from ustoolkit.progress import progress
from ustoolkit.report import explanation_figures


@dataclass(frozen=True)
class LayerRequest:
    """How layers are to be shown.

    Attributes:
        layers: names, from the first to the deepest.
        engine: a name of `ENGINES`.
        most_filters: of a layer that are shown, evenly chosen from all.
        settings: of the maximization; with an `image_size` all layers have it, else those that see little of an image
            get a smaller one.
        backprop: None for the gradient; 'guided' or 'rectified', with keras-vis.
    """

    layers: Sequence[str]
    engine: str = "batched"
    most_filters: int = 16
    settings: MaximizationSettings = field(default_factory=MaximizationSettings)
    backprop: str | None = None


def explain_layers(
    subject: Subject, request: LayerRequest, inputs: np.ndarray | None, folder: Path, before: Subject | None = None
) -> dict[str, Any]:
    """Draws what the filters of layers are for, and what they do with images.

    Writes `layers/<layer>.png`, `poster.png`, and with images `statistics.png`; with another network `changes.png`, if
    there are images, and `layers/<layer>_before_and_after.png`.

    Args:
        subject: the network.
        request: which layers, and how.
        inputs: float32 (n, height, width, channels), images as the network takes them, to look at layers with; None
            where there are none.
        folder: where the pictures go.
        before: the same network before it went on learning.
    Returns:
        what was found and written, JSON-serialisable.
    Raises:
        RunError: the networks differ, or keras-vis cannot take the network.
        OutputError: a picture cannot be written.
    """
    layers = list(request.layers)
    if before is not None:
        check_alike(subject, before, layers)
        names = _names(before, subject)
    fields = receptive_fields(subject.model, layers)
    statistics = {} if inputs is None else {s.layer: s for s in layer_statistics(subject.model, layers, inputs)}
    maximizations, rows = [], []
    for layer in progress(layers, "maximizing", unit="layer"):
        size = picture_size(subject.model, layer, fields[layer])
        found = _maximized(subject, layer, request, size)
        maximizations.append(found)
        written = [f"layers/{safe_name(layer)}.png"]
        explanation_figures.filter_grid(found, statistics.get(layer), folder / written[0])
        if before is not None:
            earlier = _maximized(before, layer, request, size)
            written.append(f"layers/{safe_name(layer)}_before_and_after.png")
            explanation_figures.pair_figure(earlier, found, folder / written[1], names)
        rows.append(_row(subject, found, fields[layer], statistics.get(layer), written))
    result: dict[str, Any] = {
        "engine": request.engine,
        "settings": asdict(request.settings),
        "layers": rows,
        "poster": "poster.png",
    }
    explanation_figures.poster(maximizations, statistics, folder / "poster.png")
    if inputs is not None:
        result |= {"statistics_images": len(inputs), "statistics": "statistics.png"}
        explanation_figures.statistics_figure([statistics[layer] for layer in layers], folder / "statistics.png")
    if before is not None:
        result["before"] = names[0]
        if inputs is not None:
            changes = compare_networks(before.model, subject.model, layers, inputs)
            # Outputs that are alike without any training say nothing of what was kept.
            baseline = compare_networks(before.model, untrained(subject.model), layers, inputs)
            random = [change.cka for change in baseline]
            explanation_figures.change_figure(changes, folder / "changes.png", *names, random)
            rows = [{**asdict(change), "cka_untrained": cka} for change, cka in zip(changes, random, strict=True)]
            result |= {"changes": rows, "changes_figure": "changes.png"}
    return result


def _maximized(subject: Subject, layer: str, request: LayerRequest, size: tuple[int, int]) -> Maximization:
    filters = evenly_chosen(_filters(subject, layer), request.most_filters)
    settings = at_size(request.settings, size)
    found = ENGINES[request.engine](subject.model, layer, filters, settings, request.backprop)
    # A mask that a classifier takes as one more channel is no part of the picture.
    return replace(found, images=found.images[..., : subject.run.recipe.data.channels])


def _filters(subject: Subject, layer: str) -> int:
    return subject.model.get_layer(layer).output.shape[-1]


def _names(before: Subject, after: Subject) -> tuple[str, str]:
    """Names of both runs that differ."""
    if before.name != after.name:
        return before.name, after.name
    return str(before.run.folder), str(after.run.folder)


def _row(
    subject: Subject, found: Maximization, field: Any, statistics: LayerStatistics | None, written: Sequence[str]
) -> dict[str, Any]:
    row = {
        "layer": found.layer,
        "filters": _filters(subject, found.layer),
        "shown": [int(number) for number in found.filters],
        "activations": [float(value) for value in found.activations],
        "image_size": list(found.images.shape[1:3]),
        "receptive_field": [_finite(field.height), _finite(field.width)],
        "grids": list(written),
    }
    if statistics is None:
        return row
    return row | {
        "weights": statistics.weights,
        "dead": list(statistics.dead),
        "sparsity": statistics.sparsity,
        "mean": statistics.mean,
        "deviation": statistics.deviation,
        "effective_receptive_field": statistics.effective_receptive_field,
    }


def _finite(extent: float) -> float | None:
    """None where a unit sees the whole image."""
    return extent if np.isfinite(extent) else None
