"""Raw pixel values to network inputs, inside the model, so that training and serving cannot differ."""

from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.saving.register_keras_serializable("ustoolkit")
class PixelNormalization(keras.layers.Layer):
    """Maps pixel values of 0 to 255 to the range that the network is trained on.

    Args:
        mode: 'unit' divides by 255; 'standardize' brings each image to mean 0 and standard deviation 1 (an image of
            one value becomes 0).
    Input and output: (batch, height, width, channels); the output is in the layer's compute type.
    """

    def __init__(self, mode: str = "unit", **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        if mode not in ("unit", "standardize"):
            raise ValueError(f"expected mode 'unit' or 'standardize', found {mode!r}")
        self.mode = mode

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Computes in float32 whatever the policy, since 255² does not fit float16's precision."""
        pixels = tf.cast(inputs, tf.float32)
        if self.mode == "unit":
            pixels = pixels / 255.0
        else:
            mean, variance = tf.nn.moments(pixels, axes=[1, 2, 3], keepdims=True)
            pixels = (pixels - mean) * tf.math.rsqrt(variance + 1.0)
        return tf.cast(pixels, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments that rebuild the layer."""
        return {**super().get_config(), "mode": self.mode}
