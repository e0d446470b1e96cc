"""Where in an image a network's decision comes from, by its gradients: Grad-CAM and integrated gradients."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.errors import DataError, RecipeError, RunError, ShapeError
from ustoolkit.explain.layer_choice import default_layer, has_positions, layers_to_look_at, taken_apart
from ustoolkit.explain.network import activated, check_layers
from ustoolkit.explain.target import Target

_PIXELS_AT_ONCE = 2**18  # 4 images of 256 × 256, for which the layers of the U-net put out 1.7 GB
_LEAST_DIFFERENCE = 1e-6


@dataclass(frozen=True, eq=False)
class IntegratedGradients:
    """What each value of an image adds to a score.

    Attributes:
        attributions: float32 (n, height, width, channels), signed, in units of the score. Their sum is the difference
            of the score from that of the baseline, as far as the gap says.
        gaps: float32 (n,), at least 0: how far that sum is off, as a share of the difference; large where that is near
            0 although much speaks for and against the target.
    """

    attributions: np.ndarray
    gaps: np.ndarray


def grad_cam(model: keras.Model, inputs: np.ndarray, target: Target, layer: str | None = None) -> np.ndarray:
    """Where a layer's filters speak for a target.

    The filters are weighted by the mean of the target's gradient over their positions, summed, and what is below 0 is
    left out: Selvaraju et al., Grad-CAM, ICCV 2017; with a region as target Vinogradova et al., Seg-Grad-CAM, AAAI
    2020. Maps are resized bilinearly.

    Args:
        model: a functional network from raw pixel values to logits; it may hold others.
        inputs: float32 (n, height, width, channels), 0 to 255, as the network takes them.
        target: what is explained.
        layer: a name as `inner_layers` gives it, of a layer with positions; it is looked at behind its activation.
            None for `default_layer`.
    Returns:
        float32 (n, height, width), 0 to 1. The largest value of each image is 1; all are 0 where nothing in the layer
        speaks for the target.
    Raises:
        RunError: there is no such layer, it has no positions, or the target has no gradient there.
        ShapeError, DataError: the inputs do not fit the network, or hold values that are not finite.
    """
    inputs = _checked(model, inputs)
    copy = taken_apart(model)
    if layer is not None:
        check_layers(model, [layer])
    name = layer or default_layer(copy)
    looked_at = copy.get_layer(activated(copy, name))
    if not has_positions(looked_at):
        raise RunError(f"layer '{name}': expected an output (n, height, width, filters). {layers_to_look_at(copy)}")
    weighting = target.weighting(compiled_logits(copy)(inputs))
    network = keras.Model(copy.inputs, [looked_at.output, copy.output])

    def explain(images: tf.Tensor, weighting: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)
            values, logits = network(images, training=False)
            score = tf.reduce_sum(tf.cast(logits, tf.float32) * weighting)
        gradient = tape.gradient(score, values)
        if gradient is None:
            raise RunError(f"layer '{name}': the target has no gradient there. {layers_to_look_at(copy)}")
        weights = tf.reduce_mean(tf.cast(gradient, tf.float32), [1, 2], keepdims=True)
        # Only their proportions count, and products of very small ones would be lost.
        weights = tf.math.divide_no_nan(weights, tf.reduce_max(tf.abs(weights), -1, keepdims=True))
        maps = tf.nn.relu(tf.reduce_sum(weights * tf.cast(values, tf.float32), -1, keepdims=True))
        maps = tf.image.resize(maps, tf.shape(images)[1:3])[..., 0]
        return tf.math.divide_no_nan(maps, tf.reduce_max(maps, [1, 2], keepdims=True))

    explain = _compiled(explain, copy.input_shape, copy.output_shape)
    batch = images_at_once(inputs)
    parts = [slice(start, start + batch) for start in range(0, len(inputs), batch)]
    return np.concatenate([explain(tf.constant(inputs[part]), tf.constant(weighting[part])).numpy() for part in parts])


def integrated_gradients(
    model: keras.Model, inputs: np.ndarray, target: Target, steps: int = 64, baseline: np.ndarray | None = None
) -> IntegratedGradients:
    """What each value of an image adds to the target's score, on the way from a baseline to the image.

    Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017; the integral is taken by the midpoint rule
    in the square root of the share of the way, which sets more points near the baseline: a network that normalises each
    image by its deviation changes there most. The target is decided by the image and held fixed on the way.

    Args:
        model: a functional network from raw pixel values to logits; with float32 arithmetic, since bfloat16's rounding
            leaves wide gaps.
        inputs: float32 (n, height, width, channels), 0 to 255, as the network takes them.
        target: what is explained.
        steps: points on the way, at least 1; more of them make the gaps smaller.
        baseline: float, an image that shows nothing, such as a blurred one: of the inputs' shape, or of one that
            broadcasts to it. None for black.
    Returns:
        attributions and their gaps.
    Raises:
        RecipeError: there are no steps.
        RunError: the target does not fit the network, or has no gradient.
        ShapeError, DataError: the inputs or the baseline do not fit, or hold values that are not finite.
    """
    if steps < 1:
        raise RecipeError(f"integrated gradients: expected at least 1 step, found {steps}. Some 64 are usual.")
    inputs = _checked(model, inputs)
    begin = _baseline(baseline, inputs)
    network = compiled_logits(model)
    logits = network(inputs)
    weighting = target.weighting(logits)
    gradient = _gradient(model)
    edges = np.linspace(0, 1, steps + 1) ** 2
    places = ((np.arange(steps) + 0.5) / steps) ** 2
    batch = images_at_once(inputs)
    attributions = np.empty(inputs.shape, np.float64)
    for index, (image, black) in enumerate(zip(inputs, begin, strict=True)):
        total = np.zeros(image.shape, np.float64)
        for first in range(0, steps, batch):
            part = slice(first, first + batch)
            points = black + places[part, None, None, None].astype(np.float32) * (image - black)
            slopes = gradient(tf.constant(points), tf.constant(weighting[index : index + 1])).numpy()
            total += np.einsum("s,shwc->hwc", np.diff(edges)[part], slopes)
        attributions[index] = total * (image - black)
    difference = _scores(logits, weighting) - _scores(network(begin), weighting)
    gaps = np.abs(attributions.sum(axis=(1, 2, 3)) - difference) / np.maximum(np.abs(difference), _LEAST_DIFFERENCE)
    return IntegratedGradients(attributions.astype(np.float32), gaps.astype(np.float32))


def compiled_logits(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """A network as a function between arrays, in bounded batches and as at inference.

    Args:
        model: from raw pixel values to logits.
    Returns:
        from float32 (n, height, width, channels) to float32 logits (n, …).
    """
    network = _compiled(lambda images: model(images, training=False), model.input_shape)

    def logits(inputs: np.ndarray) -> np.ndarray:
        batch = images_at_once(inputs)
        parts = [inputs[start : start + batch] for start in range(0, len(inputs), batch)]
        return np.concatenate([network(tf.constant(part)).numpy() for part in parts]).astype(np.float32)

    return logits


def images_at_once(inputs: np.ndarray) -> int:
    """How many images of an array (…, height, width, channels) are put through a network together."""
    return max(1, _PIXELS_AT_ONCE // max(1, inputs.shape[-3] * inputs.shape[-2]))


def _gradient(model: keras.Model) -> Callable[[tf.Tensor, np.ndarray], tf.Tensor]:
    def gradient(images: tf.Tensor, weighting: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)
            score = tf.reduce_sum(tf.cast(model(images, training=False), tf.float32) * weighting)
        slopes = tape.gradient(score, images)
        if slopes is None:
            raise RunError(
                f"the network {model.name}: the target has no gradient at the image. Explain it by occlusion."
            )
        return slopes

    return _compiled(gradient, model.input_shape, model.output_shape)


def _compiled(function: Callable[..., tf.Tensor], *shapes: tuple[int | None, ...]) -> Callable[..., tf.Tensor]:
    """A function of float32 tensors as a graph for batches of any length."""
    signature = [tf.TensorSpec((None, *shape[1:]), tf.float32) for shape in shapes]
    # A concrete function, since TensorFlow warns of several functions that come from one place.
    return tf.function(function, input_signature=signature, autograph=False).get_concrete_function()


def _scores(logits: np.ndarray, weighting: np.ndarray) -> np.ndarray:
    """In float64, since a difference of large sums is taken."""
    return (logits.astype(np.float64) * weighting).reshape(len(logits), -1).sum(axis=1)


def _checked(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    inputs = np.asarray(inputs, np.float32)
    expected = model.input_shape[1:]
    fits = inputs.ndim == 4 and all(
        side in (None, found) for side, found in zip(expected, inputs.shape[1:], strict=True)
    )
    if not fits:
        sides = ", ".join("any" if side is None else str(side) for side in expected)
        raise ShapeError(
            f"images for the network {model.name}: expected the shape (n, {sides}), found {inputs.shape}. "
            "Bring them to the network's size and channels."
        )
    return _finite(inputs, "images")


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    if not len(values):
        raise DataError(f"{what}: expected at least one, found none. Choose images to explain.")
    if not np.isfinite(values).all():
        raise DataError(f"{what}: expected numbers, found values that are not finite. Replace them.")
    return values


def _baseline(baseline: np.ndarray | None, inputs: np.ndarray) -> np.ndarray:
    if baseline is None:
        return np.zeros_like(inputs)
    baseline = np.asarray(baseline, np.float32)
    try:
        return _finite(np.broadcast_to(baseline, inputs.shape), "baseline")
    except ValueError:
        raise ShapeError(
            f"baseline: expected the images' shape {inputs.shape}, or one that broadcasts to it, found "
            f"{baseline.shape}. Give one image for all, or one for each."
        ) from None
