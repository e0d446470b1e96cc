"""A network made of planned layers with the weights of a Keras file, in no more memory than these take."""

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.errors import RunError
from ustoolkit.inference.keras_config import REMEDY, PlannedLayer, PlannedModel
from ustoolkit.inference.keras_layers import take_layer

_MOST_ENTRIES, _MOST_LEVELS = 100_000, 64
_SPARE_BYTES = 2**20  # for weights that are not stored, such as the one layer that is added here
_MOST_VALUES = 2**28  # of one layer's output: a gigabyte
_RESAMPLING = frozenset({"UpSampling2D", "Resizing", "Cropping2D", "ZeroPadding2D", "AveragePooling2D", "Reshape"})
_LINEAR = frozenset(
    {"Add", "BatchNormalization", "Conv2D", "Conv2DTranspose", "Dense", "DepthwiseConv2D", "GroupedConvolution"}
    | {"Activation", "SeparableConv2D", "Softmax"}
)


def build_network(plan: PlannedModel, weights: Path, place: str) -> keras.Model:
    """Makes a network that ends in logits.

    A sigmoid or softmax at the end is taken off. Two outputs become one, their difference, which is the log-odds of the
    second class.

    Args:
        plan: of the network.
        weights: `model.weights.h5` of the same file.
        place: the file, for messages.
    Returns:
        from (batch, height, width, 1 or 3) to logits (batch, height, width, 1, or as many as classes).
    Raises:
        RunError: the network does not map images to masks, or the weights are not its own.
    """
    ending, plan = _without_probability(plan, place)
    with limited_weights(weights, place):
        model, made = _made(plan, place)
        _check_ends(model, ending, place)
        with h5py.File(weights, "r") as file:
            _load(plan, made, file, place)
    if model.output_shape[-1] == 2:
        difference = keras.layers.Conv2D(1, 1, use_bias=False, name="log_odds")
        model = keras.Model(model.input, difference(model.output))
        difference.set_weights([np.array([-1.0, 1.0], np.float32).reshape(1, 1, 2, 1)])
    return model


@contextlib.contextmanager
def limited_weights(weights: Path, place: str) -> Iterator[None]:
    """Within it variables can be made until they are as large as a file of weights, so that none exhausts the memory.

    Args:
        weights: an HDF5 file, which is looked through.
        place: what is read, for messages.
    Raises:
        RunError: the file points to others or declares more than it holds; or, within, more variables are made.
    """
    left = stored_bytes(weights, place) + _SPARE_BYTES

    def create(following: Any, **arguments: Any) -> tf.Variable:
        nonlocal left
        left -= _bytes_of(arguments)
        if left < 0:
            raise RunError(f"{place}: expected a network with the weights of its file, found a larger one. {REMEDY}")
        return following(**arguments)

    with tf.variable_creator_scope(create):
        yield


def stored_bytes(weights: Path, place: str) -> int:
    """Size of all arrays in a file of weights, bytes.

    Args:
        weights: an HDF5 file.
        place: what is read, for messages.
    Raises:
        RunError: the file points to others, declares more than it holds, or holds what is no number.
    """
    total, entries, most = 0, 0, weights.stat().st_size

    def refusal(found: str) -> RunError:
        return RunError(f"{place}: expected weights as Keras stores them, found {found}. {REMEDY}")

    with h5py.File(weights, "r") as file:
        pending: list[tuple[h5py.Group, int]] = [(file, 0)]
        while pending:
            group, level = pending.pop()
            for name in group:
                entries += 1
                if entries > _MOST_ENTRIES or level > _MOST_LEVELS:
                    raise refusal("more entries than a network has")
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise refusal(f"a link to elsewhere, {name[:80]}")
                entry = group[name]
                if isinstance(entry, h5py.Group):
                    pending.append((entry, level + 1))
                    continue
                if not isinstance(entry, h5py.Dataset) or entry.external or entry.is_virtual:
                    raise refusal(f"an array that is kept elsewhere, {name[:80]}")
                if entry.dtype.kind not in "fiub" or entry.shape is None:
                    raise refusal(f"values that are no numbers, {name[:80]}")
                total += math.prod(entry.shape) * entry.dtype.itemsize
                if total > most:
                    raise refusal("arrays that are larger than the file")
    return total


def _bytes_of(arguments: dict[str, Any]) -> int:
    """Of a variable that is about to be made."""
    shape, dtype = arguments.get("shape"), arguments.get("dtype")
    if shape is None:
        initial = arguments["initial_value"]
        if callable(initial):
            raise TypeError("a variable of unknown size")
        initial = tf.convert_to_tensor(initial)
        shape, dtype = initial.shape, initial.dtype
    return math.prod(tf.TensorShape(shape).as_list()) * tf.as_dtype(dtype or tf.float32).size


def _without_probability(model: PlannedModel, place: str, resampled: bool = False) -> tuple[str, PlannedModel]:
    """The activation at the end, and the plan with a linear one in its place."""

    def refusal(found: str) -> RunError:
        return RunError(
            f"{place}: expected a network that ends in a convolution, a sigmoid or a softmax over classes, found "
            f"{found}. {REMEDY}"
        )

    layer = model.layers[model.target[0]]
    while layer.kind in _RESAMPLING and layer.calls:
        layer, resampled = model.layers[layer.calls[0][0][0]], True
    if len(layer.calls) > 1:
        raise refusal(f"{layer.kind}, which is called more than once")
    if layer.model is not None:
        ending, inner = _without_probability(layer.model, place, resampled)
        return ending, _with(model, replace(layer, model=inner))
    if layer.kind not in _LINEAR:
        raise refusal(layer.kind)
    ending = "softmax" if layer.kind == "Softmax" else layer.settings.get("activation", "linear")
    if ending not in ("linear", "sigmoid", "softmax") or layer.settings.get("axis", -1) not in (-1, 3, [3]):
        raise refusal(f"{ending} along the axis {layer.settings.get('axis', -1)}")
    if ending == "linear":
        return ending, model
    if resampled:
        raise refusal(f"{ending} with resampling behind it")
    kind = "Activation" if layer.kind == "Softmax" else layer.kind
    settings = {} if layer.kind == "Softmax" else layer.settings
    return ending, _with(model, replace(layer, kind=kind, settings={**settings, "activation": "linear"}))


def _with(model: PlannedModel, layer: PlannedLayer) -> PlannedModel:
    return replace(model, layers={**model.layers, layer.name: layer})


def _made(plan: PlannedModel, place: str) -> tuple[keras.Model, dict[str, Any]]:
    """The model, and by name its layers; of one that is a model itself, these two again."""
    made: dict[str, Any] = {}
    source = plan.layers[plan.source]
    entrance = keras.Input(source.settings["shape"], name=source.name)
    outputs = {(source.name, 0): entrance}
    for layer in plan.layers.values():
        if layer.model is not None:
            made[layer.name] = _made(layer.model, place)
        elif layer.kind != "InputLayer":
            made[layer.name] = take_layer(layer.kind, layer.name, layer.settings)
    waiting = [(name, number) for name, layer in plan.layers.items() for number in range(len(layer.calls))]
    while waiting:
        later = []
        for name, number in waiting:
            layer = plan.layers[name]
            if not all(reference in outputs for reference in layer.calls[number]):
                later.append((name, number))
                continue
            inputs = [outputs[reference] for reference in layer.calls[number]]
            callee = made[name][0] if layer.model is not None else made[name]
            output = callee(inputs if layer.takes_list else inputs[0])
            if math.prod(side or 1 for side in output.shape[1:]) > _MOST_VALUES:
                raise RunError(
                    f"{place}: expected layers that fit a memory, found '{name}' of {output.shape}. {REMEDY}"
                )
            outputs[name, number] = output
        if len(later) == len(waiting):
            raise RunError(f"{place}: expected layers that follow each other, found a circle at '{name}'. {REMEDY}")
        waiting = later
    return keras.Model(entrance, outputs[plan.target]), made


def _check_ends(model: keras.Model, ending: str, place: str) -> None:
    """Refuses a network that does not map images of one size to maps of the same size."""
    taken, given = model.input_shape, model.output_shape
    fits = None not in taken[1:] and taken[3] in (1, 3) and len(given) == 4 and given[1:3] == taken[1:3]
    if not fits or given[3] is None or given[3] > 255:
        raise RunError(
            f"{place}: expected a network from (batch, height, width, 1 or 3), of a fixed height and width, to (batch, "
            f"height, width, classes), found one from {taken} to {given}. {REMEDY}"
        )
    if ending != "linear" and (ending == "sigmoid") != (given[3] == 1):
        raise RunError(
            f"{place}: expected a sigmoid of one output or a softmax of several, found a {ending} of {given[3]}. "
            f"{REMEDY}"
        )


def _load(plan: PlannedModel, made: dict[str, Any], group: Any, place: str) -> None:
    """Gives each layer its weights. The file calls a layer by its class, and counts those of one class."""
    seen: dict[str, int] = {}
    for layer in plan.layers.values():
        name = _snake_case(layer.kind)
        number = seen[name] = seen.get(name, -1) + 1
        place_within = f"layers/{name}_{number}" if number else f"layers/{name}"
        if layer.kind == "InputLayer":
            continue
        if layer.model is not None:
            if place_within not in group:
                raise RunError(f"{place}: expected weights of '{layer.name}', found none. {REMEDY}")
            _load(layer.model, made[layer.name][1], group[place_within], place)
            continue
        weights = made[layer.name].weights
        stored = group.get(f"{place_within}/vars", {}) if weights else {}
        shapes = [stored[key].shape if isinstance(stored.get(key), h5py.Dataset) else None for key in _keys(stored)]
        wanted = [tuple(weight.shape) for weight in weights]
        if shapes != wanted:
            raise RunError(f"{place}: expected weights {wanted} of '{layer.name}', found {shapes}. {REMEDY}")
        made[layer.name].set_weights([stored[key][()] for key in _keys(stored)])


def _keys(stored: Any) -> list[str]:
    return [str(number) for number in range(len(stored))]


def _snake_case(name: str) -> str:
    """A class's name as Keras spells it in files of weights."""
    return re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()
