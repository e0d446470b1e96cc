"""A network rebuilt in a graph and session of TensorFlow 1, of which the rest of the process takes no notice."""

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow.python.framework.ops import gradient_registry
from tf_keras.src import backend
from tf_keras.src.layers.pooling.base_pooling2d import Pooling2D

from ustoolkit.errors import RunError
from ustoolkit.explain.keras_vis_import import keras_vis_library
from ustoolkit.explain.network import check_layers, set_weights, unfold, weights_of

_BACKPROPS = ("guided", "rectified")
_RELUS = {"Relu", "Relu6"}
_OTHER_ACTIVATIONS = {"Elu", "LeakyRelu", "Selu", "Sigmoid", "Softmax", "Softplus", "Softsign", "Tanh"}


class PrivateGraph:
    """A network up to one of its layers in a graph of its own, to be entered for a while and closed in the end.

    Eager code runs before, between and after. Python's and NumPy's random states and the names that Keras gives belong
    to the whole process; they are as before after each visit, but not for another thread in the meantime.

    Args:
        model: a functional network with one input.
        layer: name of the last layer that is built, as `inner_layers` gives it.
        size: height and width of images, pixels.
        place: of what an error says.
    """

    def __init__(self, model: keras.Model, layer: str, size: tuple[int, int], place: str) -> None:
        self._model, self._layer, self._size, self._place = model, layer, size, place
        self._weights = weights_of(model)
        self._copies: dict[str | None, keras.Model] = {}
        self._gradients: set[str] = set()
        threads = tf.config.threading
        self._session = tf.compat.v1.Session(
            graph=tf.Graph(),
            config=tf.compat.v1.ConfigProto(
                allow_soft_placement=True,
                intra_op_parallelism_threads=threads.get_intra_op_parallelism_threads(),
                inter_op_parallelism_threads=threads.get_inter_op_parallelism_threads(),
            ),
        )

    def close(self) -> None:
        """Frees what the graph holds; it cannot be entered again."""
        self._session.close()
        for name in self._gradients:
            gradient_registry._registry.pop(name, None)
        self._copies, self._weights = {}, {}

    @contextlib.contextmanager
    def entered(self, seed: int = 0) -> Iterator[None]:
        """Graph and session as the default ones, NumPy's random numbers of a seed; afterwards all is as it was.

        Args:
            seed: from 0 to 2³² − 1.
        """
        registered = set(gradient_registry.list())
        with _process_kept(), self._session.graph.as_default(), self._session.as_default():
            np.random.seed(seed)
            # Layers are built to infer, without a placeholder that says whether they train.
            backend.deprecated_internal_set_learning_phase(0)
            try:
                yield
            finally:
                # TensorFlow keeps custom gradients for ever, and with them the graph; these go when it is closed.
                self._gradients |= set(gradient_registry.list()) - registered

    def network(self, backprop: str | None = None) -> keras.Model:
        """The network up to the layer, which is its last, with float32 outputs; built when first asked for.

        Args:
            backprop: None, 'guided' or 'rectified': which of keras-vis' gradients ReLUs have.
        Raises:
            RunError: it cannot be built at this size, the layer's output is not one of filters, or `backprop` is
                unknown or of no use to this network.
        """
        if backprop not in self._copies:
            graph = self._session.graph
            first = len(graph.get_operations())
            with _classes_kept(), graph.gradient_override_map(self._overrides(backprop)):
                copy = self._built()
            kinds = {operation.type for operation in graph.get_operations()[first:]}
            if backprop is not None and not kinds & _RELUS and kinds & _OTHER_ACTIVATIONS:
                raise RunError(
                    f"{self._place}: backprop '{backprop}' changes the gradient of ReLU; up to this layer there is "
                    f"none, but other activations, by {', '.join(sorted(kinds & _OTHER_ACTIVATIONS))}. Leave it out."
                )
            self._copies[backprop] = copy
        return self._copies[backprop]

    def penultimate_index(self, network: keras.Model, name: str | None = None) -> int:
        """Where in the network the layer stands whose features are weighed for a class activation map.

        Args:
            network: of `network`.
            name: of the layer; None for the nearest one with a kernel or pooling before the one that makes the last
                layer's filters, which may be itself or stand before it.
        Raises:
            RunError: it has no more than one position or does not stand before the last, or there is none such.
        """
        before = network.layers[:-1]
        if name is not None:
            check_layers(self._model, [name])
            found = [index for index, layer in enumerate(before) if layer.name == name and _has_positions(layer)]
            if found:
                return found[0]
            raise RunError(
                f"{self._place}: expected a penultimate layer before it with an output (batch, height, width, "
                f"channels), found '{name}'. Choose another."
            )
        made = max((index for index, layer in enumerate(network.layers) if _has_kernel(layer, 2)), default=len(before))
        # keras-vis leaves out the layer directly before; here that one is taken where there is no other.
        for index in (*range(min(made - 1, len(before) - 2), 0, -1), len(before) - 1):
            layer = before[index]
            if index > 0 and _has_positions(layer) and (isinstance(layer, Pooling2D) or _has_kernel(layer, 4)):
                return index
        raise RunError(
            f"{self._place}: there is no layer before it with a kernel or pooling and more than one position. Name a "
            "layer as penultimate, or choose a deeper one to explain."
        )

    def _built(self) -> keras.Model:
        try:
            copy = unfold(self._model, self._layer, self._size)
            set_weights(copy, self._weights)
        except (ValueError, tf.errors.InvalidArgumentError) as problem:
            sides = " × ".join(map(str, self._size))
            raise RunError(
                f"{self._place}: it cannot be built for images of {sides} pixels, as its layers fit other sizes: "
                f"{problem}. Leave image_size out, or choose a multiple of what the network scales down by."
            ) from problem
        output = copy.output
        if not isinstance(output, tf.Tensor) or len(output.shape) not in (2, 4) or not output.dtype.is_floating:
            raise RunError(
                f"{self._place}: expected one output of filters, (batch, filters) or (batch, height, width, filters), "
                f"found {output}. Name another layer."
            )
        if output.dtype != tf.float32:
            # The loss adds the activation to terms of the image, which are of float32.
            output = keras.layers.Activation("linear", dtype="float32", name=f"{self._layer}_float32")(output)
            copy = keras.Model(copy.input, output)
        return copy

    def _overrides(self, backprop: str | None) -> dict[str, str]:
        """Names of keras-vis' gradients by the operations that they replace those of."""
        if backprop is None:
            return {}
        if backprop not in _BACKPROPS:
            raise RunError(
                f"{self._place}: expected a backprop of {' or '.join(map(repr, _BACKPROPS))} or None, found "
                f"{backprop!r}. Choose one of them."
            )
        # keras-vis would make every activation a ReLU, and a linear layer with it; here only what is one is changed.
        names = {operation: f"keras_vis_{backprop}_{operation}_{id(self)}" for operation in _RELUS}
        keras_vis_library().tensorflow_backend._BACKPROP_MODIFIERS[backprop](names["Relu"])
        gradient = gradient_registry.lookup(names["Relu"])

        def clipped(operation: tf.Operation, outer: tf.Tensor) -> tf.Tensor:
            inner = gradient(operation, outer)
            # An output at the upper bound is as constant as one at 0, of which the rectified gradient takes no notice.
            active = operation.outputs[0] < 6 if backprop == "guided" else tf.ones_like(inner, tf.bool)
            return tf.where(active, inner, tf.zeros_like(inner))

        tf.RegisterGradient(names["Relu6"])(clipped)
        return names


@contextlib.contextmanager
def _process_kept() -> Iterator[None]:
    """Puts back what belongs to the process and changes where layers are built or keras-vis draws numbers."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    names = set(backend.OBSERVED_NAMES)
    # Keras draws seeds of initial weights from this one where a global seed was set.
    seeds = getattr(backend._SEED_GENERATOR, "generator", None)
    seeds_state = seeds.getstate() if seeds else None
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        backend.OBSERVED_NAMES.intersection_update(names)
        if seeds:
            seeds.setstate(seeds_state)


@contextlib.contextmanager
def _classes_kept() -> Iterator[None]:
    """Puts back what the classes of layers derive from.

    When a layer is made in a graph of TensorFlow 1, Keras exchanges its class's base for an older one, and so breaks
    all layers of the class that were made before. Those of the graph have their tensors and are not called again.
    """
    before = {kind: kind.__bases__ for kind in derived_classes(keras.layers.Layer)}
    try:
        yield
    finally:
        for kind, bases in before.items():
            if kind.__bases__ != bases:
                kind.__bases__ = bases


def derived_classes(kind: type[Any]) -> Iterator[type[Any]]:
    """Every class (type) that is made of a class, directly or through others."""
    for derived in kind.__subclasses__():
        yield derived
        yield from derived_classes(derived)


def _has_kernel(layer: keras.layers.Layer, rank: int) -> bool:
    """Whether a layer has a kernel of at least so many axes: 2 for any, 4 for a convolution's."""
    return any(len(weight.shape) >= rank for weight in layer.trainable_weights)


def _has_positions(layer: keras.layers.Layer) -> bool:
    shape: Sequence[int | None] = getattr(layer.output, "shape", ())
    return len(shape) == 4 and (shape[1] or 0) * (shape[2] or 0) > 1
