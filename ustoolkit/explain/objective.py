"""What a picture that excites a filter should minimise: little activation, large values, and unrest cost."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from ustoolkit.errors import RecipeError

_LARGEST_PRODUCT = 16.0  # powers up to here are products, many times faster than the logarithm that tf.pow takes
_AXES = (1, 2, 3)  # of one image


@dataclass(frozen=True)
class Objective:
    """The weighted terms of the loss that activation maximization minimises, by default those of keras-vis 0.4.1.

    The terms are of Simonyan et al., Deep Inside Convolutional Networks, 2014 (the activation and a norm), and of
    Mahendran and Vedaldi, Visualizing Deep Convolutional Neural Networks Using Natural Pre-images, 2016 (the sixth norm
    and total variation).

    Args:
        activation_weight: of minus the filter's mean output over all positions.
        lp_norm_weight: of the norm of the picture's values.
        lp_norm: which norm, at least 1; math.inf for the largest value.
        total_variation_weight: of the differences between neighbouring pixels.
        total_variation_power: the exponent of their root of squares, above 0; 2 is the plain sum of squares.
    Raises:
        RecipeError: a number is out of its range.
    """

    activation_weight: float = 1.0
    lp_norm_weight: float = 10.0
    lp_norm: float = 6.0
    total_variation_weight: float = 10.0
    total_variation_power: float = 2.0

    def __post_init__(self) -> None:
        for name in ("activation_weight", "lp_norm_weight", "total_variation_weight"):
            if not math.isfinite(getattr(self, name)):
                raise RecipeError(f"objective, {name}: expected a finite number, found {getattr(self, name)}. Set one.")
        if not self.lp_norm >= 1:
            raise RecipeError(f"objective, lp_norm: expected at least 1, found {self.lp_norm}. Set it to 6, or so.")
        if not 0 < self.total_variation_power < math.inf:
            raise RecipeError(
                f"objective, total_variation_power: expected a number above 0, found {self.total_variation_power}. "
                "Set it to 2, or another."
            )


def objective_losses(objective: Objective, images: tf.Tensor, activations: tf.Tensor, filters: tf.Tensor) -> tf.Tensor:
    """The loss of each picture on its own; a batch of one has that of keras-vis 0.4.1.

    Args:
        objective: weights and exponents of the terms.
        images: float32 (n, height, width, channels), pixel values.
        activations: float (n, …, filters), what the layer makes of them: (n, filters) of a dense layer.
        filters: int (n,), which filter each picture should excite.
    Returns:
        float32 (n,).
    """
    losses = tf.zeros_like(images[:, 0, 0, 0])
    if objective.activation_weight:
        losses -= objective.activation_weight * mean_activations(activations, filters)
    if objective.lp_norm_weight:
        losses += objective.lp_norm_weight * _lp_norms(images, objective.lp_norm)
    if objective.total_variation_weight:
        losses += objective.total_variation_weight * _total_variations(images, objective.total_variation_power)
    return losses


def mean_activations(activations: tf.Tensor, filters: tf.Tensor) -> tf.Tensor:
    """The mean output over all positions of one filter for each picture.

    Args:
        activations: float (n, …, filters).
        filters: int (n,).
    Returns:
        float32 (n,).
    """
    activations = tf.cast(activations, tf.float32)
    # The mean first: what is gathered from is small then, and so is its gradient.
    means = tf.reduce_mean(activations, axis=list(range(1, len(activations.shape) - 1)))
    return tf.gather(means, filters, batch_dims=1)


def _lp_norms(images: tf.Tensor, power: float) -> tf.Tensor:
    """The norm over the number of values; of the infinite one the largest value, not the largest size, as keras-vis."""
    if math.isinf(power):
        return tf.reduce_max(images, _AXES) / _values(images)

    # Gradients are written out, since those that TensorFlow derives, with one pass for each operation and for each
    # slice, take four times as long: a tenth of a whole step.
    @tf.custom_gradient
    def norms(images: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        # Relative to the largest, since 255 to a high power is beyond float32.
        largest = tf.reduce_max(tf.abs(images), _AXES, keepdims=True)
        sizes = tf.math.divide_no_nan(tf.abs(images), largest)
        lesser = _power(sizes, power - 1)
        sums = tf.reduce_sum(lesser * sizes, _AXES, keepdims=True)
        # An image of zeros has the norm 0, and no direction that would lessen it.
        sums = tf.where(largest > 0, sums, 1.0)

        def gradients(outer: tf.Tensor) -> tf.Tensor:
            factors = _spread(outer) * tf.pow(sums, 1 / power - 1) / _values(images)
            return tf.sign(images) * lesser * factors

        return tf.reshape(largest * tf.pow(sums, 1 / power), (-1,)) / _values(images), gradients

    return norms(images)


def _total_variations(images: tf.Tensor, power: float) -> tf.Tensor:
    """The sum over positions with a neighbour below and one to the right, over the number of values."""

    @tf.custom_gradient
    def variations(images: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        corner = images[:, :-1, :-1]
        down, right = images[:, 1:, :-1] - corner, images[:, :-1, 1:] - corner
        squares = tf.square(down) + tf.square(right)

        def gradients(outer: tf.Tensor) -> tf.Tensor:
            factors = 2.0
            if power != 2:
                # The slope of a root is infinite at 0, where neighbours are equal and none would lessen it.
                factors = power * tf.where(squares > 0, _power(tf.where(squares > 0, squares, 1.0), power / 2 - 1), 0.0)
            pulled_down, pulled_right = factors * down, factors * right
            moved = tf.pad(pulled_down, ((0, 0), (1, 0), (0, 1), (0, 0)))
            moved += tf.pad(pulled_right, ((0, 0), (0, 1), (1, 0), (0, 0)))
            moved -= tf.pad(pulled_down + pulled_right, ((0, 0), (0, 1), (0, 1), (0, 0)))
            return moved * (_spread(outer) / _values(images))

        return tf.reduce_sum(_power(squares, power / 2), _AXES) / _values(images), gradients

    return variations(images)


def _power(values: tf.Tensor, power: float) -> tf.Tensor:
    if power != int(power) or not 0 < power <= _LARGEST_PRODUCT:
        return tf.pow(values, power)
    result, left = None, int(power)
    while left:
        if left % 2:
            result = values if result is None else result * values
        left //= 2
        values = tf.square(values) if left else values
    return result


def _spread(numbers: tf.Tensor) -> tf.Tensor:
    return numbers[:, None, None, None]


def _values(images: tf.Tensor) -> float:
    return float(images.shape[1] * images.shape[2] * images.shape[3])
