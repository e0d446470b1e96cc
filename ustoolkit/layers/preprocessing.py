"""Raw pixel values to network inputs, inside the model, so that training and serving cannot differ."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

_IMAGENET_MEAN = (123.675, 116.28, 103.53)  # red, green, blue, of values from 0 to 255
_IMAGENET_DEVIATION = (58.395, 57.12, 57.375)
_IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)  # as Caffe rounded it
_MODES = ("unit", "standardize", "symmetric", "imagenet", "imagenet_bgr", "none")


@keras.saving.register_keras_serializable("ustoolkit")
class PixelNormalization(keras.layers.Layer):
    """Maps pixel values of 0 to 255 to the range that the network is trained on.

    Args:
        mode: 'unit' divides by 255; 'standardize' brings each image to mean 0 and standard deviation 1 (an image of
            one value becomes 0); 'symmetric' maps to -1 to 1; 'imagenet' takes ImageNet's mean colour away and divides
            by its deviation; 'imagenet_bgr' puts blue first and takes the mean away, the values staying large; 'none'
            leaves values as they are.
        mask_channel: whether the last channel is a mask of 0 and 255; it becomes 0 and 1 in any mode.
    Input and output: (batch, height, width, channels); the output is in the layer's compute type. A grey image is taken
    as one of three equal channels, and its output has one: the channels' mean. A mask stays the last channel.
    """

    def __init__(self, mode: str = "unit", mask_channel: bool = False, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        if mode not in _MODES:
            raise ValueError(f"expected one of {', '.join(map(repr, _MODES))}, found {mode!r}")
        self.mode = mode
        self.mask_channel = mask_channel

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Computes in float32 whatever the policy, since 255² does not fit float16's precision."""
        values = tf.cast(inputs, tf.float32)
        if self.mask_channel:
            pixels, mask = values[..., :-1], values[..., -1:]
            values = tf.concat([self._normalized(pixels), mask / 255.0], axis=-1)
        else:
            values = self._normalized(values)
        return tf.cast(values, self.compute_dtype)

    def _normalized(self, pixels: tf.Tensor) -> tf.Tensor:
        if self.mode == "none":
            return pixels
        if self.mode == "unit":
            return pixels / 255.0
        if self.mode == "symmetric":
            return pixels / 127.5 - 1.0
        if self.mode == "standardize":
            mean, variance = tf.nn.moments(pixels, axes=[1, 2, 3], keepdims=True)
            return (pixels - mean) * tf.math.rsqrt(variance + 1.0)
        return self._less_imagenet_mean(pixels)

    def _less_imagenet_mean(self, pixels: tf.Tensor) -> tf.Tensor:
        if self.mode == "imagenet_bgr":
            centred = pixels[..., ::-1] - tf.constant(_IMAGENET_MEAN_BGR)
        else:
            centred = (pixels - tf.constant(_IMAGENET_MEAN)) / tf.constant(_IMAGENET_DEVIATION)
        return centred if pixels.shape[-1] == 3 else tf.reduce_mean(centred, -1, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        """The arguments that rebuild the layer."""
        return {**super().get_config(), "mode": self.mode, "mask_channel": self.mask_channel}
