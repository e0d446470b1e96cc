"""`scanner_changes` for whole batches in TensorFlow, each image with its own strength.

Smoothing and resampling along an axis are products with a matrix an image, since a convolution has one kernel for all.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from ustoolkit.data import scanner_changes as scanner
from ustoolkit.data.keyed_draws import KeyedDraws

_BLOCK = 32  # pixels smoothed by one product


def coarser(values: tf.Tensor, reach: float, draws: KeyedDraws) -> tf.Tensor:
    """Loses detail as by a scanner of lower resolution, as `scanner_changes.coarser`.

    Args:
        values: float32 (batch, height, width, channels), whole numbers from 0 to 255; so in all functions here.
        reach: the largest factor along either axis.
        draws: of this batch.
    Returns:
        float32, of the same shape, whole numbers from 0 to 255.
    """
    size = tf.shape(values)
    down, across = (_averaging(size[1 + axis], draws.uniform(f"resolution {axis}", 1.0, reach)) for axis in (0, 1))

    def averaged(planes: tf.Tensor) -> tf.Tensor:
        return tf.matmul(tf.matmul(down[:, tf.newaxis], planes), across[:, tf.newaxis], transpose_b=True)

    return tf.round(_of_planes(averaged, values))


def blurred(values: tf.Tensor, reach: float, draws: KeyedDraws) -> tf.Tensor:
    """Smooths, as `scanner_changes.blurred`; `reach` is the largest deviation in pixels."""
    deviation = draws.uniform("blur", 0.0, reach)
    margin = int(round(6 * reach + 1) // 2)
    # OpenCV's kernel of bytes reaches as far, and mirrors the image about its outermost pixels.
    inside = tf.round(6 * deviation + 1) // 2
    kernels = _gaussian(margin, tf.maximum(deviation, 1e-3))
    kernels *= tf.cast(tf.abs(tf.range(-margin, margin + 1.0)) <= inside[:, None], tf.float32)
    kernels /= tf.reduce_sum(kernels, 1, keepdims=True)
    size = tf.shape(values)
    rows, columns = (_mirrored(_places(size[axis], margin), size[axis]) for axis in (1, 2))

    def smoothed(planes: tf.Tensor) -> tf.Tensor:
        return _smoothed(planes, (rows, columns), (kernels, kernels))[:, :, : size[1], : size[2]]

    return tf.round(_of_planes(smoothed, values))


def speckled(values: tf.Tensor, reach: float, draws: KeyedDraws) -> tf.Tensor:
    """Multiplies with fully developed speckle, as `scanner_changes.speckled`; `reach` is the largest deviation."""
    size, margin = tf.shape(values), scanner.SPECKLE_REACH
    drawn = [draws.uniform(f"speckle cell {side}", *scanner.SPECKLE_CELL) for side in "ab"]
    cells = tf.minimum(*drawn), tf.maximum(*drawn)  # axial, lateral
    kernels = [_gaussian(margin, cell * (1 / scanner.WIDTH_PER_DEVIATION)) for cell in cells]
    kernels = [kernel / tf.norm(kernel, axis=1, keepdims=True) for kernel in kernels]
    places = [_places(size[axis], margin) for axis in (1, 2)]
    picks = draws.bytes("speckle", (2, places[0][-1, -1] + 1, places[1][-1, -1] + 1))
    noise = tf.gather(tf.constant(scanner.NORMAL_BY_BYTE), tf.cast(picks, tf.int32))
    quadratures = _smoothed(noise, places, kernels)[:, :, : size[1], : size[2]]
    amplitude = tf.sqrt(tf.reduce_sum(quadratures**2, 1))[..., tf.newaxis]
    pattern = (amplitude - scanner.RAYLEIGH_MEAN) * (1 / scanner.RAYLEIGH_DEVIATION)
    return _multiplied(values, 1 + _per_image(draws.uniform("speckle deviation", 0.0, reach)) * pattern)


def shadowed(values: tf.Tensor, share: float, draws: KeyedDraws) -> tf.Tensor:
    """Lays an acoustic shadow over that share of images, as `scanner_changes.shadowed`."""
    drawn = [_per_image(draws.uniform(f"shadow {place}", *reach)) for place, reach in enumerate(scanner.SHADOW)]
    start, centre, half_width, spread, edge, loss = drawn
    loss = tf.where(_per_image(draws.happens("shadow", share)), loss, 0.0)
    size = tf.cast(tf.shape(values)[1:3], tf.float32)
    below = ((tf.range(size[0]) + 0.5) / size[0])[None, :, None, None] - start
    across = ((tf.range(size[1]) + 0.5) / size[1] - 0.5)[None, None, :, None]
    distance = tf.abs(across / (1 + spread * tf.maximum(below, 0.0)) - (centre - 0.5))
    inside = _smooth_step((half_width - distance) / (edge * half_width) + 0.5)
    return _multiplied(values, 1 - loss * inside * _smooth_step(below * (1 / scanner.SHADOW_ONSET)))


def amplified(values: tf.Tensor, reach: float, draws: KeyedDraws) -> tf.Tensor:
    """Multiplies with a ramp along the depth, as `scanner_changes.amplified`; `reach` is the largest change."""
    top, bottom = (_per_image(draws.uniform(f"gain {end}", 1 - reach, 1 + reach)) for end in ("top", "bottom"))
    depth = tf.linspace(0.0, 1.0, tf.shape(values)[1])[None, :, None, None]
    return _multiplied(values, top + (bottom - top) * depth)


def _of_planes(function: Callable[[tf.Tensor], tf.Tensor], values: tf.Tensor) -> tf.Tensor:
    """What a function of (batch, channels, height, width) makes of (batch, height, width, channels)."""
    if values.shape[-1] == 1:
        return function(values[:, tf.newaxis, ..., 0])[:, 0, ..., tf.newaxis]
    return tf.transpose(function(tf.transpose(values, [0, 3, 1, 2])), [0, 2, 3, 1])


def _averaging(length: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Averages over cells and interpolates back, as OpenCV's INTER_AREA and INTER_LINEAR; (batch, length, length)."""
    length = tf.cast(length, tf.float32)
    count = tf.maximum(1.0, tf.round(length / factor))[:, None, None]  # cells
    cell = length / count
    pixel = tf.range(length)
    place = tf.clip_by_value((pixel[None, :, None] + 0.5) / cell - 0.5, 0.0, count - 1)
    left = tf.floor(place)
    right = tf.minimum(left + 1, count - 1)

    def share(cells: tf.Tensor) -> tf.Tensor:
        """Of each pixel in a cell's mean."""
        ends = tf.minimum((cells + 1) * cell, pixel + 1) - tf.maximum(cells * cell, pixel)
        return tf.maximum(ends, 0.0) / cell

    return share(left) + (place - left) * (share(right) - share(left))


def _gaussian(margin: int, deviation: tf.Tensor) -> tf.Tensor:
    """Kernels (batch, 2 margin + 1), 1 in the middle."""
    return tf.exp(-0.5 * (tf.range(-margin, margin + 1.0) / deviation[:, None]) ** 2)


def _places(length: tf.Tensor, margin: int) -> tf.Tensor:
    """What each block of results is made of, int32 (blocks, _BLOCK + 2 margin), counted from the margin's start."""
    starts = tf.range(0, length, _BLOCK)
    return starts[:, tf.newaxis] + tf.range(_BLOCK + 2 * margin)


def _mirrored(places: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Places in what has no margin: mirrored about its outermost pixels."""
    margin = (tf.shape(places)[1] - _BLOCK) // 2
    period = tf.maximum(2 * (length - 1), 1)
    places = tf.math.floormod(places - margin, period)
    return tf.minimum(places, period - places)


def _smoothed(planes: tf.Tensor, places: Sequence[tf.Tensor], kernels: Sequence[tf.Tensor]) -> tf.Tensor:
    """Convolves along height and width in blocks, since all at once is mostly multiplying with 0.

    Args:
        planes: float32 (batch, channels, height, width).
        places: of each axis, as `_places` or `_mirrored` return them.
        kernels: of each axis, (batch, 2 margin + 1).
    Returns:
        (batch, channels, blocks x _BLOCK of either axis), of which the last may be beyond the image.
    """
    batch, channels = tf.shape(planes)[0], tf.shape(planes)[1]
    down, across = (_bands(kernel) for kernel in kernels)
    rows = tf.matmul(down[:, tf.newaxis, tf.newaxis], tf.gather(planes, places[0], axis=2))
    rows = tf.reshape(rows, [batch, channels, tf.size(places[0][:, 0]) * _BLOCK, -1])
    height = tf.shape(rows)[2]
    blocks = tf.reshape(tf.gather(rows, places[1], axis=3), [batch, -1, tf.shape(places[1])[1]])
    return tf.reshape(tf.matmul(blocks, across, transpose_b=True), [batch, channels, height, -1])


def _bands(kernels: tf.Tensor) -> tf.Tensor:
    """Kernels as matrices (batch, _BLOCK, _BLOCK + taps - 1) that convolve one block."""
    taps = tf.shape(kernels)[1]
    place = tf.range(_BLOCK + taps - 1)[tf.newaxis] - tf.range(_BLOCK)[:, tf.newaxis]
    return tf.gather(tf.pad(kernels, [[0, 0], [0, 1]]), tf.where((place >= 0) & (place < taps), place, taps), axis=1)


def _multiplied(values: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return tf.round(tf.clip_by_value(values * factor, 0.0, 255.0))


def _smooth_step(values: tf.Tensor) -> tf.Tensor:
    values = tf.clip_by_value(values, 0.0, 1.0)
    return values * values * (3 - 2 * values)


def _per_image(numbers: tf.Tensor) -> tf.Tensor:
    """(batch,) to (batch, 1, 1, 1)."""
    return numbers[:, None, None, None]
