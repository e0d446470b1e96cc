"""Dropout whose random numbers are counted, so that a resumed run draws those that an uninterrupted one would."""

from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.saving.register_keras_serializable("ustoolkit")
class CountedDropout(keras.layers.Layer):
    """Sets a random share of the values to 0 while training and scales the others up (Srivastava et al., 2014).

    Keras's own layer keeps its random state outside checkpoints. This one draws statelessly from a counter, a
    weight that is not trained: it starts where the global seed says and moves on by one with each training step.

    Args:
        rate: share of values set to 0, in [0, 1).
    Input and output: float, any shape, the same; unchanged at inference.
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"expected a rate of at least 0 and below 1, found {rate}")
        self.rate = rate

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the counter."""
        self.counter = self.add_weight(
            "counter",
            shape=(),
            dtype=tf.int32,
            initializer=lambda shape, dtype: tf.random.uniform(shape, maxval=2**30, dtype=dtype),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Draws anew for each step, each replica, and each layer of a model."""
        if training is None:
            training = keras.backend.learning_phase()
        if not training or self.rate == 0:
            return inputs
        replica = tf.distribute.get_replica_context()
        number = replica.replica_id_in_sync_group if replica is not None else 0
        dropped = tf.nn.experimental.stateless_dropout(inputs, self.rate, seed=tf.stack([self.counter, number]))
        self.counter.assign_add(1)
        return dropped

    def get_config(self) -> dict[str, Any]:
        """The arguments that rebuild the layer."""
        return {**super().get_config(), "rate": self.rate}
