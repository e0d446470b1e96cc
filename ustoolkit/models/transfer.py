"""Weights of one network for another, layer by layer where names and shapes agree."""

import re
from dataclasses import dataclass

import tensorflow as tf
import tf_keras as keras
from tf_keras.src.utils.generic_utils import to_snake_case

from ustoolkit.layers.counted import CountedLayer


@dataclass(frozen=True)
class Transfer:
    """What became of the layers of the network that weights were copied to.

    Attributes:
        loaded: names of the layers that have the source's weights now.
        not_loaded: for each other layer with weights, by name, the reason.
    """

    loaded: tuple[str, ...]
    not_loaded: dict[str, str]


@dataclass(frozen=True)
class WeightedLayer:
    """A layer that has weights of its own.

    Attributes:
        layer: the layer.
        weights: its own, those of the layers in it left out, and without the counter of random numbers.
    """

    layer: keras.layers.Layer
    weights: tuple[tf.Variable, ...]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the weights, in order."""
        return [tuple(weight.shape) for weight in self.weights]


def load_matching(model: keras.Model, source: keras.Model) -> Transfer:
    """Copies weights to a model from another, for each layer that is in both under one name and with equal shapes.

    A batch normalization takes the moving mean and variance with it. Counters of random numbers stay as they are.

    Args:
        model: a built model; its weights are changed.
        source: a built model, of the same network or another; it is not changed.
    Returns:
        which layers of `model` were loaded, and why others were not; layers of the source that the model does not have
        are not named.
    """
    theirs = weighted_layers(source)
    loaded, not_loaded = [], {}
    for name, here in weighted_layers(model).items():
        reason = _difference(theirs.get(name), here)
        if reason:
            not_loaded[name] = reason
            continue
        for weight, value in zip(here.weights, theirs[name].weights, strict=True):
            weight.assign(value.numpy())
        loaded.append(name)
    return Transfer(tuple(loaded), not_loaded)


def weighted_layers(model: keras.Model) -> dict[str, WeightedLayer]:
    """The layers of a model that have weights, also those within other layers and models.

    Args:
        model: a built model.
    Returns:
        by name, in the order in which a layer came to hold them. A name is the path to the layer. Keras numbers
        the layers that nobody named through the whole process; here such a layer has the name of its class and its
        number among those of its class and parent, from 1, so that it is the same each time.
    """
    found: dict[str, WeightedLayer] = {}
    _collect(model, "", found, set())
    return found


def _collect(parent: keras.layers.Layer, path: str, found: dict[str, WeightedLayer], seen: set[int]) -> None:
    numbers: dict[str, int] = {}
    for layer in _children(parent):
        if not layer.weights or id(layer) in seen:
            continue
        seen.add(id(layer))
        kind, name = type(layer).__name__, layer.name
        if named_by_keras(layer):
            numbers[kind] = numbers.get(kind, 0) + 1
            name = f"{kind}{numbers[kind]}"
        own = _own_weights(layer)
        if own:
            found[path + name] = WeightedLayer(layer, own)
        _collect(layer, f"{path}{name}/", found, seen)


def _children(parent: keras.layers.Layer) -> list[keras.layers.Layer]:
    if isinstance(parent, keras.Model) and parent.layers:
        return parent.layers
    # Keras has no public list of the layers directly within a layer.
    return list(parent._flatten_layers(recursive=False, include_self=False))


def _own_weights(layer: keras.layers.Layer) -> tuple[tf.Variable, ...]:
    others = {id(weight) for child in _children(layer) for weight in child.weights}
    if isinstance(layer, CountedLayer):
        others.add(id(layer.counter))
    return tuple(weight for weight in layer.weights if id(weight) not in others)


def named_by_keras(layer: keras.layers.Layer) -> bool:
    """Whether a name is nothing but the class's: batch_normalization_12 of a BatchNormalization."""
    return re.sub(r"_\d+$", "", layer.name) == to_snake_case(type(layer).__name__)


def _difference(there: WeightedLayer | None, here: WeightedLayer) -> str:
    """Why weights cannot be copied; '' where they can."""
    if there is None:
        return "no such layer there"
    kinds = [type(each.layer).__name__ for each in (there, here)]
    if kinds[0] != kinds[1]:
        return f"a {kinds[0]} there, a {kinds[1]} here"
    if len(there.weights) != len(here.weights):
        return f"{len(there.weights)} weights there, {len(here.weights)} here"
    for theirs, ours in zip(there.shapes, here.shapes, strict=True):
        if theirs != ours:
            return f"shape {theirs} there, {ours} here"
    return ""
