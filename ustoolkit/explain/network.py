"""A network taken apart: every layer in reach by its name, cut off where it is looked at, at any size of image."""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras.src.engine.functional import Functional
from tf_keras.src.engine.node import Node

from ustoolkit.errors import RunError
from ustoolkit.layers.noisy import NoisyActivation
from ustoolkit.models.transfer import named_by_keras
from ustoolkit.recipe.validation import nearest


def unfold(model: keras.Model, until: str | None = None, image_size: tuple[int, int] | None = None) -> keras.Model:
    """Copies a network, the layers of networks within it as its own.

    Every layer of the copy is new and called once, so that its `output` is the one that it has in the copy. The weights
    are those of the copied layers at the time; nothing is shared. In a graph of TensorFlow 1 they have to be given by
    `set_weights` in its session.

    Args:
        model: a functional network with one input, which may hold others.
        until: name of the last layer that is kept, as the copy names it; None for the whole network.
        image_size: height and width of the copy's input, pixels; None for the network's own. Layers that fit one size
            only fail on others.
    Returns:
        a network from the same input to the output of that layer.
    Raises:
        RunError: there is no layer of that name.
    """
    if until is not None:
        check_layers(model, [until])
    copies = _Named()
    shape = (*(image_size or model.input_shape[1:3]), model.input_shape[-1])
    inputs = keras.layers.Input(shape, name=model.input_names[0])
    outputs = _called(model, inputs, copies, until)
    if until is not None:
        outputs = copies.layers[until].output
    copy = keras.Model(inputs, outputs, name=model.name)
    if tf.executing_eagerly():
        set_weights(copy, weights_of(model))
    return copy


def weights_of(model: keras.Model) -> dict[str, list[np.ndarray]]:
    """The weights of a network's layers, by the names that its unfolded copy gives them."""
    return {name: layer.get_weights() for name, layer in inner_layers(model).items() if layer.weights}


def set_weights(copy: keras.Model, weights: Mapping[str, list[np.ndarray]]) -> None:
    """Gives an unfolded network, or one cut off before its end, the weights of its layers.

    Args:
        copy: of `unfold`.
        weights: of `weights_of`; those of layers that the copy does not have are left.
    """
    for layer in copy.layers:
        if layer.weights:
            layer.set_weights(weights[layer.name])


def inner_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The layers of a network and of those within it, by the names that `unfold` gives them, in their order.

    The name is the layer's own. Where an earlier one has it, the name of the network that holds it stands before; where
    nobody named it, so that Keras counts through the whole process, the number is that among its like in this network,
    from 1.
    """
    found = _Named()
    _collect(model, found)
    return found.layers


def kernel_layers(model: keras.Model) -> list[str]:
    """Names of the layers with kernels, the convolutions and the dense ones, from the first to the deepest.

    A block of another library, with several kernels within it, is one layer. A layer's depth is the number of layers on
    the longest path from the input; of equally deep ones the network's order decides.

    Args:
        model: as `unfold` takes it, or gives it.
    """
    copy = model if _is_flat(model) else unfold(model)
    depth = depths(copy)
    chosen = [layer.name for layer in copy.layers if any(len(w.shape) > 1 for w in layer.trainable_weights)]
    return sorted(chosen, key=depth.__getitem__)


def depths(copy: keras.Model) -> dict[str, int]:
    """How many layers stand on the longest path from the input to each layer of an unfolded network, by name."""
    depth: dict[str, int] = {}
    for layer in copy.layers:  # Keras lists a layer behind those that it takes its input from
        before = [tensor._keras_history.layer.name for tensor in tf.nest.flatten(layer.input)]
        depth[layer.name] = 1 + max((depth[name] for name in before if name != layer.name), default=-1)
    return depth


def check_layers(model: keras.Model, names: Sequence[str]) -> None:
    """Refuses names that are no layer of a network.

    Raises:
        RunError: names the nearest ones there are.
    """
    known = list(inner_layers(model))
    for name in names:
        if name not in known:
            raise RunError(f"layer '{name}': the network {model.name} has none of this name. {nearest(name, known)}")


def activated(copy: keras.Model, name: str) -> str:
    """The layer that holds what a layer's filters pass on: behind its normalisation and activation, if it has these.

    Args:
        copy: an unfolded network.
        name: of a layer.
    Returns:
        name of the activation that follows, with nothing but normalisations between; else the name itself.
    """
    current = name
    while True:
        nodes = copy.get_layer(current).outbound_nodes
        if len(nodes) != 1:
            return name
        layer = nodes[0].layer
        if _is_activation(layer):
            return layer.name
        if not isinstance(layer, keras.layers.BatchNormalization | keras.layers.GroupNormalization):
            return name
        current = layer.name


def _is_activation(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Activation | keras.layers.ReLU | NoisyActivation)


def _is_flat(model: keras.Model) -> bool:
    return not any(isinstance(layer, Functional) for layer in model.layers)


class _Named:
    """Layers by names that are the same in each process."""

    def __init__(self) -> None:
        self.layers: dict[str, keras.layers.Layer] = {}
        self._numbers: dict[str, int] = {}

    def free_name(self, layer: keras.layers.Layer, parent: str) -> str:
        """The name for a layer of the network `parent`."""
        name = layer.name
        if named_by_keras(layer):
            kind = re.sub(r"_\d+$", "", name)
            self._numbers[kind] = self._numbers.get(kind, 0) + 1
            name = f"{kind}_{self._numbers[kind]}"
        return f"{parent}_{name}" if name in self.layers else name


def _collect(model: Functional, found: _Named) -> None:
    for node in _nodes(model):
        if isinstance(node.layer, Functional):
            _collect(node.layer, found)
        elif not node.is_input or not found.layers:
            found.layers[found.free_name(node.layer, model.name)] = node.layer


def _called(model: Functional, inputs: tf.Tensor, copies: _Named, until: str | None) -> tf.Tensor | None:
    """Calls copies of a network's layers one after another, as it does itself; None once a certain one was called.

    What lies behind that one may not take images of the size.
    """
    tensors = {id(tensor): given for tensor, given in zip(model.inputs, tf.nest.flatten(inputs), strict=True)}
    if not copies.layers:
        copies.layers[model.input_names[0]] = inputs._keras_history.layer
    for node in _nodes(model):
        if node.is_input:
            continue
        arguments, options = tf.nest.map_structure(
            lambda value: tensors.get(id(value), value), (node.call_args, node.call_kwargs)
        )
        if isinstance(node.layer, Functional):
            outputs = _called(node.layer, arguments[0], copies, until)
        else:
            name = copies.free_name(node.layer, model.name)
            copy = type(node.layer).from_config({**node.layer.get_config(), "name": name})
            copies.layers[name], outputs = copy, copy(*arguments, **options)
        if until in copies.layers:
            return None
        for old, new in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(outputs), strict=True):
            tensors[id(old)] = new
    return tf.nest.map_structure(lambda tensor: tensors[id(tensor)], model.output)


def _nodes(model: Functional) -> Iterator[Node]:
    """The calls of layers of which a network consists, each behind those that it needs."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from model._nodes_by_depth[depth]
