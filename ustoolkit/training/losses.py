"""Losses for segmentation: each takes logits and class indices and gives one value an image, in float32."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from ustoolkit.errors import ShapeError
from ustoolkit.recipe.settings import LossSettings
from ustoolkit.training.class_weights import refuse_other_number

Loss = Callable[[tf.Tensor, tf.Tensor, LossSettings], tf.Tensor]


def soft_dice(logits: tf.Tensor, mask: tf.Tensor, settings: LossSettings | None = None) -> tf.Tensor:
    """One minus the soft Dice of the foreground classes (Milletari et al., V-Net, 2016), with both sums smoothed by 1.

    Args:
        logits: float (batch, height, width, channels); 1 channel for two classes, else one a class.
        mask: integer (batch, height, width), class indices.
        settings: not used; there because every loss takes it.
    Returns:
        float32 (batch,) in [0, 1]; 0 where truth and prediction are both empty.
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
        mask: integer (batch, height, width), class indices.
        settings: its `tversky_false_positives` and `tversky_false_negatives` are used.
    Returns:
        float32 (batch,) in [0, 1]; 0 where truth and prediction are both empty.
    """
    probability, truth = _foreground(logits, mask)
    overlap = tf.reduce_sum(probability * truth, [1, 2])
    false_positives = tf.reduce_sum(probability * (1.0 - truth), [1, 2])
    false_negatives = tf.reduce_sum((1.0 - probability) * truth, [1, 2])
    wrong = settings.tversky_false_positives * false_positives + settings.tversky_false_negatives * false_negatives
    return tf.reduce_mean(1.0 - (overlap + 0.5) / (overlap + wrong + 0.5), -1)


def cross_entropy(logits: tf.Tensor, mask: tf.Tensor, settings: LossSettings) -> tf.Tensor:
    """Mean over the pixels of the cross-entropy times the weight of the pixel's class.

    Args:
        logits: float (batch, height, width, channels); 1 channel for two classes, else one a class.
        mask: integer (batch, height, width), class indices.
        settings: its `class_weights` are used.
    Returns:
        float32 (batch,), at least 0.
    Raises:
        RecipeError: there is not one weight for each class.
        ValueError: the class weights are still 'balanced', not numbers.
    """
    return _pixel_mean(_pixel_cross_entropy(logits, mask), logits, mask, settings)


def focal(logits: tf.Tensor, mask: tf.Tensor, settings: LossSettings) -> tf.Tensor:
    """Cross-entropy in which a pixel counts by how wrong it is, to the power of gamma (Lin et al., 2017).

    The paper's alpha is the weight of the class.

    Args:
        logits: float (batch, height, width, channels); 1 channel for two classes, else one a class.
        mask: integer (batch, height, width), class indices.
        settings: its `focal_gamma` and `class_weights` are used.
    Returns:
        float32 (batch,), at least 0.
    Raises:
        RecipeError: there is not one weight for each class.
        ValueError: the class weights are still 'balanced', not numbers.
    """
    # A power of the probability has no gradient at 0 for a gamma below 1; the exponential of its logarithm has.
    modulation = tf.exp(settings.focal_gamma * _log_probability_of_others(logits, mask))
    return _pixel_mean(modulation * _pixel_cross_entropy(logits, mask), logits, mask, settings)


def boundary(logits: tf.Tensor, mask: tf.Tensor, settings: LossSettings) -> tf.Tensor:
    """Cross-entropy in which pixels near an outline of the truth weigh more.

    A pixel weighs 1 + boundary_weight × `closeness`, times the weight of its class. This is in the spirit of the weight
    map of Ronneberger et al. (U-Net, 2015), which there stresses the gaps between cells.

    Args:
        logits: float (batch, height, width, channels); 1 channel for two classes, else one a class.
        mask: integer (batch, height, width), class indices.
        settings: its `boundary_weight`, `boundary_pixels` and `class_weights` are used.
    Returns:
        float32 (batch,), at least 0.
    Raises:
        RecipeError: there is not one weight for each class.
        ValueError: the class weights are still 'balanced', not numbers.
    """
    near = closeness(_class_indices(logits, mask), settings.boundary_pixels)
    return _pixel_mean(
        (1.0 + settings.boundary_weight * near) * _pixel_cross_entropy(logits, mask), logits, mask, settings
    )


LOSSES: dict[str, Loss] = {
    "dice": soft_dice,
    "cross_entropy": cross_entropy,
    "focal": focal,
    "tversky": tversky,
    "boundary": boundary,
}


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
        halved = half_resolution(_class_indices(heads[1], mask), max(2, heads[1].shape[-1]))
        _refuse_other_size("half", heads[1], halved)
        full_weight, half_weight = settings.scale_weights
        return full_weight * full_loss(heads[0], mask) + half_weight * half_loss(heads[1], halved)

    return total


def half_resolution(mask: tf.Tensor, num_classes: int) -> tf.Tensor:
    """The class that covers most of each 2 × 2 block of a mask.

    Of classes that cover as much the one of the highest index wins, so a lesion wins against the background, and
    one that is a pixel wide is not lost.

    Args:
        mask: integer (batch, height, width), class indices; height and width even (else the last row or column is left
            out).
        num_classes: with the background, at least 2.
    Returns:
        int32 (batch, height / 2, width / 2), class indices.
    """
    share = tf.nn.avg_pool2d(tf.one_hot(tf.cast(mask, tf.int32), num_classes), 2, 2, "VALID")
    # argmax gives the first of equals, so it is asked from the last class down.
    return num_classes - 1 - tf.argmax(share[..., ::-1], -1, output_type=tf.int32)


def closeness(mask: tf.Tensor, reach_pixels: int) -> tf.Tensor:
    """How close each pixel is to an outline, which runs wherever two classes meet.

    The distance d counts the steps, also diagonal ones, to the nearest pixel that touches another class by a side or
    a corner. Closeness is 1 - d / reach, and 0 from there on. The border of the image is no outline.

    Args:
        mask: integer (batch, height, width), class indices.
        reach_pixels: at least 1; with 1 only the pixels that touch another class are close.
    Returns:
        float32 (batch, height, width) in [0, 1]; all 0 where there is one class only.
    """
    classes = tf.cast(mask, tf.float32)[..., tf.newaxis]
    # Pooling ignores what is outside the image, so a border shows no second class.
    near = tf.cast(_largest_around(classes) > -_largest_around(-classes), tf.float32)
    total = near
    for _ in range(reach_pixels - 1):
        near = _largest_around(near)
        total += near
    return total[..., 0] / float(reach_pixels)


def _largest_around(values: tf.Tensor) -> tf.Tensor:
    return tf.nn.max_pool2d(values, 3, 1, "SAME")


def _refuse_other_size(head: str, logits: tf.Tensor, mask: tf.Tensor) -> None:
    if not logits.shape[:3].is_compatible_with(mask.shape):
        raise ShapeError(
            f"losses: the {head} head's logits are {tuple(logits.shape)} and its mask {tuple(mask.shape)}; expected "
            "the same batch, height and width. The first head has the size of the mask, a second half of it."
        )


def _class_indices(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """int32 (batch, height, width); with one channel whatever is no background is class 1."""
    indices = tf.cast(mask, tf.int32)
    return tf.minimum(indices, 1) if logits.shape[-1] == 1 else indices


def _foreground(logits: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Probabilities and one-hot truth of the classes that are no background, float32 (batch, height, width, n)."""
    logits = tf.cast(logits, tf.float32)
    if logits.shape[-1] == 1:
        return tf.sigmoid(logits), tf.cast(mask > 0, tf.float32)[..., tf.newaxis]
    truth = tf.one_hot(tf.cast(mask, tf.int32), logits.shape[-1])
    return tf.nn.softmax(logits)[..., 1:], truth[..., 1:]


def _pixel_cross_entropy(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Minus the logarithm of the true class's probability, float32 (batch, height, width)."""
    logits = tf.cast(logits, tf.float32)
    if logits.shape[-1] == 1:
        return tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(mask > 0, tf.float32), logits[..., 0])
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(mask, tf.int32), logits)


def _log_probability_of_others(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Logarithm of the probability of all classes but the true one, float32 (batch, height, width)."""
    logits = tf.cast(logits, tf.float32)
    if logits.shape[-1] == 1:
        return -tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(mask == 0, tf.float32), logits[..., 0])
    is_true = tf.one_hot(tf.cast(mask, tf.int32), logits.shape[-1], on_value=True, off_value=False)
    return tf.reduce_logsumexp(tf.where(is_true, tf.float32.min, tf.nn.log_softmax(logits)), -1)


def _pixel_mean(pixels: tf.Tensor, logits: tf.Tensor, mask: tf.Tensor, settings: LossSettings) -> tf.Tensor:
    """The mean over each image of float32 (batch, height, width), every pixel times the weight of its class."""
    weights, num_classes = settings.class_weights, max(2, logits.shape[-1])
    if weights == "equal":
        return tf.reduce_mean(pixels, [1, 2])
    if weights == "balanced":
        raise ValueError(
            "loss.class_weights: a loss expects numbers, or 'equal', and found 'balanced'. Put in the numbers of "
            "the training masks by with_class_weights first."
        )
    refuse_other_number(weights, num_classes)
    by_pixel = tf.gather(tf.constant(weights, tf.float32), _class_indices(logits, mask))
    return tf.reduce_mean(by_pixel * pixels, [1, 2])
