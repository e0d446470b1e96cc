"""Between an image's own size and the network's: the one code that training, prediction and the export share."""

import tensorflow as tf

from ustoolkit.recipe.data_set import IGNORE
from ustoolkit.recipe.settings import DataSettings


def to_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Grey to RGB or back, as the network needs.

    Args:
        image: (..., height, width, 1 or 3), any numeric type.
        channels: 1 or 3; colours become grey by the luma weights of ITU-R BT.601.
    Returns:
        the image with `channels` channels and the type it came with.
    """
    if image.shape[-1] == channels:
        return image
    if channels == 3:
        one = image[..., :1]
        return tf.cond(tf.shape(image)[-1] == 3, lambda: image[..., :3], lambda: tf.concat([one, one, one], -1))
    return tf.cond(tf.shape(image)[-1] == 1, lambda: image[..., :1], lambda: _luma(image))


def to_network(image: tf.Tensor, settings: DataSettings) -> tf.Tensor:
    """Resizes images for the network, bilinear with anti-aliasing.

    Args:
        image: uint8 (batch, height, width, 1 or 3).
        settings: the network's size and channels, and whether to pad instead of stretching.
    Returns:
        float32 (batch, *settings.image_size, settings.channels), 0 to 255; padding is 0, below and to the right.
    """
    image = tf.cast(to_channels(image, settings.channels), tf.float32)
    height, width = _inner_size(tf.shape(image)[1:3], settings)
    image = tf.image.resize(image, tf.stack([height, width]), antialias=True)
    image = tf.clip_by_value(image, 0.0, 255.0)
    image = tf.image.pad_to_bounding_box(image, 0, 0, *settings.image_size) if settings.keep_aspect else image
    return tf.ensure_shape(image, [None, *settings.image_size, settings.channels])


def mask_to_network(mask: tf.Tensor, settings: DataSettings) -> tf.Tensor:
    """Resizes a mask by nearest neighbour, as `to_network` does its image.

    Args:
        mask: uint8 (height, width), class indices.
    Returns:
        uint8 (*settings.image_size,); padding is `IGNORE`.
    """
    height, width = _inner_size(tf.shape(mask), settings)
    mask = tf.image.resize(mask[..., tf.newaxis], tf.stack([height, width]), method="nearest")[..., 0]
    if settings.keep_aspect:
        below, right = settings.image_size[0] - height, settings.image_size[1] - width
        mask = tf.pad(mask, [[0, below], [0, right]], constant_values=IGNORE)
    return tf.ensure_shape(mask, settings.image_size)


def to_original(probability: tf.Tensor, size: tf.Tensor, settings: DataSettings) -> tf.Tensor:
    """Brings the network's output back to the image's own size, bilinear.

    Args:
        probability: float32 (batch, *settings.image_size, channels).
        size: int32 (2,), the image's height and width.
    Returns:
        float32 (batch, height, width, channels).
    """
    height, width = _inner_size(size, settings)
    return tf.image.resize(probability[:, :height, :width], size)


def _inner_size(size: tf.Tensor, settings: DataSettings) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width that the image itself takes of the network's input."""
    height, width = settings.image_size
    if not settings.keep_aspect:
        return tf.constant(height), tf.constant(width)
    scale = tf.minimum(height / size[0], width / size[1])
    inner = tf.cast(tf.round(scale * tf.cast(size, tf.float64)), tf.int32)
    return tf.clip_by_value(inner[0], 1, height), tf.clip_by_value(inner[1], 1, width)


def _luma(image: tf.Tensor) -> tf.Tensor:
    weights = tf.constant([0.299, 0.587, 0.114])
    grey = tf.tensordot(tf.cast(image[..., :3], tf.float32), weights, 1)[..., tf.newaxis]
    return tf.cast(tf.round(grey), image.dtype)
