"""Where in an image a score comes from, by covering one part of it after another; the score may be anything's."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import tf_keras as keras

from ustoolkit.errors import DataError, RecipeError, ShapeError
from ustoolkit.explain.attribution import compiled_logits, images_at_once
from ustoolkit.explain.target import Target

Score = Callable[[np.ndarray], np.ndarray]


def occlusion(
    score: Score, inputs: np.ndarray, patch: int, stride: int, value: float | Sequence[float] | None = None
) -> np.ndarray:
    """How much a score falls when a square patch of the image is covered.

    Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014. A pixel has the mean of the
    falls by all patches that cover it. The last patch of a row or column ends at the border, however far the stride.

    Args:
        score: from float32 (k · n, height, width, channels) to float (k · n,): all n images, in their order, k times
            over, each time with a patch elsewhere. It has to take any k.
        inputs: float32 (n, height, width, channels).
        patch: side of the square, pixels.
        stride: pixels from one patch to the next, at most the patch, so that no pixel is left out.
        value: what a patch is filled with, one number or one a channel; None for each image's mean, by channel.
    Returns:
        float32 (n, height, width), in units of the score; below 0 where covering a part raises it.
    Raises:
        RecipeError: the patch is larger than the image, or the stride does not fit it.
        DataError: there is no image.
        ShapeError: the images, the value or what the score gives have another shape than expected.
    """
    inputs = np.asarray(inputs, np.float32)
    _check(inputs, patch, stride)
    count, height, width, _ = inputs.shape
    filling = _filling(inputs, value)
    whole = _scored(score, inputs)
    falls, covered = np.zeros((count, height, width)), np.zeros((height, width))
    places = list(product(_places(height, patch, stride), _places(width, patch, stride)))
    batch = max(1, images_at_once(inputs) // count)
    for first in range(0, len(places), batch):
        squares = [(slice(top, top + patch), slice(left, left + patch)) for top, left in places[first : first + batch]]
        images = np.repeat(inputs[np.newaxis], len(squares), axis=0)
        for copy, (rows, columns) in zip(images, squares, strict=True):
            copy[:, rows, columns] = filling
        scores = _scored(score, images.reshape(-1, *inputs.shape[1:])).reshape(len(squares), count)
        for (rows, columns), reached in zip(squares, scores, strict=True):
            falls[:, rows, columns] += (whole - reached)[:, np.newaxis, np.newaxis]
            covered[rows, columns] += 1
    return (falls / covered).astype(np.float32)


def fixed_score(model: keras.Model, target: Target, inputs: np.ndarray) -> Score:
    """A network's score of a target as `occlusion` takes it, the label or region decided by the images as they are.

    Args:
        model: a functional network from raw pixel values to logits.
        target: what is explained.
        inputs: float32 (n, height, width, channels), the images that will be covered.
    Returns:
        from float32 (k · n, height, width, channels), the images k times over in their order, to float32 (k · n,).
    Raises:
        RunError: the target does not fit the network.
    """
    network = compiled_logits(model)
    weighting = target.weighting(network(np.asarray(inputs, np.float32)))

    def score(images: np.ndarray) -> np.ndarray:
        logits = network(images).astype(np.float64)
        terms = logits.reshape(-1, *weighting.shape) * weighting
        return terms.reshape(len(images), -1).sum(axis=1).astype(np.float32)

    return score


def _places(side: int, patch: int, stride: int) -> list[int]:
    return [*range(0, side - patch, stride), side - patch]


def _filling(inputs: np.ndarray, value: float | Sequence[float] | None) -> np.ndarray:
    if value is None:
        return inputs.mean(axis=(1, 2), keepdims=True)
    filling = np.asarray(value, np.float32)
    if filling.shape not in ((), (1,), (inputs.shape[-1],)):
        raise ShapeError(
            f"occlusion, value: expected one number, or {inputs.shape[-1]}, one a channel, found the shape "
            f"{filling.shape}. Leave it out for each image's mean."
        )
    return filling


def _scored(score: Score, images: np.ndarray) -> np.ndarray:
    scores = np.asarray(score(images), np.float64)
    if scores.shape != (len(images),):
        raise ShapeError(
            f"occlusion, score: expected one number for each of {len(images)} images, found the shape {scores.shape}. "
            "Let the score give an array (n,)."
        )
    return scores


def _check(inputs: np.ndarray, patch: int, stride: int) -> None:
    if inputs.ndim != 4:
        raise ShapeError(
            f"occlusion, images: expected the shape (n, height, width, channels), found {inputs.shape}. "
            "Put a single image into an array of one."
        )
    if not len(inputs):
        raise DataError("occlusion, images: expected at least one, found none. Choose images to explain.")
    shortest = min(inputs.shape[1:3])
    if not 1 <= patch <= shortest:
        raise RecipeError(
            f"occlusion, patch: expected 1 to {shortest} pixels, the image's shorter side, found {patch}."
        )
    if not 1 <= stride <= patch:
        raise RecipeError(f"occlusion, stride: expected 1 to {patch} pixels, the patch's side, found {stride}.")
