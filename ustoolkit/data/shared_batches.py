"""Batches that several readers fill, in one process or in many."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from ustoolkit.data.image_cache import cache_kind
from ustoolkit.data.pipeline import Batches
from ustoolkit.data.python_call import first_failure
from ustoolkit.data.reading import Readers, joined, read_images
from ustoolkit.data.records import Records
from ustoolkit.recipe import Recipe


class SharedBatches:
    """One part of a data set, of which each reader shuffles and changes its own images; the face is that of `Batches`.

    A training batch has equal parts of all readers, and an epoch as many batches as the reader with the fewest images
    has parts for. In validation every process has one stretch of the images, in the order of the files, so that all
    stretches one after the other are in that order too.

    Args:
        records: where the images are.
        source_ids: which of them, of all processes; each must have a mask.
        recipe: sizes, cache, augmentation, seed, and `batch_size` of all processes.
        training: whether to shuffle and augment, and leave out a last batch that is not full.
        readers: of this process, and of all.
        folder: as of `Batches`.
    Attributes:
        count: images of all processes.
        batch_size: images of a batch of all processes.
        steps: batches an epoch; in validation, of the process that has most.
    Raises:
        RecordsError: an image has no mask, or there are fewer images than readers.
        RecipeError: the readers cannot have equal parts of a batch.
    """

    def __init__(
        self,
        records: Records,
        source_ids: Sequence[str],
        recipe: Recipe,
        training: bool,
        readers: Readers,
        folder: Path | None = None,
    ) -> None:
        self.count, self.batch_size, self._training = len(source_ids), recipe.training.batch_size, training
        if training:
            self.batch_size = min(self.batch_size, self.count)
            part = readers.part_of_batch(self.batch_size)
            self.steps = readers.steps(self.count, self.batch_size)
        else:
            readers = Readers(readers.workers, readers.workers, readers.worker)
            part = -(-self.batch_size // readers.workers)
            longest = -(-self.count // readers.workers)
            self.steps = -(-longest // part)
        parts = readers.divide(records, source_ids)
        own = [parts[number] for number in readers.own]
        # Decided once, for what all readers of this process would keep together.
        cache = cache_kind(recipe.data, sum(map(len, own)))
        sized = recipe.model_copy(
            update={
                "training": recipe.training.model_copy(update={"batch_size": part}),
                "data": recipe.data.model_copy(update={"cache": cache}),
            }
        )
        self._own = [Batches(records, names, sized, training, folder, len(own)) for names in own]
        self._masks = read_images(records, source_ids, recipe.data).map(lambda image, mask, source_id: mask)

    def epoch(self, number: int) -> tf.data.Dataset:
        """This process's part of the batches of one epoch; see `Batches.epoch`."""
        batches = joined([own.epoch(number) for own in self._own])
        return batches.take(self.steps) if self._training else batches

    def masks(self) -> tf.data.Dataset:
        """The masks of all processes; see `Batches.masks`."""
        return self._masks

    @property
    def failure(self) -> Exception | None:
        """What Python raised while tf.data made batches; see `Batches.failure`."""
        return first_failure(self._own)

    def close(self) -> None:
        """Lets go of what the readers hold; see `Batches.close`."""
        for own in self._own:
            own.close()
