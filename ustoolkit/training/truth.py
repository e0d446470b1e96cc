"""The truth as losses see it: which pixels count, at half the resolution, and how close to an outline."""

import tensorflow as tf

from ustoolkit.recipe.data_set import IGNORE

_CERTAIN = 1e4  # the difference of two logits at which the smaller one's probability is exactly 0 in float32


def class_indices(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The mask in the classes that the logits tell apart: with one channel whatever is no background is class 1.

    Args:
        logits: (batch, height, width, channels), of which the number of channels is used.
        mask: integer (batch, height, width), class indices, `IGNORE` where a pixel does not count.
    Returns:
        int32 (batch, height, width), `IGNORE` where it was.
    """
    indices = tf.cast(mask, tf.int32)
    return tf.where(indices == IGNORE, IGNORE, tf.minimum(indices, 1)) if logits.shape[-1] == 1 else indices


def without_ignored(logits: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Turns every pixel that does not count into background that is rightly and certainly predicted.

    Such a pixel has a foreground probability of 0 and a cross-entropy of 0, so it adds nothing to a sum over the image;
    a mean divides by the pixels that count. Its own logits, whatever they are, have neither effect nor gradient.

    Args:
        logits: float (batch, height, width, channels); 1 channel for two classes, else one a class.
        mask: integer (batch, height, width), class indices, `IGNORE` where a pixel does not count.
    Returns:
        float32 logits of the same shape; int32 class indices (batch, height, width) without `IGNORE`; and float32
        (batch,), how many pixels of each image count, 1 where none does so that it can divide.
    """
    truth, channels = class_indices(logits, mask), logits.shape[-1]
    counts = truth != IGNORE
    certain = tf.constant([-_CERTAIN] if channels == 1 else [0.0] + [-_CERTAIN] * (channels - 1))
    pixels = tf.maximum(tf.reduce_sum(tf.cast(counts, tf.float32), [1, 2]), 1.0)
    logits = tf.where(counts[..., tf.newaxis], tf.cast(logits, tf.float32), certain)
    return logits, tf.where(counts, truth, 0), pixels


def half_resolution(mask: tf.Tensor, num_classes: int) -> tf.Tensor:
    """The class that covers most of what counts in each 2 × 2 block of a mask.

    Of classes that cover as much the one of the highest index wins, so a lesion wins against the background, and
    one that is a pixel wide is not lost.

    Args:
        mask: integer (batch, height, width), class indices, `IGNORE` where a pixel does not count; height and width
            even (else the last row or column is left out).
        num_classes: with the background, at least 2.
    Returns:
        int32 (batch, height / 2, width / 2), class indices; `IGNORE` where none of the four pixels counts.
    """
    # The one-hot row of an ignored pixel is all 0, so it votes for no class.
    share = tf.nn.avg_pool2d(tf.one_hot(tf.cast(mask, tf.int32), num_classes), 2, 2, "VALID")
    # argmax gives the first of equals, so it is asked from the last class down.
    winner = num_classes - 1 - tf.argmax(share[..., ::-1], -1, output_type=tf.int32)
    return tf.where(tf.reduce_max(share, -1) > 0, winner, IGNORE)


def closeness(mask: tf.Tensor, reach_pixels: int) -> tf.Tensor:
    """How close each pixel is to an outline, which runs wherever two classes meet.

    The distance d counts the steps, also diagonal ones, to the nearest pixel that touches another class by a side or
    a corner. Closeness is 1 - d / reach, and 0 from there on. Neither the border of the image nor that of ignored
    pixels is an outline.

    Args:
        mask: integer (batch, height, width), class indices, `IGNORE` where a pixel does not count.
        reach_pixels: at least 1; with 1 only the pixels that touch another class are close.
    Returns:
        float32 (batch, height, width) in [0, 1]; all 0 where there is one class only. Ignored pixels have a value too,
        by the same distance.
    """
    indices = tf.cast(mask, tf.int32)[..., tf.newaxis]
    counts = indices != IGNORE
    # Pooling ignores what is outside the image, so a border shows no second class; an ignored pixel is never the
    # largest, neither of the classes nor of their negatives.
    classes = tf.cast(indices, tf.float32)
    highest = _largest_around(tf.where(counts, classes, -float(IGNORE)))
    lowest = -_largest_around(tf.where(counts, -classes, -float(IGNORE)))
    near = tf.cast(counts & (highest > lowest), tf.float32)
    total = near
    for _ in range(reach_pixels - 1):
        near = _largest_around(near)
        total += near
    return total[..., 0] / float(reach_pixels)


def _largest_around(values: tf.Tensor) -> tf.Tensor:
    return tf.nn.max_pool2d(values, 3, 1, "SAME")
