"""Batch normalisation at inference as what it is, a scale and an offset of each channel, and mostly none of its own."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

_FOLDING = (keras.layers.Conv2D, keras.layers.Dense)  # depthwise and transposed ones order their kernels otherwise
_NOT_FOLDING = (keras.layers.DepthwiseConv2D, keras.layers.Conv2DTranspose)


class ChannelScale(keras.layers.Layer):
    """Multiplies each channel by a number and adds another.

    Args:
        name: of the layer.
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes both, 1 and 0 to begin with."""
        channels = input_shape[-1]
        self.scale = self.add_weight("scale", (channels,), initializer="ones", trainable=False)
        self.offset = self.add_weight("offset", (channels,), initializer="zeros", trainable=False)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """(…, channels) to the same shape."""
        return inputs * tf.cast(self.scale, inputs.dtype) + tf.cast(self.offset, inputs.dtype)


def without_normalization(network: keras.Model) -> keras.Model:
    """A copy that computes the same at inference, to rounding, with less work forward and much less backward.

    TensorFlow's gradient of a batch normalisation at inference is slow on processors. A normalisation directly behind a
    convolution or dense layer is put into that layer's kernel and bias; any other one becomes a `ChannelScale`.

    Args:
        network: a functional network whose layers are each called once, such as one unfolded; blocks of other libraries
            stay as they are.
    Returns:
        the copy; the network itself where it has no batch normalisation.
    """
    normalizations = [layer for layer in network.layers if _of_channels(layer)]
    if not normalizations:
        return network
    into = {layer.name: _before(layer) for layer in normalizations}
    takes = {source.name: name for name, source in into.items() if source is not None}

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer.name in into:
            folds = into[layer.name] is not None
            return keras.layers.Activation("linear", name=layer.name) if folds else ChannelScale(name=layer.name)
        config = layer.get_config()
        return type(layer).from_config({**config, "use_bias": True} if layer.name in takes else config)

    copy = keras.models.clone_model(network, clone_function=copied)
    for layer in network.layers:
        there = copy.get_layer(layer.name)
        if layer.name in into:
            if into[layer.name] is None:
                there.set_weights(_scale_and_offset(layer))
        elif layer.name in takes:
            scale, offset = _scale_and_offset(network.get_layer(takes[layer.name]))
            kernel, *bias = layer.get_weights()
            there.set_weights([kernel * scale, (bias[0] if bias else 0) * scale + offset])
        else:
            there.set_weights(layer.get_weights())
    return copy


def _before(normalization: keras.layers.BatchNormalization) -> keras.layers.Layer | None:
    """The layer that a normalisation can be put into; None where there is none."""
    source = normalization.input._keras_history.layer
    alone = len(source.outbound_nodes) == 1
    linear = getattr(source, "activation", None) is keras.activations.linear
    folds = isinstance(source, _FOLDING) and not isinstance(source, _NOT_FOLDING)
    return source if folds and alone and linear else None


def _of_channels(layer: keras.layers.Layer) -> bool:
    if not isinstance(layer, keras.layers.BatchNormalization):
        return False
    return list(layer.axis) == [len(layer.input.shape) - 1]


def _scale_and_offset(layer: keras.layers.BatchNormalization) -> list[np.ndarray]:
    mean, variance = np.float64(layer.moving_mean), np.float64(layer.moving_variance)
    scale = 1 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * np.float64(layer.gamma)
    offset = -mean * scale
    if layer.center:
        offset = offset + np.float64(layer.beta)
    return [scale.astype(np.float32), offset.astype(np.float32)]
