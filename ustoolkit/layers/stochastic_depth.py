"""Residual branches left out at random while training, so that it resumes and repeats exactly."""

import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.counted import is_training
from ustoolkit.layers.dropout import CountedDropout


@keras.saving.register_keras_serializable("ustoolkit")
class StochasticDepth(CountedDropout):
    """Sets all features of a random share of the images to 0 while training and scales the others up.

    Before the sum that ends a residual block it leaves the block out (Huang et al., Deep Networks with Stochastic
    Depth, ECCV 2016).

    Args:
        rate: share of images whose features are set to 0, in [0, 1).
    Input and output: float (batch, height, width, channels), the same shape; unchanged at inference.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Draws anew for each step, each replica, and each layer of a model."""
        if not is_training(training) or self.rate == 0:
            return inputs
        images = [tf.shape(inputs)[0], *[1] * (len(inputs.shape) - 1)]
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, seed=self.next_seed(), noise_shape=images)
