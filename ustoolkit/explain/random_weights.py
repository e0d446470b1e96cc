"""Networks that have learned nothing, to set beside those that have."""

import math

import numpy as np
import tf_keras as keras

from ustoolkit.explain.network import kernel_layers, unfold

# What other weights than kernels are before training, by the last part of their names.
_UNTRAINED = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0, "bias": 0.0}


def untrained(model: keras.Model, seed: int = 0) -> keras.Model:
    """An unfolded copy of a network with random weights, the same for a seed.

    Kernels are drawn from He's normal distribution (ICCV 2015), which keeps values in range at any depth; other weights
    are as before training.

    Args:
        model: a functional network; it is not changed.
        seed: another one gives other weights.
    """
    copy = unfold(model)
    names = kernel_layers(copy)
    behind = normalizations_behind(copy, set(names))
    for number, name in enumerate(names):
        generator = np.random.default_rng((seed, number))
        for each in (name, *behind[name]):
            make_random(copy.get_layer(each), generator)
    return copy


def normalizations_behind(copy: keras.Model, kernels: set[str]) -> dict[str, list[str]]:
    """For each layer with kernels the other layers with weights that its outputs reach before the next such layer."""
    behind: dict[str, list[str]] = {name: [] for name in kernels}
    nearest: dict[str, set[str]] = {}
    for layer in copy.layers:  # Keras lists a layer behind those that it takes its input from
        if layer.name in kernels:
            nearest[layer.name] = {layer.name}
            continue
        sources = {node.layer.name for node in layer.inbound_nodes[0].parent_nodes}
        nearest[layer.name] = set().union(*(nearest[name] for name in sources))
        if layer.weights:
            for name in nearest[layer.name]:
                behind[name].append(layer.name)
    return behind


def make_random(layer: keras.layers.Layer, generator: np.random.Generator) -> None:
    """Gives a layer, and those within it, weights as before training."""
    for part in layer._flatten_layers():
        for weight in part._trainable_weights + part._non_trainable_weights:
            name = weight.name.rpartition("/")[2].partition(":")[0]
            if len(weight.shape) > 1 and weight.dtype.is_floating:
                deviation = math.sqrt(2 / _inputs_of_a_filter(part, name, tuple(weight.shape)))
                weight.assign(generator.normal(0, deviation, weight.shape).astype(np.float32))
            elif name in _UNTRAINED:
                weight.assign(np.full(weight.shape, _UNTRAINED[name], np.float32))


def _inputs_of_a_filter(layer: keras.layers.Layer, name: str, shape: tuple[int, ...]) -> float:
    if name == "depthwise_kernel":
        return math.prod(shape[:2])
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return max(1.0, math.prod(shape[:2]) * shape[-1] / math.prod(layer.strides))
    return math.prod(shape[:-1])
