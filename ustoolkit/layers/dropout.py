"""Dropout that resumes and repeats exactly."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.counted import CountedLayer, is_training


@keras.saving.register_keras_serializable("ustoolkit")
class CountedDropout(CountedLayer):
    """Sets a random share of the values to 0 while training and scales the others up (Srivastava et al., 2014).

    Args:
        rate: share of values set to 0, in [0, 1).
    Input and output: float, any shape, the same; unchanged at inference.
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"expected a rate of at least 0 and below 1, found {rate}")
        self.rate = rate

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Draws anew for each step, each replica, and each layer of a model."""
        if not is_training(training) or self.rate == 0:
            return inputs
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, seed=self.next_seed())

    def get_config(self) -> dict[str, Any]:
        """The arguments that rebuild the layer."""
        return {**super().get_config(), "rate": self.rate}
