"""Building blocks that networks share, as functions on Keras tensors."""

import math

import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.grouped import GroupedConvolution
from ustoolkit.layers.noisy import NoisyActivation
from ustoolkit.recipe.networks import LighterUnetSettings, LightUnetSettings, UnetSettings

_INITIALIZERS = {"relu": "he_normal", "selu": "lecun_normal"}
_NORMALIZATION_GROUPS = 8


def double_convolution(inputs: tf.Tensor, middle: int, filters: int, model: UnetSettings, name: str) -> tf.Tensor:
    """Two 3 × 3 convolutions with bias, each followed by normalisation and activation.

    In Light and Lighter U-net some are grouped: 3 × 3 within groups of channels, then 1 × 1, nothing between.

    Args:
        inputs: (batch, height, width, channels).
        middle: filters of the first convolution.
        filters: filters of the second.
        model: normalisation, activation, and which convolutions are grouped.
        name: prefix of the layers' names.
    Returns:
        (batch, height, width, filters).
    """
    outputs = inputs
    for number, (width, group_size) in enumerate(zip((middle, filters), _group_sizes(model), strict=True), start=1):
        outputs = _convolution(outputs, width, group_size, model, f"{name}_conv{number}")
        outputs = _normalize(outputs, model.normalization, f"{name}_norm{number}")
        outputs = _activate(outputs, model, f"{name}_activation{number}")
    return outputs


def stem(inputs: tf.Tensor, filters: int, model: UnetSettings, name: str) -> tf.Tensor:
    """Brings an image to 1 / `model.stem` of its size: a convolution as wide as twice its stride, then as in a pair.

    Args:
        inputs: (batch, height, width, channels), sides multiples of the stem.
        filters: of the convolution.
        model: stem, normalisation, activation.
        name: prefix of the layers' names.
    Returns:
        (batch, height / stem, width / stem, filters).
    """
    outputs = keras.layers.Conv2D(
        filters,
        2 * model.stem,
        strides=model.stem,
        padding="same",
        kernel_initializer=_INITIALIZERS[model.activation.removeprefix("nh")],
        name=f"{name}_conv",
    )(inputs)
    outputs = _normalize(outputs, model.normalization, f"{name}_norm")
    return _activate(outputs, model, f"{name}_activation")


def attention_gate(skip: tf.Tensor, gate: tf.Tensor, name: str) -> tf.Tensor:
    """A skip connection, each pixel weighted by what the level below makes of it (Oktay et al., Attention U-Net, 2018).

    Args:
        skip: (batch, height, width, channels).
        gate: (batch, height, width, others), the decoder's, at the skip's resolution.
        name: prefix of the layers' names.
    Returns:
        (batch, height, width, channels).
    """
    layers = keras.layers
    between = max(1, skip.shape[-1] // 2)
    seen = layers.Conv2D(between, 1, name=f"{name}_skip")(skip)
    asked = layers.Conv2D(between, 1, use_bias=False, name=f"{name}_gate")(gate)
    joined = layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([seen, asked]))
    weight = layers.Conv2D(1, 1, activation="sigmoid", name=f"{name}_weight")(joined)
    return layers.Multiply(name=f"{name}_weighted")([skip, weight])


def _group_sizes(model: UnetSettings) -> tuple[int, int]:
    """Channels a group of the first and the second convolution of a pair; 0 for a plain one."""
    if isinstance(model, LighterUnetSettings):
        return model.group_size, model.group_size
    return (0, 1) if isinstance(model, LightUnetSettings) else (0, 0)


def _convolution(inputs: tf.Tensor, filters: int, group_size: int, model: UnetSettings, name: str) -> tf.Tensor:
    initializer = _INITIALIZERS[model.activation.removeprefix("nh")]
    if not group_size:
        return keras.layers.Conv2D(filters, 3, padding="same", kernel_initializer=initializer, name=name)(inputs)
    return GroupedConvolution(filters, group_size, kernel_initializer=initializer, name=name)(inputs)


def _normalize(inputs: tf.Tensor, normalization: str, name: str) -> tf.Tensor:
    if normalization == "batch":
        # The share of the old statistics and the offset are PyTorch's, which the published results stand on.
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(inputs)
    if normalization == "group":
        groups = math.gcd(_NORMALIZATION_GROUPS, inputs.shape[-1])
        return keras.layers.GroupNormalization(groups, epsilon=1e-5, name=name)(inputs)
    return inputs


def _activate(inputs: tf.Tensor, model: UnetSettings, name: str) -> tf.Tensor:
    function = model.activation.removeprefix("nh")
    if function != model.activation:
        return NoisyActivation(function, model.noise_form, model.noise, model.noise_deviation, name=name)(inputs)
    return keras.layers.Activation(function, name=name)(inputs)
