"""Each layer in figures: its size, what it sees of the image, which filters say nothing, and how its outputs spread."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.errors import ShapeError
from ustoolkit.explain.network import activated, check_layers, unfold
from ustoolkit.explain.receptive_field import ReceptiveField, fields_of_unfolded, single_output

_BATCH_BYTES = 2**29  # of the outputs of a network's layers at a time
_CONSTANT = 1e-6  # of the layer's largest value
_EFFECTIVE_INPUTS = 4
_OF_THE_LARGEST = 1 - 0.9545  # where Luo et al. draw the border of an effective receptive field


@dataclass(frozen=True)
class LayerStatistics:
    """What is known of one layer, from its weights and from its outputs for some images.

    "Passed on" is what stands behind the normalization and the activation that follow, if any do.

    Attributes:
        layer: its name, as `inner_layers` gives it.
        filters: channels of its output.
        weights: numbers in the layer, those that are not trained included.
        receptive_field: what a unit can see.
        effective_receptive_field: side, pixels, of a square as large as the part of the image that matters to the unit
            in the middle, see `layer_statistics`; NaN for an output without height and width, and where no gradient
            reaches the image.
        dead: filters that pass on the same value at each place of each image (differences of up to a millionth of the
            layer's largest value count for nothing); behind a ReLU nearly always 0. None of a filter with one value.
        sparsity: share of the values passed on that are exactly 0, in [0, 1]; NaN where any is below 0, so that
            the activation does not silence.
        mean: of the layer's own output, before an activation that is a layer of its own.
        deviation: standard deviation of that, over all images, places and filters.
    """

    layer: str
    filters: int
    weights: int
    receptive_field: ReceptiveField
    effective_receptive_field: float
    dead: tuple[int, ...]
    sparsity: float
    mean: float
    deviation: float


def layer_statistics(model: keras.Model, layers: Sequence[str], inputs: np.ndarray) -> list[LayerStatistics]:
    """Figures of layers on given images, all layers in one pass, images in batches that fit into memory.

    The effective receptive field is that of Luo et al., Understanding the Effective Receptive Field in Deep
    Convolutional Neural Networks (NeurIPS 2016): the gradient of the unit in the middle with respect to the image, its
    filters added with random signs, as root mean square over the image's channels and up to four images; pixels of more
    than 4.55 % of the largest are counted, and the side is the root of their number. The signs are the same each time.

    Args:
        model: as `unfold` takes it.
        layers: names, as `inner_layers` gives them.
        inputs: float32 (n, height, width, channels), n at least 1, as the network takes them.
    Returns:
        one for each name, in their order.
    Raises:
        RunError: there is no layer of a name, or one puts out several tensors.
        ShapeError: the inputs are not of the network's shape, or there are none.
    """
    check_layers(model, layers)
    images = _checked(model, inputs)
    if not layers:
        return []
    copy = unfold(model, image_size=images.shape[1:3])
    fields = fields_of_unfolded(copy, layers)
    spreads = _spreads(copy, layers, images)
    effective = _effective_fields(copy, layers, images[:_EFFECTIVE_INPUTS])
    return [
        LayerStatistics(
            layer=name,
            filters=single_output(copy, name).shape[-1],
            weights=copy.get_layer(name).count_params(),
            receptive_field=fields[name],
            effective_receptive_field=effective[name],
            dead=spreads[name].dead(),
            sparsity=spreads[name].sparsity(),
            mean=spreads[name].mean,
            deviation=math.sqrt(spreads[name].squares / spreads[name].count),
        )
        for name in layers
    ]


def _checked(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    images, expected = np.asarray(inputs, np.float32), model.input_shape
    fits = images.ndim == 4 and all(side in (None, found) for side, found in zip(expected, images.shape, strict=True))
    if not fits or not len(images):
        sides = " × ".join("any" if side is None else str(side) for side in expected[1:])
        raise ShapeError(
            f"inputs of {model.name}: expected at least one image of {sides} (height, width, channels), found an array "
            f"of {images.shape}. Resize them as the network's recipe says."
        )
    return images


class _Spread:
    """How the values of a layer spread, gathered batch by batch."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0  # squares of distances to the mean
        self.passed, self.zeros = 0, 0
        self.least, self.most = np.array(np.inf), np.array(-np.inf)  # by filter

    def add(self, measured: dict[str, np.ndarray]) -> None:
        """Joins a batch (Chan et al., Updating Formulae, 1979), since sums of squares would cancel."""
        count, mean = int(measured["count"]), float(measured["mean"])
        both, apart = self.count + count, mean - self.mean
        self.squares += float(measured["variance"]) * count + apart**2 * self.count * count / both
        self.mean += apart * count / both
        self.count = both
        self.passed += int(measured["passed"])
        self.zeros += int(measured["zeros"])
        self.least = np.minimum(self.least, measured["least"])
        self.most = np.maximum(self.most, measured["most"])

    def dead(self) -> tuple[int, ...]:
        """Filters that pass on the same everywhere."""
        if self.passed == self.least.size:
            return ()
        scale = max(np.abs(self.least).max(), np.abs(self.most).max())
        return tuple(int(number) for number in np.flatnonzero(self.most - self.least <= _CONSTANT * scale))

    def sparsity(self) -> float:
        """Share of zeros among what is passed on."""
        return self.zeros / self.passed if self.least.min() >= 0 else math.nan


def _spreads(copy: keras.Model, layers: Sequence[str], images: np.ndarray) -> dict[str, _Spread]:
    """How each layer's values spread; eagerly, since tracing takes longer than a few batches do."""
    outputs = {name: (single_output(copy, name), single_output(copy, activated(copy, name))) for name in layers}
    inner = keras.Model(copy.input, outputs)
    spreads = {name: _Spread() for name in layers}
    for batch in _batches(inner, images):
        for name, (own, passed) in inner(batch, training=False).items():
            spreads[name].add(_measured(own, passed))
    return spreads


def _measured(own: tf.Tensor, passed: tf.Tensor) -> dict[str, np.ndarray]:
    own, passed = tf.cast(own, tf.float32), tf.cast(passed, tf.float32)
    mean = tf.reduce_mean(own)
    places = tf.range(tf.rank(passed) - 1)
    values = {
        "count": tf.size(own, tf.int64),
        "mean": mean,
        "variance": tf.reduce_mean(tf.square(own - mean)),
        "passed": tf.size(passed, tf.int64),
        "zeros": tf.math.count_nonzero(tf.equal(passed, 0)),
        "least": tf.reduce_min(passed, places),
        "most": tf.reduce_max(passed, places),
    }
    return {key: value.numpy() for key, value in values.items()}


def _effective_fields(copy: keras.Model, layers: Sequence[str], images: np.ndarray) -> dict[str, float]:
    """The side of each layer's effective receptive field, pixels."""
    sides = dict.fromkeys(layers, math.nan)
    placed = {name: output for name in sides if (output := single_output(copy, name)).shape.rank == 4}
    if not placed:
        return sides
    inner = keras.Model(copy.input, placed)
    signs = {
        name: np.random.default_rng(0).choice(np.array([-1, 1], np.float32), output.shape[-1])
        for name, output in placed.items()
    }
    squares = {name: np.zeros(images.shape[1:3]) for name in placed}
    for batch in map(tf.constant, _batches(inner, images)):
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(batch)
            outputs = inner(batch, training=False)
            units = {name: _middle(outputs[name], signs[name]) for name in placed}
        for name, unit in units.items():
            gradient = tape.gradient(unit, batch, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            squares[name] += np.square(gradient.numpy(), dtype=np.float64).sum((0, 3))
        del tape
    for name, square in squares.items():
        size = np.sqrt(square)
        if size.max() > 0:
            sides[name] = math.sqrt(np.count_nonzero(size > _OF_THE_LARGEST * size.max()))
    return sides


def _middle(output: tf.Tensor, signs: np.ndarray) -> tf.Tensor:
    """The units in the middle of each image, their filters added with signs."""
    return tf.linalg.matvec(tf.cast(output[:, output.shape[1] // 2, output.shape[2] // 2], tf.float32), signs)


def _batches(inner: keras.Model, items: np.ndarray) -> Iterator[np.ndarray]:
    """As many at a time as the outputs of all layers of a network fit into memory for."""
    tensors = [tensor for layer in inner.layers for tensor in tf.nest.flatten(layer.output)]
    size = sum(math.prod(side or 1 for side in tensor.shape[1:]) * tensor.dtype.size for tensor in tensors)
    step = max(1, _BATCH_BYTES // size)
    for start in range(0, len(items), step):
        yield items[start : start + step]
