"""Activations with noise while training: NHReLU and NHSeLU of the lymph-node paper."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.counted import CountedLayer, is_training

_SELU_SCALE = 1.0507009873554805  # Klambauer et al., Self-Normalizing Neural Networks, 2017

# The activation, and its linear piece above 0 continued below it.
_ACTIVATIONS: dict[str, tuple[Callable[[tf.Tensor], tf.Tensor], float]] = {
    "relu": (tf.nn.relu, 1.0),
    "selu": (tf.nn.selu, _SELU_SCALE),
}


@keras.saving.register_keras_serializable("ustoolkit")
class NoisyActivation(CountedLayer):
    """ReLU or SELU with noise while training, the plain function at inference.

    The lymph-node paper names its activations NHReLU and NHSeLU and prints a noise of 0.05 and a standard deviation of
    0.5, but no formula. The names are read after Gulcehre et al., Noisy Activation Functions, ICML 2016, with c the
    noise, σ the deviation, and ξ drawn from N(0, σ²) for each value in each step:

    'input' (there NANI): h(x + c·ξ), noise before the activation, everywhere.
    'saturation' (there NAN): h(x) + c·(h(x) − u(x))·ξ, where u is the linear piece of h above 0 continued below it. So
        there is no noise above 0, and below it grows with the distance that saturation took away, which leaves a
        gradient where ReLU has none. Gulcehre et al. also learn a slope of that distance; here it is 1.

    Args:
        activation: 'relu' or 'selu', the h.
        form: 'input' or 'saturation'.
        noise: c, at least 0.
        deviation: σ, at least 0.
    Input and output: float, any shape, the same. Noise is drawn in float32 whatever the compute type.
    """

    def __init__(
        self, activation: str, form: str = "input", noise: float = 0.05, deviation: float = 0.5, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if activation not in _ACTIVATIONS:
            raise ValueError(f"expected activation 'relu' or 'selu', found {activation!r}")
        if form not in ("input", "saturation"):
            raise ValueError(f"expected form 'input' or 'saturation', found {form!r}")
        if noise < 0 or deviation < 0:
            raise ValueError(f"expected noise and deviation of at least 0, found {noise} and {deviation}")
        self.activation, self.form, self.noise, self.deviation = activation, form, noise, deviation

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Draws anew for each value, step, replica, and layer of a model."""
        function, slope = _ACTIVATIONS[self.activation]
        if not is_training(training) or self.noise * self.deviation == 0:
            return function(inputs)
        drawn = tf.random.stateless_normal(tf.shape(inputs), self.next_seed(), stddev=self.noise * self.deviation)
        drawn = tf.cast(drawn, inputs.dtype)
        if self.form == "input":
            return function(inputs + drawn)
        outputs = function(inputs)
        # Above 0 both pieces are the same function, and rounding must not make noise of their difference.
        distance = tf.where(inputs < 0, outputs - tf.cast(slope, inputs.dtype) * inputs, tf.zeros_like(inputs))
        return outputs + distance * drawn

    def get_config(self) -> dict[str, Any]:
        """The arguments that rebuild the layer."""
        own = {key: getattr(self, key) for key in ("activation", "form", "noise", "deviation")}
        return {**super().get_config(), **own}
