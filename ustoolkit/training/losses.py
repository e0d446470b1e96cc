"""Losses for segmentation: each takes logits and class indices and gives one value an image, in float32.

Pixels whose class index is `IGNORE`, the padding, count in none of them: the loss is that of the image without it. So
it is with the Dice that training is watched by.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from ustoolkit.errors import ShapeError
from ustoolkit.recipe.training import LossSettings
from ustoolkit.training.class_weights import refuse_other_number
from ustoolkit.training.truth import class_indices, closeness, half_resolution, without_ignored

Loss = Callable[[tf.Tensor, tf.Tensor, LossSettings], tf.Tensor]


def soft_dice(logits: tf.Tensor, mask: tf.Tensor, settings: LossSettings | None = None) -> tf.Tensor:
    """One minus the soft Dice of the foreground classes (Milletari et al., V-Net, 2016), with both sums smoothed by 1.

    Args:
        logits: float (batch, height, width, channels); 1 channel for two classes, else one a class.
        mask: integer (batch, height, width), class indices, `IGNORE` where a pixel does not count.
        settings: not used; there because every loss takes it.
    Returns:
        float32 (batch,) in [0, 1]; 0 where truth and prediction are both empty, or no pixel counts.
    """
    probability, truth = _foreground(logits, mask)
    overlap = tf.reduce_sum(probability * truth, [1, 2])
    total = tf.reduce_sum(probability, [1, 2]) + tf.reduce_sum(truth, [1, 2])
    return tf.reduce_mean(1.0 - (2.0 * overlap + 1.0) / (total + 1.0), -1)


def tversky(logits: tf.Tensor, mask: tf.Tensor, settings: LossSettings) -> tf.Tensor:
    """One minus the Tversky index of the foreground classes (Salehi et al., 2017), which weighs misses by themselves.

    Both sides of the fraction are smoothed by a half, so that weights of 0.5 and 0.5 give `soft_dice`, whose
    fraction is this one with both sides doubled.

    Args:
        logits: float (batch, height, width, channels); 1 channel for two classes, else one a class.
        mask: integer (batch, height, width), class indices, `IGNORE` where a pixel does not count.
        settings: its `tversky_false_positives` and `tversky_false_negatives` are used.
    Returns:
        float32 (batch,) in [0, 1]; 0 where truth and prediction are both empty, or no pixel counts.
    """
    probability, truth = _foreground(logits, mask)
    overlap = tf.reduce_sum(probability * truth, [1, 2])
    false_positives = tf.reduce_sum(probability * (1.0 - truth), [1, 2])
    false_negatives = tf.reduce_sum((1.0 - probability) * truth, [1, 2])
    wrong = settings.tversky_false_positives * false_positives + settings.tversky_false_negatives * false_negatives
    return tf.reduce_mean(1.0 - (overlap + 0.5) / (overlap + wrong + 0.5), -1)


def cross_entropy(logits: tf.Tensor, mask: tf.Tensor, settings: LossSettings) -> tf.Tensor:
    """Mean over the pixels that count of the cross-entropy times the weight of the pixel's class.

    Args:
        logits: float (batch, height, width, channels); 1 channel for two classes, else one a class.
        mask: integer (batch, height, width), class indices, `IGNORE` where a pixel does not count.
        settings: its `class_weights` are used.
    Returns:
        float32 (batch,), at least 0; 0 where no pixel counts.
    Raises:
        RecipeError: there is not one weight for each class.
        ValueError: the class weights are still 'balanced', not numbers.
    """
    logits, truth, pixels = without_ignored(logits, mask)
    return _pixel_mean(_pixel_cross_entropy(logits, truth), logits, truth, pixels, settings)


def focal(logits: tf.Tensor, mask: tf.Tensor, settings: LossSettings) -> tf.Tensor:
    """Cross-entropy in which a pixel counts by how wrong it is, to the power of gamma (Lin et al., 2017).

    The paper's alpha is the weight of the class.

    Args:
        logits: float (batch, height, width, channels); 1 channel for two classes, else one a class.
        mask: integer (batch, height, width), class indices, `IGNORE` where a pixel does not count.
        settings: its `focal_gamma` and `class_weights` are used.
    Returns:
        float32 (batch,), at least 0; 0 where no pixel counts.
    Raises:
        RecipeError: there is not one weight for each class.
        ValueError: the class weights are still 'balanced', not numbers.
    """
    logits, truth, pixels = without_ignored(logits, mask)
    # A power of the probability has no gradient at 0 for a gamma below 1; the exponential of its logarithm has.
    modulation = tf.exp(settings.focal_gamma * _log_probability_of_others(logits, truth))
    return _pixel_mean(modulation * _pixel_cross_entropy(logits, truth), logits, truth, pixels, settings)


def boundary(logits: tf.Tensor, mask: tf.Tensor, settings: LossSettings) -> tf.Tensor:
    """Cross-entropy in which pixels near an outline of the truth weigh more.

    A pixel weighs 1 + boundary_weight × `closeness`, times the weight of its class. This is in the spirit of the weight
    map of Ronneberger et al. (U-Net, 2015), which there stresses the gaps between cells.

    Args:
        logits: float (batch, height, width, channels); 1 channel for two classes, else one a class.
        mask: integer (batch, height, width), class indices, `IGNORE` where a pixel does not count.
        settings: its `boundary_weight`, `boundary_pixels` and `class_weights` are used.
    Returns:
        float32 (batch,), at least 0; 0 where no pixel counts.
    Raises:
        RecipeError: there is not one weight for each class.
        ValueError: the class weights are still 'balanced', not numbers.
    """
    stress = 1.0 + settings.boundary_weight * closeness(class_indices(logits, mask), settings.boundary_pixels)
    logits, truth, pixels = without_ignored(logits, mask)
    return _pixel_mean(stress * _pixel_cross_entropy(logits, truth), logits, truth, pixels, settings)


LOSSES: dict[str, Loss] = {
    "dice": soft_dice,
    "cross_entropy": cross_entropy,
    "focal": focal,
    "tversky": tversky,
    "boundary": boundary,
}
"""Losses by the name that recipes give them."""


def weighted_sum(settings: LossSettings) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A loss that adds up the terms of a recipe, for one head.

    Args:
        settings: its `terms` name the losses and their weights; `class_weights` must be numbers or 'equal' where a term
            uses them.
    Returns:
        a function of logits (batch, height, width, channels) and mask (batch, height, width) that gives float32
        (batch,), and raises what the terms raise.
    """

    def total(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return tf.add_n([weight * LOSSES[name](logits, mask, settings) for name, weight in settings.terms.items()])

    return total


def over_scales(settings: LossSettings) -> Callable[[Sequence[tf.Tensor] | tf.Tensor, tf.Tensor], tf.Tensor]:
    """A loss for a network of one head, or of two at full and half resolution.

    With two heads it is the sum over the heads of `scale_weights` × `weighted_sum`; the half head's truth is
    `half_resolution`, and `boundary_pixels`, which are those of the network's input, are halved and rounded up for it.
    With one head it is `weighted_sum` itself, and `scale_weights` are not used.

    Args:
        settings: as for `weighted_sum`.
    Returns:
        a function of the heads' logits and the mask. Logits are a list of one or two tensors, (batch, height, width,
        channels) and (batch, height / 2, width / 2, channels), or one bare tensor; the mask is integer (batch, height,
        width). It gives float32 (batch,), raises what the terms raise, and ShapeError where the number or the
        sizes of the heads are others.
    """
    full_loss = weighted_sum(settings)
    half_settings = settings.model_copy(update={"boundary_pixels": (settings.boundary_pixels + 1) // 2})
    half_loss = weighted_sum(half_settings)

    def total(logits: Sequence[tf.Tensor] | tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        heads = [tf.convert_to_tensor(head) for head in tf.nest.flatten(logits)]
        mask = tf.convert_to_tensor(mask)
        if len(heads) not in (1, 2):
            raise ShapeError(
                f"losses: expected the logits of one or two heads, found {len(heads)}. Give those of the full and, "
                "where there is one, of the half resolution."
            )
        _refuse_other_size("full", heads[0], mask)
        if len(heads) == 1:
            return full_loss(heads[0], mask)
        halved = half_resolution(class_indices(heads[1], mask), max(2, heads[1].shape[-1]))
        _refuse_other_size("half", heads[1], halved)
        full_weight, half_weight = settings.scale_weights
        return full_weight * full_loss(heads[0], mask) + half_weight * half_loss(heads[1], halved)

    return total


def hard_dice(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Dice of the predicted against the true foreground at the network's size, to watch training by.

    Args:
        logits: float (batch, height, width, channels); 1 channel for two classes, else one a class.
        mask: integer (batch, height, width), class indices, `IGNORE` where a pixel does not count.
    Returns:
        float32 (batch,) in [0, 1], the mean over the foreground classes; a class that is empty in both counts as 1.
    """
    logits, truth, _ = without_ignored(logits, mask)
    num_classes = max(2, logits.shape[-1])
    winner = tf.cast(logits[..., 0] > 0, tf.int32) if logits.shape[-1] == 1 else tf.argmax(logits, -1)
    predicted = tf.one_hot(winner, num_classes)[..., 1:]
    true = tf.one_hot(truth, num_classes)[..., 1:]
    overlap = tf.reduce_sum(predicted * true, [1, 2])
    total = tf.reduce_sum(predicted, [1, 2]) + tf.reduce_sum(true, [1, 2])
    return tf.reduce_mean(tf.where(total > 0, 2.0 * overlap / tf.maximum(total, 1.0), 1.0), -1)


def _refuse_other_size(head: str, logits: tf.Tensor, mask: tf.Tensor) -> None:
    if not logits.shape[:3].is_compatible_with(mask.shape):
        raise ShapeError(
            f"losses: the {head} head's logits are {tuple(logits.shape)} and its mask {tuple(mask.shape)}; expected "
            "the same batch, height and width. The first head has the size of the mask, a second half of it."
        )


def _foreground(logits: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Probabilities and one-hot truth of the classes that are no background, float32 (batch, height, width, n).

    Both are 0 where a pixel does not count.
    """
    logits, truth, _ = without_ignored(logits, mask)
    if logits.shape[-1] == 1:
        return tf.sigmoid(logits), tf.cast(truth, tf.float32)[..., tf.newaxis]
    return tf.nn.softmax(logits)[..., 1:], tf.one_hot(truth, logits.shape[-1])[..., 1:]


def _pixel_cross_entropy(logits: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
    """Minus the logarithm of the true class's probability, float32 (batch, height, width)."""
    if logits.shape[-1] == 1:
        return tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(truth, tf.float32), logits[..., 0])
    return tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)


def _log_probability_of_others(logits: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
    """Logarithm of the probability of all classes but the true one, float32 (batch, height, width)."""
    if logits.shape[-1] == 1:
        return -tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(truth == 0, tf.float32), logits[..., 0])
    is_true = tf.one_hot(truth, logits.shape[-1], on_value=True, off_value=False)
    return tf.reduce_logsumexp(tf.where(is_true, tf.float32.min, tf.nn.log_softmax(logits)), -1)


def _pixel_mean(
    costs: tf.Tensor, logits: tf.Tensor, truth: tf.Tensor, pixels: tf.Tensor, settings: LossSettings
) -> tf.Tensor:
    """The mean over the pixels that count of float32 (batch, height, width), each times the weight of its class.

    Costs are 0 where a pixel does not count; `pixels`, float32 (batch,), is how many do.
    """
    weights, num_classes = settings.class_weights, max(2, logits.shape[-1])
    if weights == "equal":
        return tf.reduce_sum(costs, [1, 2]) / pixels
    if weights == "balanced":
        raise ValueError(
            "loss.class_weights: a loss expects numbers, or 'equal', and found 'balanced'. Put in the numbers of "
            "the training masks by with_class_weights first."
        )
    refuse_other_number(weights, num_classes)
    by_pixel = tf.gather(tf.constant(weights, tf.float32), truth)
    return tf.reduce_sum(by_pixel * costs, [1, 2]) / pixels
