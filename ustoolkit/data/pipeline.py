"""Records to batches by tf.data: decode, resize, cache, shuffle, augment, batch, prefetch. Seeded and repeatable."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ustoolkit.data.augment import Augmenter
from ustoolkit.data.reading import read_images
from ustoolkit.data.records import Records
from ustoolkit.data.split import check_trainable
from ustoolkit.recipe import Recipe

CACHE_BYTES = 1_000_000_000  # with cache = "auto", larger sets are decoded anew in each epoch
_SHUFFLE_IMAGES = 4096  # the shuffle buffer where images are not cached


class Batches:
    """One part of a data set, ready to iterate over in any epoch.

    Args:
        records: where the images are.
        source_ids: which of them; each must have a mask.
        recipe: sizes, augmentation, batch size, seed.
        training: whether to shuffle and augment, and leave out a last batch that is not full.
    Raises:
        RecordsError: no image, or one without a mask.
    """

    def __init__(self, records: Records, source_ids: Sequence[str], recipe: Recipe, training: bool) -> None:
        check_trainable(source_ids, records, "training" if training else "validation")
        self._recipe = recipe
        self._training = training
        self.count = len(source_ids)
        self.batch_size = min(recipe.training.batch_size, self.count) if training else recipe.training.batch_size
        self._base = self._decoded(records, source_ids)
        self._augmenter = (
            Augmenter(recipe.augmentation, recipe.training.seed) if training and recipe.augmentation.enabled else None
        )

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return self.count // self.batch_size if self._training else -(-self.count // self.batch_size)

    def epoch(self, number: int) -> tf.data.Dataset:
        """The batches of one epoch, the same whenever it is asked for under one global TensorFlow seed.

        Args:
            number: from 0; changes the order and the augmentation.
        Returns:
            a dataset of (image, mask): float32 (batch, height, width, channels), 0 to 255, and uint8
            (batch, height, width), class indices, `ustoolkit.recipe.data_set.IGNORE` where the image is padded.
        """
        dataset = self._base
        if self._training:
            seed = np.random.default_rng([self._recipe.training.seed, number]).integers(2**31)
            dataset = dataset.shuffle(
                min(self.count, self._shuffle_buffer), seed=int(seed), reshuffle_each_iteration=False
            )
        dataset = dataset.batch(self.batch_size, drop_remainder=self._training)
        # One batch at a time: more threads would only wait for each other at the interpreter's lock.
        dataset = dataset.map(lambda *batch: self._finish(*batch, number)).prefetch(tf.data.AUTOTUNE)
        options = tf.data.Options()
        options.deterministic = True
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        return dataset.with_options(options)

    def masks(self) -> tf.data.Dataset:
        """The masks as they are before augmentation, each once: uint8 (height, width), class indices or `IGNORE`."""
        return self._base.map(lambda image, mask, source_id: mask)

    def _decoded(self, records: Records, source_ids: Sequence[str]) -> tf.data.Dataset:
        settings = self._recipe.data
        height, width = settings.image_size
        fits = self.count * height * width * (settings.channels + 1) <= CACHE_BYTES
        cached = settings.cache == "memory" or (settings.cache == "auto" and fits)
        self._shuffle_buffer = self.count if cached else _SHUFFLE_IMAGES
        dataset = read_images(records, source_ids, settings)
        return dataset.cache() if cached else dataset

    def _finish(
        self, images: tf.Tensor, masks: tf.Tensor, source_ids: tf.Tensor, number: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Augments a batch, image by image, where this part is augmented."""
        if self._augmenter is not None:
            augmenter, shapes = self._augmenter, (images.shape, masks.shape)

            def augment(pixels: np.ndarray, classes: np.ndarray, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                items = zip(pixels, classes, names, strict=True)
                changed = [augmenter(image, mask, name.decode(), number) for image, mask, name in items]
                return np.stack([image for image, _ in changed]), np.stack([mask for _, mask in changed])

            images, masks = tf.numpy_function(augment, [images, masks, source_ids], [tf.uint8, tf.uint8])
            images, masks = tf.ensure_shape(images, shapes[0]), tf.ensure_shape(masks, shapes[1])
        return tf.cast(images, tf.float32), masks
