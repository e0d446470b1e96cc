"""DenseNet of any width and depth, as torchvision defines it; Keras has no DenseNet161."""

import tensorflow as tf
import tf_keras as keras

_BOTTLENECK = 4  # filters of the 1 × 1 convolution before each 3 × 3 one, in growth rates
_EPSILON, _MOMENTUM = 1e-5, 0.9  # torchvision's; its momentum, 0.1, is the share of the new batch


def dense_features(
    image: tf.Tensor, growth_rate: int, initial_filters: int, blocks: tuple[int, ...]
) -> list[tf.Tensor]:
    """Features of a DenseNet (Huang et al., Densely Connected Convolutional Networks, CVPR 2017).

    A 7 × 7 convolution and a pooling, both of stride 2, then blocks of dense layers, each of which adds its filters to
    all that came before it in the block; a transition between two blocks halves the channels and both sides.
    DenseNet161 has a growth rate of 48, 96 initial filters and blocks of 6, 12, 36 and 24; with a head of 1,000 classes
    these are 28,681,000 trainable weights. Layers are named as in torchvision, with _ between the parts of a name; the
    last normalization is norm5 also where there are fewer blocks.

    Args:
        image: a Keras tensor, float (batch, height, width, channels), normalised.
        growth_rate: filters that each dense layer adds.
        initial_filters: of the first convolution.
        blocks: dense layers of each block.
    Returns:
        for each block its features after normalization and ReLU, Keras tensors (batch, height / s, width / s, channels)
        with s = 4, 8, …, sides rounded down.
    """
    current = keras.layers.ZeroPadding2D(3, name="pad0")(image)
    current = _convolution(current, initial_filters, 7, "conv0", strides=2, padding="valid")
    current = _activated(current, "norm0", "relu0")
    # Values are 0 or more here, so that zeros around them are what torch's pooling takes.
    current = keras.layers.ZeroPadding2D(1, name="pad1")(current)
    current = keras.layers.MaxPool2D(3, 2, name="pool0")(current)
    features = []
    for block, dense_layers in enumerate(blocks, start=1):
        for number in range(1, dense_layers + 1):
            current = _dense_layer(current, growth_rate, f"denseblock{block}_denselayer{number}")
        if block == len(blocks):
            features.append(_activated(current, "norm5", "relu"))
            break
        name = f"transition{block}"
        features.append(_activated(current, f"{name}_norm", f"{name}_relu"))
        current = _convolution(features[-1], current.shape[-1] // 2, 1, f"{name}_conv")
        current = keras.layers.AveragePooling2D(2, name=f"{name}_pool")(current)
    return features


def _dense_layer(inputs: tf.Tensor, growth_rate: int, name: str) -> tf.Tensor:
    current = _activated(inputs, f"{name}_norm1", f"{name}_relu1")
    current = _convolution(current, _BOTTLENECK * growth_rate, 1, f"{name}_conv1")
    current = _activated(current, f"{name}_norm2", f"{name}_relu2")
    current = _convolution(current, growth_rate, 3, f"{name}_conv2")
    return keras.layers.Concatenate(name=f"{name}_joined")([inputs, current])


def _convolution(
    inputs: tf.Tensor, filters: int, side: int, name: str, strides: int = 1, padding: str = "same"
) -> tf.Tensor:
    return keras.layers.Conv2D(
        filters, side, strides, padding, use_bias=False, kernel_initializer="he_normal", name=name
    )(inputs)


def _activated(inputs: tf.Tensor, norm: str, relu: str) -> tf.Tensor:
    normalized = keras.layers.BatchNormalization(momentum=_MOMENTUM, epsilon=_EPSILON, name=norm)(inputs)
    return keras.layers.ReLU(name=relu)(normalized)
