"""The loss of networks that classify: cross-entropy of each image, weighted by its label."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from ustoolkit.errors import RecipeError
from ustoolkit.recipe.classification import BalanceSettings
from ustoolkit.training.class_weights import balanced_weights


def label_cross_entropy(weights: Sequence[float] | None) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The loss of each image of a batch.

    Args:
        weights: of each label, or None where all count the same.
    Returns:
        a function of float32 logits (batch, 1 for two labels, else labels) and int64 labels (batch,), that gives
        float32 (batch,), at least 0.
    """

    def loss(logits: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        if logits.shape[-1] == 1:
            costs = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(truth, tf.float32), logits[:, 0])
        else:
            costs = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)
        return costs if weights is None else costs * tf.gather(tf.constant(weights, tf.float32), truth)

    return loss


def label_weights(settings: BalanceSettings, truth: np.ndarray, labels: Sequence[str]) -> tuple[float, ...] | None:
    """Weights of the labels in the loss; None where they are equal.

    Args:
        settings: its `class_weights`; 'balanced' makes every label count as much as any other.
        truth: int64 (n,), labels of the training part.
        labels: their names.
    Raises:
        RecipeError: there is not one number for each label.
    """
    weights = settings.class_weights
    if weights == "equal":
        return None
    if weights == "balanced":
        return balanced_weights(np.bincount(truth, minlength=len(labels)))
    if len(weights) != len(labels):
        raise RecipeError(
            f"classification.balance.class_weights: expected {len(labels)} numbers, for {', '.join(labels)}; found "
            f"{len(weights)}. Give one a label in this order, or 'equal' or 'balanced'."
        )
    return weights
