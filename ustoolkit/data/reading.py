"""Images of a part, read from the record files and decoded at the network's size."""

from collections.abc import Sequence

import tensorflow as tf

from ustoolkit.data.records import Records
from ustoolkit.data.resize import mask_to_network, to_network
from ustoolkit.recipe.settings import DataSettings


def read_images(records: Records, source_ids: Sequence[str], settings: DataSettings) -> tf.data.Dataset:
    """Reads images and masks in the order of the files.

    Args:
        records: where they are.
        source_ids: which of them; each must have a mask.
        settings: the network's input.
    Returns:
        a dataset of (image, mask, source id): uint8 (height, width, channels), uint8 (height, width), class indices,
        `ustoolkit.recipe.data_set.IGNORE` where the image is padded, and string ().
    """
    wanted = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant(list(source_ids)), tf.ones(len(source_ids), tf.int64)), 0
    )
    chosen = set(source_ids)
    shards = sorted({row.shard for row in records.index if row.source_id in chosen})
    dataset = tf.data.TFRecordDataset([str(records.folder / shard) for shard in shards])
    dataset = dataset.map(_parse, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.filter(lambda features: wanted.lookup(features["image/source_id"]) > 0)
    dataset._wanted = wanted  # the dataset does not keep the table alive
    return dataset.map(lambda features: _decode(features, settings), num_parallel_calls=tf.data.AUTOTUNE)


def _parse(message: tf.Tensor) -> dict[str, tf.Tensor]:
    # An image without a mask is in no part, but stands in a shard beside images that are.
    keys = ("image/encoded", "image/segmentation/class/encoded", "image/source_id")
    return tf.io.parse_single_example(message, {key: tf.io.FixedLenFeature([], tf.string, "") for key in keys})


def _decode(features: dict[str, tf.Tensor], settings: DataSettings) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """uint8 image and mask at the network's size, so that the cache is small."""
    image = tf.io.decode_png(features["image/encoded"])
    image.set_shape([None, None, None])
    mask = tf.io.decode_png(features["image/segmentation/class/encoded"], channels=1)[..., 0]
    resized = to_network(image[tf.newaxis], settings)[0]
    return tf.cast(tf.round(resized), tf.uint8), mask_to_network(mask, settings), features["image/source_id"]
