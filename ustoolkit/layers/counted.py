"""Random numbers by counting, so that a resumed run draws those that an uninterrupted one would."""

import tensorflow as tf
import tf_keras as keras


class CountedLayer(keras.layers.Layer):
    """Base of the layers that are random while training.

    Keras's own keep their random state outside checkpoints. These draw statelessly from a counter, a weight that is
    not trained: it starts where the global seed says and moves on by one with each training step.
    """

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

    def next_seed(self) -> tf.Tensor:
        """int32 (2,), other for each step, replica and layer; moves the counter on."""
        replica = tf.distribute.get_replica_context()
        number = replica.replica_id_in_sync_group if replica is not None else 0
        seed = tf.stack([self.counter.read_value(), number])
        with tf.control_dependencies([seed]):
            self.counter.assign_add(1)
        return seed


def is_training(training: bool | None) -> bool:
    """Whether a layer that was called with `training` is to be random; None asks Keras."""
    return bool(keras.backend.learning_phase() if training is None else training)
