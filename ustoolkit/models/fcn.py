"""Fully convolutional networks on VGG16: one with its fully connected layers, one with its convolutions alone."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.dropout import CountedDropout
from ustoolkit.layers.preprocessing import PixelNormalization
from ustoolkit.recipe.networks import FcnFullySettings, FcnSettings
from ustoolkit.recipe.settings import DataSettings

VGG16_CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each block


def build_fcn(model: FcnSettings, data: DataSettings, outputs: int) -> keras.Model:
    """Builds the FCN that Li et al. compare with (Lightweight U-Net …, ISBI 2021).

    VGG16's convolutions, then five transposed 3 × 3 convolutions of stride 2, each with ReLU, the skip added where
    there is one, and batch normalization; a 1 × 1 convolution ends it. FCN-16s adds the features at stride 16, FCN-8s
    those at 16 and 8. With the published widths, three channels and one logit FCN-8s has 18,643,713 trainable weights.

    Args:
        model: which of the three, and its widths.
        data: the input's size, multiples of 32, and channels.
        outputs: logits a pixel: 1 for lesion or not, else one a class.
    Returns:
        a model from (batch, height, width, channels), values 0 to 255, to float32 (batch, height, width, outputs).
    """
    inputs, pooled = _encoder(model, data)
    skips = {16: pooled[3], 8: pooled[2]}
    current, stride = pooled[4], model.stride
    for number, width in enumerate(model.transposed_widths, start=1):
        stride //= 2
        name = f"decoder{number}"
        current = keras.layers.Conv2DTranspose(
            width, 3, 2, "same", kernel_initializer="he_normal", name=f"{name}_conv"
        )(current)
        current = keras.layers.ReLU(name=f"{name}_relu")(current)
        if model.finest_skip <= stride < model.stride:
            current = keras.layers.Add(name=f"{name}_add")([current, skips[stride]])
        current = keras.layers.BatchNormalization(name=f"{name}_norm")(current)
    logits = keras.layers.Conv2D(outputs, 1, name="logits_conv")(current)
    return _model(inputs, logits, model.name)


def build_fcn_fully(model: FcnFullySettings, data: DataSettings, outputs: int) -> keras.Model:
    """Builds the FCN of Long et al. (Fully Convolutional Networks for Semantic Segmentation, CVPR 2015).

    VGG16 with its fully connected layers as convolutions, of 7 × 7 and 1 × 1, and a score for each class; transposed
    convolutions that begin as bilinear interpolation bring scores to the next finer skip, whose own score, zero at
    first, is added, and at last to the input's size. Convolutions are padded to keep their size, where the authors pad
    the image by 100 pixels and crop; the input must be of multiples of 32 for that.

    Args:
        model: which of the three, and its widths.
        data: the input's size, multiples of 32, and channels.
        outputs: logits a pixel: 1 for lesion or not, else one a class.
    Returns:
        a model from (batch, height, width, channels), values 0 to 255, to float32 (batch, height, width, outputs).
    """
    inputs, pooled = _encoder(model, data)
    current = pooled[4]
    for name, width, side in zip(("fc6", "fc7"), model.fully_connected_widths, (7, 1), strict=True):
        current = keras.layers.Conv2D(
            width, side, padding="same", activation="relu", kernel_initializer="he_normal", name=name
        )(current)
        current = CountedDropout(model.dropout, name=f"{name}_dropout")(current)
    scores = keras.layers.Conv2D(outputs, 1, name="score_fc7")(current)
    stride = model.stride
    for block, skip in ((4, pooled[3]), (3, pooled[2])):
        if stride == model.finest_skip:
            break
        stride //= 2
        # Scores of the skip begin at zero, so that a finer network begins as the coarser one.
        own = keras.layers.Conv2D(outputs, 1, kernel_initializer="zeros", name=f"score_pool{block}")(skip)
        scores = keras.layers.Add(name=f"score_sum{block}")([upsampled(scores, 2, f"up_{stride}"), own])
    return _model(inputs, upsampled(scores, stride, "up_1"), model.name)


def bilinear_kernel(factor: int, channels: int) -> np.ndarray:
    """Weights by which a transposed convolution interpolates linearly, each channel by itself.

    Args:
        factor: by which the image grows, at least 1.
        channels: of input and output.
    Returns:
        float32 (side, side, channels, channels) for a stride of the factor and padding 'same'; the side is twice the
        factor, less 1 where the factor is odd, so that it has a centre.
    """
    side = 2 * factor - factor % 2
    centre = (side - 1) / 2
    line = 1 - np.abs(np.arange(side) - centre) / factor
    return np.einsum("h,w,oi->hwoi", line, line, np.eye(channels)).astype(np.float32)


def upsampled(scores: tf.Tensor, factor: int, name: str) -> tf.Tensor:
    """Scores grown by a transposed convolution that begins as bilinear interpolation.

    Args:
        scores: a Keras tensor, float (batch, height, width, channels).
        factor: by which both sides grow, at least 1.
        name: of the layer.
    Returns:
        a Keras tensor (batch, factor · height, factor · width, channels).
    """
    channels = scores.shape[-1]
    kernel = bilinear_kernel(factor, channels)
    return keras.layers.Conv2DTranspose(
        channels,
        len(kernel),
        factor,
        "same",
        use_bias=False,
        kernel_initializer=keras.initializers.Constant(kernel),
        name=name,
    )(scores)


def _encoder(model: FcnSettings | FcnFullySettings, data: DataSettings) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The input, and the pooled features of VGG16's five blocks; layers are named as Keras names them."""
    inputs = keras.layers.Input((*data.image_size, data.channels), name="image")
    current = PixelNormalization(model.pixel_normalization, name="pixels")(inputs)
    pooled = []
    for block, (width, convolutions) in enumerate(zip(model.widths, VGG16_CONVOLUTIONS, strict=True), start=1):
        for number in range(1, convolutions + 1):
            current = keras.layers.Conv2D(
                width,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"block{block}_conv{number}",
            )(current)
        current = keras.layers.MaxPool2D(name=f"block{block}_pool")(current)
        pooled.append(current)
    return inputs, pooled


def _model(inputs: tf.Tensor, logits: tf.Tensor, name: str) -> keras.Model:
    return keras.Model(inputs, keras.layers.Activation("linear", dtype="float32", name="logits")(logits), name=name)
