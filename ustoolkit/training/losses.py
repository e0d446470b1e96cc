"""Losses for segmentation: each takes logits and class indices and gives one value an image, in float32."""

from collections.abc import Callable, Mapping

import tensorflow as tf

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def soft_dice(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """One minus the soft Dice of the foreground classes (Milletari et al., V-Net, 2016), with both sums smoothed by 1.

    Args:
        logits: float (batch, height, width, channels); 1 channel for two classes, else one a class.
        mask: integer (batch, height, width), class indices.
    Returns:
        float32 (batch,) in [0, 1]; 0 where truth and prediction are both empty.
    """
    probability, truth = _foreground(logits, mask)
    overlap = tf.reduce_sum(probability * truth, [1, 2])
    total = tf.reduce_sum(probability, [1, 2]) + tf.reduce_sum(truth, [1, 2])
    return tf.reduce_mean(1.0 - (2.0 * overlap + 1.0) / (total + 1.0), -1)


def cross_entropy(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropy of the pixels, from logits and so stable.

    Args:
        logits: float (batch, height, width, channels); 1 channel for two classes, else one a class.
        mask: integer (batch, height, width), class indices.
    Returns:
        float32 (batch,), at least 0.
    """
    logits = tf.cast(logits, tf.float32)
    if logits.shape[-1] == 1:
        truth = tf.cast(mask > 0, tf.float32)
        pixels = tf.nn.sigmoid_cross_entropy_with_logits(truth, logits[..., 0])
    else:
        pixels = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(mask, tf.int32), logits)
    return tf.reduce_mean(pixels, [1, 2])


LOSSES: dict[str, Loss] = {
    "dice": soft_dice,
    "cross_entropy": cross_entropy,
}


def weighted_sum(terms: Mapping[str, float]) -> Loss:
    """A loss that adds up others.

    Args:
        terms: weight by name in `LOSSES`.
    """

    def total(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return tf.add_n([weight * LOSSES[name](logits, mask) for name, weight in terms.items()])

    return total


def _foreground(logits: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Probabilities and one-hot truth of the classes that are no background, float32 (batch, height, width, n)."""
    logits = tf.cast(logits, tf.float32)
    if logits.shape[-1] == 1:
        return tf.sigmoid(logits), tf.cast(mask > 0, tf.float32)[..., tf.newaxis]
    truth = tf.one_hot(tf.cast(mask, tf.int32), logits.shape[-1])
    return tf.nn.softmax(logits)[..., 1:], truth[..., 1:]
