"""Training batches whose images a tf.data service reads, decodes and changes on other machines."""

from collections.abc import Sequence

import tensorflow as tf

from ustoolkit.data.augment_native import NativeAugmenter
from ustoolkit.data.dataset_options import BATCHES_AHEAD, repeatable
from ustoolkit.data.image_cache import window_images
from ustoolkit.data.pipeline import order_seed
from ustoolkit.data.reading import Readers, read_images, through_service
from ustoolkit.data.records import Records
from ustoolkit.data.split import check_trainable
from ustoolkit.recipe import Recipe

_TOGETHER = 16  # images that a helper changes at once


class ServedBatches:
    """The training part, in the order in which helpers are done; the face is that of `Batches`.

    Nothing is cached. What a helper that died had begun is missing; the epoch still has all its steps, filled up from
    another pass through the images.

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
        RecipeError: the service cannot augment or does not answer, or processes cannot have equal parts of a batch.
    """

    failure = None  # there is no Python in it that could fail

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
        self._native = NativeAugmenter(recipe.augmentation, recipe.training.seed)
        through_service(self._images, recipe)  # to refuse what the service cannot do before training begins

    def epoch(self, number: int) -> tf.data.Dataset:
        """This process's part of the batches of one epoch; see `Batches.epoch`. Their order is the helpers'."""
        images, epoch, native = self._images, tf.constant(number, tf.int64), self._native
        if self._recipe.augmentation.enabled:

            def change(pixels: tf.Tensor, masks: tf.Tensor, source_ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
                return (*native(pixels, masks, source_ids, epoch), source_ids)

            images = images.batch(_TOGETHER).map(change, num_parallel_calls=tf.data.AUTOTUNE).unbatch()
        seed = order_seed(self._recipe.training.seed, number)
        batches = through_service(images, self._recipe).shuffle(self._window, seed=seed)
        # A second pass begins only where the first had fewer batches than it should.
        batches = batches.batch(self._part, drop_remainder=True).repeat().take(self.steps)
        batches = batches.map(lambda pixels, masks, source_ids: (tf.cast(pixels, tf.float32), masks))
        return batches.prefetch(BATCHES_AHEAD).with_options(repeatable())

    def masks(self) -> tf.data.Dataset:
        """The masks of all processes; see `Batches.masks`."""
        return self._masks

    def close(self) -> None:
        """Nothing is held."""
