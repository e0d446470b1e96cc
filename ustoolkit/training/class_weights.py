"""Weights of classes that cover very different areas, from the pixels of the training masks."""

from collections.abc import Iterable, Sequence

import numpy as np

from ustoolkit.errors import DataError, RecipeError
from ustoolkit.recipe.data_set import IGNORE
from ustoolkit.recipe.training import LossSettings

WEIGHTED_TERMS = frozenset({"cross_entropy", "focal", "boundary"})
"""The losses that weigh pixels by class."""


def with_class_weights(settings: LossSettings, masks: Iterable[np.ndarray], num_classes: int) -> LossSettings:
    """Settings whose class weights a loss can use: 'balanced' is replaced by numbers from the training masks.

    Args:
        settings: of a recipe.
        masks: those of the training part, as `count_pixels` takes them; gone through only where numbers are needed.
        num_classes: with the background, at least 2.
    Returns:
        the settings, unchanged where no term weighs classes or where they are 'equal' or numbers already.
    Raises:
        RecipeError: there is not one weight for each class.
        DataError: a mask holds something else than the indices of these classes and `IGNORE`.
    """
    weights = settings.class_weights
    if weights == "equal" or WEIGHTED_TERMS.isdisjoint(settings.terms):
        return settings
    if weights == "balanced":
        return settings.model_copy(update={"class_weights": balanced_weights(count_pixels(masks, num_classes))})
    refuse_other_number(weights, num_classes)
    return settings


def refuse_other_number(weights: Sequence[float], num_classes: int) -> None:
    """Refuses class weights that are not one for each class.

    Args:
        weights: for the background and each class.
        num_classes: with the background, at least 2.
    Raises:
        RecipeError: there are more or fewer.
    """
    if len(weights) != num_classes:
        raise RecipeError(
            f"loss.class_weights: expected {num_classes} numbers, for the background and each class; found "
            f"{len(weights)}. Give one a class, or 'equal' or 'balanced'."
        )


def count_pixels(masks: Iterable[np.ndarray], num_classes: int) -> np.ndarray:
    """Counts the pixels of each class, without those that are ignored.

    Args:
        masks: integer or bool arrays or tensors of any shape, single masks or batches of them, class indices,
            `IGNORE` where a pixel does not count.
        num_classes: with the background, at least 2.
    Returns:
        int64 (num_classes,); zeros where no pixel counts.
    Raises:
        DataError: a mask holds something else than the indices of these classes and `IGNORE`.
    """
    pixels = np.zeros(num_classes, np.int64)
    for number, mask in enumerate(masks):
        indices = np.asarray(mask)
        if indices.dtype.kind not in "biu":
            raise DataError(
                f"mask {number}: its values are {indices.dtype}; expected integers from 0 to {num_classes - 1}, the "
                "indices of classes. Round it and convert it to integers first."
            )
        indices = indices[indices != IGNORE]
        if indices.size and not 0 <= indices.min() <= indices.max() < num_classes:
            raise DataError(
                f"mask {number}: its values go from {indices.min()} to {indices.max()}; expected 0 to "
                f"{num_classes - 1}, the indices of {num_classes} classes. Name all classes, or correct the mask."
            )
        pixels += np.bincount(indices.astype(np.int64), minlength=num_classes)
    return pixels


def balanced_weights(pixels_by_class: Sequence[int] | np.ndarray) -> tuple[float, ...]:
    """Weights by which every class counts as much as any other, however few pixels it has.

    A class weighs total / (classes that occur × its pixels). So the weights of all pixels average 1, and the loss keeps
    its scale and the learning rate its meaning. A class without a pixel weighs 1: its own formula would divide by
    zero, nothing in training uses the number, and should such pixels turn up in validation they count as the average
    pixel does.

    Args:
        pixels_by_class: numbers of pixels (classes,), background first, each at least 0.
    Returns:
        a positive weight for each class, in the same order.
    Raises:
        DataError: the counts are not a row of numbers of at least 0.
    """
    counts = np.asarray(pixels_by_class, np.float64)
    if counts.ndim != 1 or not counts.size or (counts < 0).any():
        raise DataError(
            f"pixels by class: expected one number for the background and each class, at least 0; found "
            f"{np.asarray(pixels_by_class).tolist()}. Count them with count_pixels."
        )
    occurs = counts > 0
    weights = np.ones_like(counts)
    weights[occurs] = counts.sum() / (occurs.sum() * counts[occurs])
    return tuple(weights.tolist())
