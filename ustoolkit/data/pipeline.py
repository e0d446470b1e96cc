"""Records to batches by tf.data: decode, resize, cache, shuffle, batch, augment, prefetch. Seeded and repeatable."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from ustoolkit.data.augment_processes import BatchAugmenter, batch_augmenter, parallel_calls
from ustoolkit.data.dataset_options import BATCHES_AHEAD, repeatable
from ustoolkit.data.image_cache import ImageCache, cache_kind, image_bytes, window_images
from ustoolkit.data.python_call import PythonCall, first_failure
from ustoolkit.data.reading import read_images
from ustoolkit.data.records import Records
from ustoolkit.data.split import check_trainable
from ustoolkit.processes import available_cores
from ustoolkit.recipe import Recipe
from ustoolkit.recipe.augmentation import AugmentationSettings

_PIECES = 16  # read side by side where images are not cached, so that an epoch mixes what lies far apart


class Batches:
    """One part of a data set, ready to iterate over in any epoch.

    Args:
        records: where the images are.
        source_ids: which of them; each must have a mask.
        recipe: sizes, cache, augmentation, batch size, seed.
        training: whether to shuffle and augment, and leave out a last batch that is not full.
        folder: where images are cached that `data.cache` wants on disk; None for the system's temporary files.
        sharing: how many parts of this process have the memory for images that wait to be drawn.
    Raises:
        RecordsError: no image, or one without a mask.
        RecipeError: this system has no such cache.
    """

    def __init__(
        self,
        records: Records,
        source_ids: Sequence[str],
        recipe: Recipe,
        training: bool,
        folder: Path | None = None,
        sharing: int = 1,
    ) -> None:
        check_trainable(source_ids, records, "training" if training else "validation")
        self._recipe = recipe
        self._training = training
        self.count = len(source_ids)
        self.batch_size = min(recipe.training.batch_size, self.count) if training else recipe.training.batch_size
        large = cache_kind(recipe.data, self.count) == "off" and self.count > window_images(recipe.data, sharing)
        pieces = _by_files(records, source_ids) if training and large else [source_ids]
        datasets = [read_images(records, piece, recipe.data) for piece in pieces]
        self._cache = ImageCache(datasets, [len(piece) for piece in pieces], recipe.data, folder, sharing)
        self._augmented = _augmentation(recipe, self.count, self.batch_size) if training else None

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
        seed = order_seed(self._recipe.training.seed, number)
        dataset = self._cache.batches(self.batch_size, seed if self._training else None, self._training)
        if self._augmented is not None:
            dataset = self._augmented(dataset, number)
        # Not before, so that bytes are copied and cross processes, and not numbers of four bytes each.
        dataset = dataset.map(lambda images, masks, source_ids: (tf.cast(images, tf.float32), masks))
        return dataset.prefetch(BATCHES_AHEAD).with_options(repeatable())

    def masks(self) -> tf.data.Dataset:
        """The masks as they are before augmentation, each once: uint8 (height, width), class indices or `IGNORE`."""
        return self._cache.masks()

    @property
    def failure(self) -> Exception | None:
        """What Python raised while tf.data made batches; None where nothing went wrong. See `told_by`."""
        return first_failure([self._cache, self._augmented])

    def close(self) -> None:
        """Lets go of the processes that augment and of the file that caches; there are no batches afterwards."""
        self._cache.close()
        if self._augmented is not None:
            self._augmented.close()


def order_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch's order, which no epoch of another recipe's seed has but by chance."""
    return int(np.random.default_rng([seed, epoch]).integers(2**31))


def waiting_threads(calls: int) -> tf.data.Options:
    """Options of a dataset some of whose threads wait for other processes.

    Args:
        calls: how many may wait at once.
    """
    options = tf.data.Options()
    if calls > 1:  # else they would be TensorFlow's own, and the network's operations would wait too
        options.threading.private_threadpool_size = calls + available_cores()
    return options


def _augmentation(recipe: Recipe, count: int, batch_size: int) -> "_InGraph | _ByImgaug | None":
    """What changes the batches of an epoch, or None where nothing does."""
    settings, training = recipe.augmentation, recipe.training
    if not settings.enabled:
        return None
    if settings.engine == "tensorflow":
        return _InGraph(settings, training.seed)
    changed = count * training.passes * training.epochs
    return _ByImgaug(batch_augmenter(settings, training.seed, changed, batch_size * image_bytes(recipe.data)))


class _InGraph:
    """Changes batches by TensorFlow's operations alone."""

    failure = None  # there is no Python that could fail

    def __init__(self, settings: AugmentationSettings, seed: int) -> None:
        from ustoolkit.data.augment_native import NativeAugmenter

        # Traced once, and not again in each epoch.
        self._native = tf.function(NativeAugmenter(settings, seed).__call__)

    def __call__(self, dataset: tf.data.Dataset, number: int) -> tf.data.Dataset:
        epoch, native = tf.constant(number, tf.int64), self._native

        def change(images: tf.Tensor, masks: tf.Tensor, source_ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return (*native(images, masks, source_ids, epoch), source_ids)

        return dataset.map(change, num_parallel_calls=tf.data.AUTOTUNE)

    def close(self) -> None:
        """Nothing is held."""


class _ByImgaug:
    """Changes batches by imgaug, several at once where processes do it; in this one they would wait for a lock."""

    def __init__(self, augmenter: BatchAugmenter) -> None:
        def change(
            images: np.ndarray, masks: np.ndarray, names: np.ndarray, epoch: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray]:
            return augmenter(images, masks, [name.decode() for name in names], int(epoch))

        self._calls = parallel_calls(augmenter)
        self._change = PythonCall(change, [tf.uint8, tf.uint8])

    def __call__(self, dataset: tf.data.Dataset, number: int) -> tf.data.Dataset:
        change = self._change

        def in_graph(images: tf.Tensor, masks: tf.Tensor, source_ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
            changed, moved = change(images, masks, source_ids, tf.constant(number, tf.int64))
            return tf.ensure_shape(changed, images.shape), tf.ensure_shape(moved, masks.shape), source_ids

        return dataset.map(in_graph, num_parallel_calls=self._calls).with_options(waiting_threads(self._calls))

    @property
    def failure(self) -> Exception | None:
        return self._change.failure

    def close(self) -> None:
        """Ends the processes, but for those that others use too."""
        self._change.close()


def _by_files(records: Records, source_ids: Sequence[str]) -> list[list[str]]:
    """The images in pieces of about the same number, each of files of its own."""
    chosen = set(source_ids)
    files: dict[str, list[str]] = {}
    for row in records.index:
        if row.source_id in chosen:
            files.setdefault(row.shard, []).append(row.source_id)
    each = -(-len(chosen) // _PIECES)
    pieces: list[list[str]] = [[]]
    for shard in sorted(files):
        if len(pieces[-1]) >= each:
            pieces.append([])
        pieces[-1] += files[shard]
    return pieces
