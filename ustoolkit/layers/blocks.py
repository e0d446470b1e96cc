"""Building blocks that networks share, as functions on Keras tensors."""

import tensorflow as tf
import tf_keras as keras


def double_convolution(inputs: tf.Tensor, middle: int, filters: int, normalization: str, name: str) -> tf.Tensor:
    """Two 3 × 3 convolutions with bias, each followed by normalisation and ReLU.

    Args:
        inputs: (batch, height, width, channels).
        middle: filters of the first convolution.
        filters: filters of the second.
        normalization: 'batch' or 'none'.
        name: prefix of the layers' names.
    Returns:
        (batch, height, width, filters).
    """
    outputs = inputs
    for number, width in enumerate((middle, filters), start=1):
        outputs = keras.layers.Conv2D(
            width, 3, padding="same", kernel_initializer="he_normal", name=f"{name}_conv{number}"
        )(outputs)
        if normalization == "batch":
            # The share of the old statistics and the offset are PyTorch's, which the published results stand on.
            layer = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm{number}")
            outputs = layer(outputs)
        outputs = keras.layers.ReLU(name=f"{name}_relu{number}")(outputs)
    return outputs
