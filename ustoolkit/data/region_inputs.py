"""An image and its lesion to the input of a network that classifies: the one code for training, use and export."""

import tensorflow as tf

from ustoolkit.data.resize import to_network
from ustoolkit.recipe.classification import RegionSettings
from ustoolkit.recipe.settings import DataSettings


def region_to_network(
    image: tf.Tensor, mask: tf.Tensor, data: DataSettings, region: RegionSettings
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts out the lesion with its margin and scales it for the network, its shape kept; or takes the whole image.

    The cut is the square of `ustoolkit.data.regions.region_window`, black where it leaves the picture.

    Args:
        image: uint8 (height, width, 1 or 3).
        mask: uint8 (height, width), not 0 where the lesion is; an empty one gives the whole image.
        data: the network's size and channels.
        region: the margin, and whether to cut at all.
    Returns:
        float32 (*image_size, channels), 0 to 255, and float32 (*image_size,), 0 or 1, the lesion in it.
    """
    lesion = tf.cast(mask > 0, tf.uint8)
    if region.source != "image":
        top, left, height, width = _window(lesion, region.margin)
        image, lesion = _cut(image, top, left, height, width), _cut(lesion[..., tf.newaxis], top, left, height, width)
        lesion = lesion[..., 0]
    pixels = to_network(image[tf.newaxis], data)[0]
    # The mask is padded as the image is, so that both stay aligned.
    shown = to_network(lesion[tf.newaxis, ..., tf.newaxis] * 255, data)[0, ..., 0]
    return pixels, tf.cast(shown >= 127.5, tf.float32)


def network_input(pixels: tf.Tensor, lesion: tf.Tensor, region: RegionSettings) -> tf.Tensor:
    """What the network takes: the pixels, and where it is asked for the mask as a last channel of 0 and 255.

    Args:
        pixels: float32 (…, height, width, channels), 0 to 255.
        lesion: float32 (…, height, width), 0 or 1.
        region: whether the mask is a channel.
    Returns:
        float32 (…, height, width, channels or one more).
    """
    if not region.mask_channel:
        return pixels
    return tf.concat([pixels, 255.0 * lesion[..., tf.newaxis]], axis=-1)


def _window(lesion: tf.Tensor, margin: float) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Top, left, height and width, pixels; all of the image where there is no lesion."""
    size = tf.shape(lesion)
    rows = tf.cast(tf.where(tf.reduce_any(lesion > 0, axis=1))[:, 0], tf.int32)
    columns = tf.cast(tf.where(tf.reduce_any(lesion > 0, axis=0))[:, 0], tf.int32)

    def square() -> tuple[tf.Tensor, ...]:
        longer = tf.maximum(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
        side = tf.cast(tf.math.ceil(tf.cast(longer, tf.float64) * (1 + 2 * margin)), tf.int32)
        starts = []
        for found, length in ((rows, size[0]), (columns, size[1])):
            centred = tf.math.floordiv(found[0] + found[-1] + 1 - side, 2)
            starts.append(tf.clip_by_value(centred, tf.minimum(0, length - side), tf.maximum(0, length - side)))
        return starts[0], starts[1], side, side

    return tf.cond(tf.size(rows) > 0, square, lambda: (tf.constant(0), tf.constant(0), size[0], size[1]))


def _cut(image: tf.Tensor, top: tf.Tensor, left: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    size = tf.shape(image)
    above, before = tf.maximum(0, -top), tf.maximum(0, -left)
    below = tf.maximum(0, top + height - size[0])
    after = tf.maximum(0, left + width - size[1])
    padded = tf.pad(image, [[above, below], [before, after], [0, 0]])
    return padded[top + above : top + above + height, left + before : left + before + width]
