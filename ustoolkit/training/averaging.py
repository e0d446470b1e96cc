"""Averages of the weights over training, which are validated and kept in their place."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf
import tf_keras as keras

from ustoolkit.recipe.training import TrainingSettings


class WeightAverage(tf.Module):
    """The exponential moving average of a model's weights over steps, or their mean over epochs.

    The first is that of Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992; the other
    one that of Izmailov et al., Averaging weights leads to wider optima, UAI 2018. Statistics of batch
    normalisation are averaged alike. Counters and other integers are not. To be made within the strategy's scope.

    Args:
        model: whose weights.
        settings: `averaging`, which is not 'off', its decay and its start.
    """

    def __init__(self, model: keras.Model, settings: TrainingSettings) -> None:
        super().__init__(name="average")
        self._settings = settings
        self._weights = [weight for weight in model.weights if weight.dtype.is_floating]
        # Each device has its own, so that none are sent; they are equal but for statistics that are not synchronised.
        own = {"trainable": False, "synchronization": tf.VariableSynchronization.ON_READ}
        first, mean = tf.VariableAggregation.ONLY_FIRST_REPLICA, tf.VariableAggregation.MEAN
        learnt = {id(weight) for weight in model.trainable_weights}
        self.averages = [
            tf.Variable(weight, aggregation=first if id(weight) in learnt else mean, **own) for weight in self._weights
        ]
        self.taken = tf.Variable(0, dtype=tf.int64, aggregation=first, **own)

    def begin(self) -> None:
        """Takes the weights as they are for the average, such as after a new run got its first ones."""
        self._assign(self.averages, self._weights)
        self.taken.assign(0)

    def after_step(self) -> None:
        """Moves the exponential average on; to be called within the step, after the optimiser."""
        if self._settings.averaging != "ema":
            return
        # At first the average is short, lest it hold on to the weights that training began with.
        number = tf.cast(self.taken, tf.float32)
        decay = tf.minimum(self._settings.averaging_decay, (1.0 + number) / (10.0 + number))
        for average, weight in zip(self.averages, self._weights, strict=True):
            average.assign(average + (1.0 - decay) * (weight - average))
        self.taken.assign(self.taken + 1)

    def after_epoch(self, fraction_done: float) -> None:
        """Takes the weights into the mean, once enough of the training (0 to 1) is done; before, they are the mean."""
        if self._settings.averaging != "swa":
            return
        if fraction_done < self._settings.averaging_start:
            self.begin()
            return
        share = 1.0 / (int(self.taken) + 1)
        for average, weight in zip(self.averages, self._weights, strict=True):
            average.assign(average + share * (weight - average))
        self.taken.assign(self.taken + 1)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averages for weights, to be validated and saved, until the end of the block."""
        own = [weight.numpy() for weight in self._weights]
        self._assign(self._weights, self.averages)
        try:
            yield
        finally:
            self._assign(self._weights, own)

    @staticmethod
    def _assign(variables: list[tf.Variable], values: list) -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(tf.convert_to_tensor(value))
