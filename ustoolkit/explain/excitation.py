"""How strongly filters of one layer answer to pictures, computed with as little of the network as it takes."""

import math

import tensorflow as tf
import tf_keras as keras

from ustoolkit.errors import RunError
from ustoolkit.explain.folding import without_normalization
from ustoolkit.explain.network import check_layers, inner_layers, unfold
from ustoolkit.explain.objective import mean_activations
from ustoolkit.layers.grouped import GroupedConvolution

# A layer's values, their gradients, and what the kernels of convolutions need besides; float32 each.
_COPIES, _BYTES = 3, 4
_LINEAR = (keras.layers.Conv2D, keras.layers.Dense, GroupedConvolution)


class Excitation:
    """The mean output of filters of one layer, as a function of pictures that can be compiled and differentiated.

    Nothing behind the layer is run. Where the layer itself is linear, as a convolution is that leaves activation to
    another layer, it is not run either: the mean of a filter's output is then a fixed weighted sum of what the layer
    takes in, and the weights are found once.

    Args:
        model: a functional network with one input.
        layer: its layer, by the name of `network.inner_layers`.
        image_size: height and width, pixels; None for the network's own.
        precision: of the arithmetic while climbing: 'float32' or 'bfloat16'.
    Raises:
        RunError: there is no such layer, it has no filters, or the network does not take that size.
    """

    def __init__(
        self,
        model: keras.Model,
        layer: str,
        image_size: tuple[int, int] | None = None,
        precision: str = "float32",
    ) -> None:
        check_layers(model, [layer])
        place = f"network {model.name}, layer '{layer}'"
        try:
            network = _cut_off(model, layer, image_size)
        except (ValueError, tf.errors.InvalidArgumentError) as problem:
            raise RunError(
                f"{place}: expected an image size that the network takes, found {image_size} "
                f"({str(problem).splitlines()[0]}). Leave it out, or take a multiple of the network's coarsest stride."
            ) from None
        output = network.output
        if isinstance(output, list | tuple | dict):
            raise RunError(f"{place}: expected one output, found {len(output)}. Name a layer behind it.")
        if len(output.shape) < 2 or output.shape[-1] is None:
            raise RunError(f"{place}: expected filters along the last axis, found {output.shape}. Name another.")
        if None in network.input_shape[1:3]:
            raise RunError(f"{place}: expected a size of images, found {network.input_shape[1:3]}. Give image_size.")
        self.filters = int(output.shape[-1])
        self.image_size: tuple[int, int] = network.input_shape[1:3]
        self.channels: int = network.input_shape[-1]
        shapes = [tuple(tensor.shape[1:]) for part in network.layers for tensor in tf.nest.flatten(part.output)]
        self._sides = [shape[:2] for shape in shapes if len(shape) == 3 and None not in shape]
        values = sum(math.prod(side or 0 for side in shape) for shape in shapes)
        self.bytes_an_image = _COPIES * _BYTES * max(1, values)
        last = output._keras_history.layer
        self._linear = last if _is_linear(last) else None
        self._exact = without_normalization(keras.Model(network.input, last.input) if self._linear else network)
        self._network = self._exact if precision == "float32" else _in_precision(self._exact, precision)

    def coarsest_strides(self) -> tuple[int, int]:
        """Pixels, down and across, from one position to the next in the coarsest layer that still has several."""
        strides = [1, 1]
        for sides in self._sides:
            for axis in (0, 1):
                if sides[axis] > 1:
                    strides[axis] = max(strides[axis], round(self.image_size[axis] / sides[axis]))
        return strides[0], strides[1]

    def weights(self, filters: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """What `means` needs to know of filters, int (n,), worked out once; nothing where the layer is not linear."""
        if self._linear is None:
            return ()
        nothing = tf.zeros((len(filters), *self._network.output_shape[1:]))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(nothing)
            means = mean_activations(self._linear(nothing, training=False), filters)
        return tape.gradient(means, nothing), means

    def means(
        self, images: tf.Tensor, filters: tf.Tensor, weights: tuple[tf.Tensor, ...], exact: bool = False
    ) -> tf.Tensor:
        """The mean output over all positions.

        Args:
            images: float32 (n, height, width, channels), pixel values.
            filters: int (n,), one for each picture.
            weights: what `weights` returned for these filters.
            exact: in the network's own precision, whatever the one for climbing is.
        Returns:
            float32 (n,).
        """
        reached = (self._exact if exact else self._network)(images, training=False)
        if not weights:
            return mean_activations(reached, filters)
        slopes, constants = weights
        return tf.reduce_sum(slopes * tf.cast(reached, tf.float32), list(range(1, len(slopes.shape)))) + constants


def _cut_off(model: keras.Model, layer: str, image_size: tuple[int, int] | None) -> keras.Model:
    if image_size in (None, model.input_shape[1:3]) and not any(isinstance(part, keras.Model) for part in model.layers):
        own = inner_layers(model)[layer]
        if len(own.inbound_nodes) == 1:  # then its output is this network's, and copying can be spared
            return keras.Model(model.input, own.output)
    return unfold(model, layer, image_size)


def _in_precision(network: keras.Model, precision: str) -> keras.Model:
    """A copy that computes in another precision, its weights float32 as before."""
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(f"mixed_{precision}")  # layers of other libraries build more within them
    try:
        copy = keras.models.clone_model(
            network,
            clone_function=lambda layer: type(layer).from_config({**layer.get_config(), "dtype": f"mixed_{precision}"}),
        )
    finally:
        keras.mixed_precision.set_global_policy(policy)
    copy.set_weights(network.get_weights())
    return copy


def _is_linear(layer: keras.layers.Layer) -> bool:
    activation = getattr(layer, "activation", None) or keras.activations.linear
    return isinstance(layer, _LINEAR) and activation is keras.activations.linear and layer.compute_dtype == "float32"
