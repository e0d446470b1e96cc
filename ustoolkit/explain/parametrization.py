"""What is optimised in place of a picture: its pixels, or its spectrum."""

from typing import Any, Protocol

import numpy as np
import tensorflow as tf

_EPSILON = 1e-7  # that of Keras, which keras-vis adds to its divisors
_START_DEVIATION = 0.05  # of the range of values
_FIRST_COEFFICIENT = 0.01
_RATE = 0.05
_MOMENTS = (0.9, 0.999)
_ADAM_EPSILON = 1e-8

# Square root of the correlation of red, green and blue in ImageNet, its largest column brought to length 1; the numbers
# are those of the code to Olah et al., Feature Visualization, Distill 2017.
_COLOUR = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_COLOUR = (_COLOUR / np.linalg.norm(_COLOUR, axis=0).max()).astype(np.float32)

State = tuple[tf.Tensor, ...]


class Parametrization(Protocol):
    """How pictures are written as numbers, and how one step changes these.

    A state is a tuple of tensors, all with the pictures along the first axis; its first member is what gradients are
    taken of.
    """

    def drawn(self, seed: int, filters: np.ndarray) -> State:
        """A start for each filter, which depends on seed and filter alone."""

    def of_images(self, images: np.ndarray) -> State:
        """A start from given pictures, float32 (n, height, width, channels)."""

    def images(self, parameters: tf.Tensor) -> tf.Tensor:
        """The pictures, float32 (n, height, width, channels), of the first member of a state."""

    def step(self, state: State, gradients: tf.Tensor, number: tf.Tensor) -> State:
        """The state after a step downhill, `number` (int32, from 0) being how many went before."""


class Pixels:
    """Each pixel by itself, moved as keras-vis 0.4.1 moves it: by RMSProp without a learning rate.

    The gradient is divided by its own root mean square, so that a step is some grey levels whatever the filter. Values
    may leave the range of a picture.

    Args:
        size: height and width, pixels.
        channels: of the picture.
        input_range: smallest and largest value of a picture.
    """

    def __init__(self, size: tuple[int, int], channels: int, input_range: tuple[float, float]) -> None:
        self._shape = (*size, channels)
        self._range = input_range

    def drawn(self, seed: int, filters: np.ndarray) -> State:
        """Uniform noise about the middle of the range, 5 % of it the deviation, exactly in each picture."""
        low, high = self._range
        noise = np.stack([np.random.default_rng((seed, int(number))).random(self._shape) for number in filters])
        noise -= noise.mean((1, 2, 3), keepdims=True)
        noise /= noise.std((1, 2, 3), keepdims=True) + _EPSILON
        return self.of_images(noise * _START_DEVIATION * (high - low) + (low + high) / 2)

    def of_images(self, images: np.ndarray) -> State:
        """The pictures themselves."""
        pixels = tf.constant(images, tf.float32)
        return pixels, tf.zeros_like(pixels)

    def images(self, parameters: tf.Tensor) -> tf.Tensor:
        """The pictures themselves."""
        return parameters

    def step(self, state: State, gradients: tf.Tensor, number: tf.Tensor) -> State:
        """One step of RMSProp with decay 0.95."""
        pixels, squares = state
        mean_squares = tf.reduce_mean(tf.square(gradients), (1, 2, 3), keepdims=True)
        gradients *= 1.0 / (tf.sqrt(mean_squares) + _EPSILON)
        squares = 0.95 * squares + 0.05 * tf.square(gradients)
        return pixels - gradients * tf.math.rsqrt(squares + _EPSILON), squares


class Spectrum:
    """The picture's Fourier coefficients, so that a step changes broad shapes as readily as fine ones.

    After Olah et al., Feature Visualization, Distill 2017: the picture is the inverse real Fourier transform of a
    spectrum divided by its frequency, of three channels also mixed as colours go together in photographs, and brought
    into the range by a sigmoid. Steps are those of Adam at a rate of 0.05, as there.

    Args:
        size: height and width, pixels.
        channels: of the picture.
        input_range: smallest and largest value of a picture, which it never leaves.
    """

    def __init__(self, size: tuple[int, int], channels: int, input_range: tuple[float, float]) -> None:
        self._size, self._channels, self._range = size, channels, input_range
        frequencies = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
        # A quarter, and the root of the size, only set how far a step goes; they are those of the authors' code.
        self._scale = (0.25 * np.sqrt(size[0] * size[1]) / np.maximum(frequencies, 1 / max(size))).astype(np.float32)

    def drawn(self, seed: int, filters: np.ndarray) -> State:
        """Small random coefficients: the middle of the range with faint clouds."""
        shape = (self._channels, *self._scale.shape, 2)
        noise = [np.random.default_rng((seed, int(number))).normal(0, _FIRST_COEFFICIENT, shape) for number in filters]
        return self._state(np.stack(noise))

    def of_images(self, images: np.ndarray) -> State:
        """The coefficients of pictures; values at the ends of the range are moved inwards by a thousandth of it."""
        low, high = self._range
        share = np.clip((np.asarray(images, np.float64) - low) / (high - low), 0.001, 0.999)
        logits = np.log(share / (1 - share))
        if self._channels == 3:
            logits = logits @ np.linalg.inv(_COLOUR.T.astype(np.float64))
        spectrum = np.fft.rfft2(logits.transpose(0, 3, 1, 2)) / self._scale
        return self._state(np.stack([spectrum.real, spectrum.imag], axis=-1))

    def images(self, parameters: tf.Tensor) -> tf.Tensor:
        """The pictures, within the range."""
        low, high = self._range
        spectrum = tf.complex(parameters[..., 0] * self._scale, parameters[..., 1] * self._scale)
        logits = tf.transpose(tf.signal.irfft2d(spectrum, self._size), (0, 2, 3, 1))
        logits = tf.ensure_shape(logits, (None, *self._size, self._channels))
        if self._channels == 3:
            logits = tf.einsum("nhwc,rc->nhwr", logits, _COLOUR)
        return low + (high - low) * tf.sigmoid(logits)

    def step(self, state: State, gradients: tf.Tensor, number: tf.Tensor) -> State:
        """One step of Adam (Kingma and Ba, 2015)."""
        parameters, mean, square = state
        passed = tf.cast(number + 1, tf.float32)
        mean = _MOMENTS[0] * mean + (1 - _MOMENTS[0]) * gradients
        square = _MOMENTS[1] * square + (1 - _MOMENTS[1]) * tf.square(gradients)
        mean_now, square_now = mean / (1 - _MOMENTS[0] ** passed), square / (1 - _MOMENTS[1] ** passed)
        return parameters - _RATE * mean_now / (tf.sqrt(square_now) + _ADAM_EPSILON), mean, square

    def _state(self, coefficients: np.ndarray) -> State:
        parameters = tf.constant(coefficients, tf.float32)
        return parameters, tf.zeros_like(parameters), tf.zeros_like(parameters)


PARAMETRIZATIONS: dict[str, Any] = {"pixels": Pixels, "fourier": Spectrum}
