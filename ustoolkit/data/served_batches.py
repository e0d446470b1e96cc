"""Training batches whose images a tf.data service reads, decodes and changes on other machines."""

from collections.abc import Sequence

import tensorflow as tf

from ustoolkit.data.image_cache import window_images
from ustoolkit.data.reading import Readers, read_images, through_service
from ustoolkit.data.records import Records
from ustoolkit.data.split import check_trainable
from ustoolkit.recipe import Recipe

_TOGETHER = 16  # images that a helper changes at once


class ServedBatches:
    """The training part, in the order in which helpers are done; the face is that of `Batches`.

    Args:
        records: where the images are, for the helpers too.
        source_ids: which of them, of all processes; each must have a mask.
        recipe: the service, sizes, augmentation, seed, and `batch_size` of all processes.
        readers: of this process, and of all; one a process.
    Attributes:
        count: images of all processes.
        batch_size: images of a batch of all processes.
        steps: batches an epoch.
    Raises:
        RecordsError: no image, or one without a mask, or fewer images than processes.
        RecipeError: the service cannot augment, or processes cannot have equal parts of a batch.
    """

    def __init__(self, records: Records, source_ids: Sequence[str], recipe: Recipe, readers: Readers) -> None:
        check_trainable(source_ids, records, "training")
        readers = Readers(readers.workers, readers.workers, readers.worker)
        self._recipe, self.count = recipe, len(source_ids)
        self.batch_size = min(recipe.training.batch_size, self.count)
        self.steps = readers.steps(self.count, self.batch_size)
        self._part = readers.part_of_batch(self.batch_size)
        own = readers.divide(records, source_ids)[readers.worker]
        self._images = read_images(records, own, recipe.data)
        self._masks = read_images(records, source_ids, recipe.data).map(lambda image, mask, source_id: mask)
        self._window = min(len(own), window_images(recipe.data))
        through_service(self._images, recipe)  # to refuse what the service cannot do before training begins

    def epoch(self, number: int) -> tf.data.Dataset:
        """This process's part of the batches of one epoch; see `Batches.epoch`. Their order is the helpers'."""
        from ustoolkit.data.augment_native import NativeAugmenter

        settings, seed = self._recipe.augmentation, self._recipe.training.seed
        images = self._images
        if settings.enabled:
            native = NativeAugmenter(settings, seed)

            def change(pixels: tf.Tensor, masks: tf.Tensor, source_ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
                return (*native(pixels, masks, source_ids, number), source_ids)

            images = images.batch(_TOGETHER).map(change, num_parallel_calls=tf.data.AUTOTUNE).unbatch()
        images = through_service(images, self._recipe).shuffle(self._window, seed=seed + number)
        batches = images.batch(self._part, drop_remainder=True).take(self.steps)
        batches = batches.map(lambda pixels, masks, source_ids: (tf.cast(pixels, tf.float32), masks))
        return batches.prefetch(tf.data.AUTOTUNE)

    def masks(self) -> tf.data.Dataset:
        """The masks of all processes; see `Batches.masks`."""
        return self._masks
