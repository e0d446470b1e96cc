"""How far two networks of one shape are apart, layer by layer: in their weights, and in what they compute."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.errors import DataError, RunError, ShapeError
from ustoolkit.explain.network import check_layers, inner_layers, unfold
from ustoolkit.recipe.validation import nearest

MOST_EXAMPLES = 20_000  # positions a layer, of all images together
_MOST_VALUES = 2**24  # that are kept of a layer, so that its double precision copies stay below a few hundred MB
_MOST_KEPT = 2**25  # values of a side at once; more layers than that are taken one group after another
_BATCH_VALUES = 2**26  # that the layers put out for one batch


@dataclass(frozen=True)
class LayerChange:
    """How far one layer moved from one network to another.

    Attributes:
        layer: its name, as `inner_layers` gives it.
        weight_distance: ‖after − before‖ / ‖before‖ of all trainable weights of the layer together, ≥ 0; NaN where
            there are none, or all were 0.
        cosine: of the angle between the two weights as vectors, −1 to 1; NaN where either is 0.
        cka: linear centred kernel alignment of the layer's outputs, debiased: 1 where they are the same but for a
            rotation, a scale and an offset, about 0 where they have nothing in common; chance makes it slightly
            negative. NaN where a side is constant or not finite, or has fewer than 4 examples.
    """

    layer: str
    weight_distance: float
    cosine: float
    cka: float


def compare_networks(
    before: keras.Model, after: keras.Model, layers: Sequence[str], inputs: np.ndarray
) -> list[LayerChange]:
    """Compares the weights and the outputs of layers of two networks, such as before and after fine-tuning.

    Every position of every image is one example of a layer's outputs, at most some 20 000 evenly spread ones, the same
    of both networks. Examples of one image resemble each other: the alignment describes these images, and says less
    of others than so many independent examples would.

    Args:
        before: a network that `unfold` takes.
        after: one whose layers of these names have the same shapes.
        layers: names as `inner_layers` gives them.
        inputs: float32 (n, height, width, channels), as both networks take them.
    Returns:
        a change for each layer, in the order given.
    Raises:
        RunError: a network lacks a layer, or the two differ in the shape of its weights or outputs.
        ShapeError: the inputs are not of the shape that a network takes.
        DataError: there is no input.

    The alignment is that of Kornblith et al., "Similarity of Neural Network Representations Revisited" (ICML 2019).
    Deep layers often have more filters than examples, where the plain estimate nears 1 for any two networks, hence
    the debiased one of Song et al. ("Feature Selection via Dependence Maximization", JMLR 2012), in all layers, so that
    they can be compared with each other.

    High values prove little by themselves: how bright an image is at a place, and where its border lies, shows in the
    outputs of nearly any filters. Two U-nets that have learned nothing reach 0.99 on scans. Values mean something
    beside each other, of several layers or trainings, or beside those of an untrained network.
    """
    layers, inputs = list(layers), np.asarray(inputs, np.float32)
    for model in (before, after):
        _check_inputs(model, inputs)
    check_layers(before, layers)
    copies = [unfold(model, image_size=inputs.shape[1:3]) for model in (before, after)]
    known = [inner_layers(copy) for copy in copies]
    for name in layers:
        _check_alike(name, *known)
    changes = []
    for group in _groups(copies[0], layers, len(inputs)):
        examples = [examples_of(copy, group, inputs) for copy in copies]
        for name, *sides in zip(group, *examples, strict=True):
            weights = [_trainable(side[name]) for side in known]
            changes.append(LayerChange(name, *_weight_change(*weights), linear_cka(*sides)))
    return changes


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Linear centred kernel alignment of two representations of the same examples, debiased.

    Args:
        first: float (examples, filters).
        second: float (examples, filters of its own).
    Returns:
        float up to about 1; NaN where there are fewer than 4 examples, a value is not finite, or a side is constant
        or so close to it that the estimate of its own variance is not above 0.
    Raises:
        ShapeError: the two differ in the number of examples, or are not of rank 2.

    Kornblith et al. (ICML 2019), with the unbiased estimate of the Hilbert-Schmidt independence criterion by
    Song et al. (JMLR 2012), here from features, so that no matrix of examples by examples is needed.
    """
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise ShapeError(
            f"representations of shapes {first.shape} and {second.shape}; expected (examples, filters) with as many "
            "examples in both. Give the outputs for the same images."
        )
    if len(first) < 4:
        return math.nan
    first, second = _centred(first), _centred(second)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return math.nan
    own = _independence(first, first), _independence(second, second)
    if min(own) <= 0:
        return math.nan
    return float(_independence(first, second) / math.sqrt(own[0]) / math.sqrt(own[1]))


def _independence(first: np.ndarray, second: np.ndarray) -> float:
    """The unbiased independence criterion of two centred sets of features, but for a factor that depends on n alone.

    With K = XXᵀ and L = YYᵀ of centred X and Y, rows of K sum to 0, which leaves of the estimate's three terms those
    that make up for the diagonals, taken out of K and L.
    """
    count = len(first)
    rows = np.einsum("ij,ij->i", first, first), np.einsum("ij,ij->i", second, second)
    diagonals = rows[0] @ rows[1]
    return (
        _squared_norm(first, second)
        - count / (count - 2) * diagonals
        + rows[0].sum() * rows[1].sum() / ((count - 1) * (count - 2))
    )


def _squared_norm(first: np.ndarray, second: np.ndarray) -> float:
    """‖XᵀY‖² by whichever matrix is the smaller."""
    if len(first) < min(first.shape[1], second.shape[1]):
        return float(np.sum((first @ first.T) * (second @ second.T)))
    return float(np.sum((first.T @ second) ** 2))


def _centred(features: np.ndarray) -> np.ndarray:
    # Less the first example before the mean, so that what is constant is exactly 0 and not a rounding error.
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = features.astype(np.float64) - features[0].astype(np.float64)
        return shifted - shifted.mean(axis=0)


def _weight_change(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Relative distance and cosine of two vectors, NaN where they are undefined."""
    lengths = float(np.linalg.norm(before)), float(np.linalg.norm(after))
    distance = float(np.linalg.norm(after - before)) / lengths[0] if lengths[0] else math.nan
    cosine = float(before / lengths[0] @ (after / lengths[1])) if all(lengths) else math.nan
    return distance, cosine


def _trainable(layer: keras.layers.Layer) -> np.ndarray:
    """What training changes of a layer, as one vector; a frozen layer's too, unlike `trainable_weights`."""
    chosen = [weight.numpy().astype(np.float64).ravel() for weight in layer.weights if weight.trainable]
    return np.concatenate(chosen) if chosen else np.zeros(0)


@dataclass(frozen=True)
class _Sampling:
    """Which examples of a layer are taken: every `step`-th of its positions, in the order of images, rows, columns."""

    positions: int
    filters: int
    step: int
    kept: int


def sampling_of(copy: keras.Model, name: str, images: int) -> _Sampling:
    """Which examples of a layer are taken of so many images."""
    *sides, filters = _output(copy, name).shape[1:]
    positions = math.prod(sides)
    total = images * positions
    step = math.ceil(total / min(MOST_EXAMPLES, max(4, _MOST_VALUES // filters)))
    # A step that has a factor in common with the width would see some of the columns only.
    while step > 1 and sides and math.gcd(step, sides[-1]) > 1:
        step += 1
    return _Sampling(positions, filters, step, math.ceil(total / step))


def _groups(copy: keras.Model, layers: Sequence[str], images: int) -> Iterator[dict[str, _Sampling]]:
    """Layers of which the examples of one side can be kept at once."""
    group: dict[str, _Sampling] = {}
    values = 0
    for name in layers:
        sampling = sampling_of(copy, name, images)
        values += sampling.kept * sampling.filters
        if group and values > _MOST_KEPT:
            yield group
            group, values = {}, sampling.kept * sampling.filters
        group[name] = sampling
    if group:
        yield group


def examples_of(copy: keras.Model, group: dict[str, _Sampling], inputs: np.ndarray) -> list[np.ndarray]:
    """float32 (examples, filters) of each layer, the same positions of the same images for every network."""
    samplings = list(group.values())
    cut = keras.Model(copy.inputs, [_output(copy, name) for name in group])

    @tf.function(input_signature=[tf.TensorSpec((None, *inputs.shape[1:])), tf.TensorSpec(len(group), tf.int32)])
    def chosen(images: tf.Tensor, offsets: tf.Tensor) -> list[tf.Tensor]:
        outputs = tf.nest.flatten(cut(images, training=False))
        return [
            tf.cast(tf.reshape(output, (-1, sampling.filters))[offset :: sampling.step], tf.float32)
            for output, sampling, offset in zip(outputs, samplings, tf.unstack(offsets), strict=True)
        ]

    batch = max(1, _BATCH_VALUES // sum(sampling.positions * sampling.filters for sampling in samplings))
    parts = []
    for start in range(0, len(inputs), batch):
        offsets = [-start * sampling.positions % sampling.step for sampling in samplings]
        parts.append([part.numpy() for part in chosen(inputs[start : start + batch], np.array(offsets, np.int32))])
    return [np.concatenate(of_layer) for of_layer in zip(*parts, strict=True)]


def _output(copy: keras.Model, name: str) -> tf.Tensor:
    """A layer's output; of several, as a pyramid's, the last."""
    return tf.nest.flatten(copy.get_layer(name).output)[-1]


def _check_inputs(model: keras.Model, inputs: np.ndarray) -> None:
    expected = model.input_shape
    if inputs.ndim != 4 or any(size not in (None, found) for size, found in zip(expected, inputs.shape, strict=True)):
        raise ShapeError(
            f"inputs of shape {inputs.shape}; the network {model.name} takes {('n', *expected[1:])}. "
            "Resize the images as its recipe says."
        )
    if not len(inputs):
        raise DataError("there is no input to compare the networks on; expected one image or more. Give some images.")


def _check_alike(name: str, before: dict[str, keras.layers.Layer], after: dict[str, keras.layers.Layer]) -> None:
    shapes = _shapes(before[name])
    remedy = "Compare two runs of one recipe, or choose other layers."
    if name not in after:
        raise RunError(
            f"layer '{name}': the network before has it with {shapes}, the network after has none of this name. "
            f"{nearest(name, list(after))} {remedy}"
        )
    if shapes != _shapes(after[name]):
        raise RunError(f"layer '{name}': {shapes} before and {_shapes(after[name])} after; expected the same. {remedy}")


def _shapes(layer: keras.layers.Layer) -> str:
    weights = ", ".join(str(tuple(weight.shape)) for weight in layer.weights if weight.trainable) or "none"
    return f"outputs {tuple(tf.nest.flatten(layer.output)[-1].shape[1:])} and weights {weights}"
