"""Decoded images kept between epochs, in memory, on disk or not at all; each epoch draws them in another order."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Literal

import numpy as np
import tensorflow as tf

from ustoolkit.data.python_call import PythonCall
from ustoolkit.errors import OutputError, RecipeError
from ustoolkit.progress import progress
from ustoolkit.recipe.settings import DataSettings

CACHE_BYTES = 1_000_000_000  # with cache = "auto", larger sets are decoded anew in each epoch
WINDOW_BYTES = 256_000_000  # of images that wait to be drawn where none are cached
_WINDOW_IMAGES = 4096  # at most, also where they are small

_Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


class ImageCache:
    """Images, masks and source ids of one part of a data set, read once or in each epoch.

    In memory and on disk any image can follow any other. Where nothing is cached, an epoch reads all pieces side by
    side, in a drawn order, and draws from a window of what it has read, so that memory does not grow with the set.

    Args:
        pieces: datasets of (uint8 image, uint8 mask, string source id), all images of one size.
        counts: how many each holds.
        settings: size, channels and `cache`.
        folder: where the file of `cache = "disk"` lies; None for the system's folder of temporary files. The file has
            no name there, so that nothing of it stays however this process ends.
        sharing: how many caches of this process have the memory for images that wait to be drawn.
    Raises:
        RecipeError: this system cannot keep images on disk.
    """

    def __init__(
        self,
        pieces: Sequence[tf.data.Dataset],
        counts: Sequence[int],
        settings: DataSettings,
        folder: Path | None = None,
        sharing: int = 1,
    ) -> None:
        self._pieces, self._counts, self._settings, self._folder = pieces, counts, settings, folder
        self.count = sum(counts)
        self.kind = cache_kind(settings, self.count)
        self._window = self.count if self.kind == "memory" else min(self.count, window_images(settings, sharing))
        if self.kind == "disk" and not hasattr(os, "preadv"):
            raise RecipeError(
                "data.cache: 'disk' reads in a way that POSIX systems alone have. Choose 'memory' or 'off'."
            )
        self._all = pieces[0]
        for piece in pieces[1:]:
            self._all = self._all.concatenate(piece)
        if self.kind == "memory":
            self._all = self._all.cache()
        self._file: ImageFile | None = None

    def batches(self, size: int, seed: int | None, drop_remainder: bool) -> tf.data.Dataset:
        """All images once.

        Args:
            size: images a batch.
            seed: of the order; None for the order in which they are read.
            drop_remainder: whether to leave out a last batch that is not full.
        Returns:
            a dataset of uint8 (size, height, width, channels), uint8 (size, height, width) and string (size,).
        Raises:
            OutputError: the cache does not fit on the disk.
        """
        if self.kind == "disk":
            return self._on_disk().batches(self._order(seed), size, drop_remainder)
        images = self._all if self.kind == "memory" or seed is None else self._merged(seed)
        return _shuffled(images, self._window, seed).batch(size, drop_remainder=drop_remainder)

    def masks(self) -> tf.data.Dataset:
        """The masks, each once, in the order in which they are read: uint8 (height, width)."""
        if self.kind == "disk":
            return self.batches(1, None, False).map(lambda images, masks, source_ids: masks[0])
        return self._all.map(lambda image, mask, source_id: mask)

    @property
    def failure(self) -> Exception | None:
        """What went wrong while the file was read; None where nothing did."""
        return None if self._file is None else self._file.failure

    def close(self) -> None:
        """Lets go of the file; what is read next fills another one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _order(self, seed: int | None) -> np.ndarray:
        return np.arange(self.count) if seed is None else np.random.default_rng(seed).permutation(self.count)

    def _merged(self, seed: int) -> tf.data.Dataset:
        """The pieces, each in its own order, dealt together like cards."""
        if len(self._pieces) == 1:
            return self._all
        choice = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(self._pieces)), self._counts))
        return tf.data.Dataset.choose_from_datasets(
            list(self._pieces), tf.data.Dataset.from_tensor_slices(choice), stop_on_empty_dataset=False
        )

    def _on_disk(self) -> "ImageFile":
        if self._file is None:
            file = ImageFile(self._settings, self._folder)
            file.fill(progress(self._all, "caching images", total=self.count))
            self._file = file  # not before, so that none is read that was filled in part
        return self._file


def cache_kind(settings: DataSettings, count: int) -> Literal["memory", "disk", "off"]:
    """Where so many images are kept between epochs."""
    if settings.cache != "auto":
        return settings.cache
    return "memory" if count * image_bytes(settings) <= CACHE_BYTES else "off"


def window_images(settings: DataSettings, sharing: int = 1) -> int:
    """How many images wait to be drawn where none are cached.

    Args:
        settings: their size.
        sharing: how many caches of this process have the memory.
    """
    return max(1, min(_WINDOW_IMAGES, WINDOW_BYTES // sharing // image_bytes(settings)))


def image_bytes(settings: DataSettings) -> int:
    """Bytes of a decoded image and its mask."""
    height, width = settings.image_size
    return height * width * (settings.channels + 1)


class ImageFile:
    """Images and masks, one behind the other in a file without a name; their source ids in memory."""

    def __init__(self, settings: DataSettings, folder: Path | None) -> None:
        self._shape = (*settings.image_size, settings.channels)
        self._stride = image_bytes(settings)
        self._folder = folder or os.environ.get("TMPDIR") or "the folder of temporary files"
        self._source_ids = np.zeros(0, object)
        self._call = PythonCall(self._read, [tf.uint8, tf.uint8, tf.string])
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=1 << 20)  # noqa: SIM115
        except OSError as problem:
            raise self._unwritable(problem) from None

    @property
    def failure(self) -> Exception | None:
        """What went wrong while it was read; None where nothing did."""
        return self._call.failure

    def fill(self, images: Iterable[_Batch]) -> None:
        """Writes the images."""
        source_ids = []
        try:
            for image, mask, source_id in images:
                self._file.write(image.numpy().data)
                self._file.write(mask.numpy().data)
                source_ids.append(source_id.numpy())
            self._file.flush()
        except OSError as problem:
            raise self._unwritable(problem) from None
        self._source_ids = np.array(source_ids, object)

    def batches(self, order: np.ndarray, size: int, drop_remainder: bool) -> tf.data.Dataset:
        """The images at int64 (n,) places, so many at a time."""
        places = tf.data.Dataset.from_tensor_slices(order).batch(size, drop_remainder=drop_remainder)
        return places.map(self._batch, num_parallel_calls=tf.data.AUTOTUNE)

    def close(self) -> None:
        """Lets go of the file, which is closed when the last thread that reads it has done so."""
        self._call.close()

    def _batch(self, places: tf.Tensor) -> _Batch:
        count = places.shape[:1]
        shapes = ((*count, *self._shape), (*count, *self._shape[:2]), tuple(count))
        return tuple(tf.ensure_shape(array, shape) for array, shape in zip(self._call(places), shapes, strict=True))

    def _read(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images = np.empty((len(places), *self._shape), np.uint8)
        masks = np.empty((len(places), *self._shape[:2]), np.uint8)
        for number, place in enumerate(places):
            try:
                found = os.preadv(self._file.fileno(), [images[number], masks[number]], int(place) * self._stride)
            except OSError as problem:
                raise self._unreadable(problem.strerror or str(problem)) from None
            if found != self._stride:
                raise self._unreadable(f"{found:,} of {self._stride:,} bytes of an image were there")
        return images, masks, self._source_ids[places]

    def _unwritable(self, problem: OSError) -> OutputError:
        return OutputError(
            f"{self._folder}: the cache of decoded images cannot be written ({problem.strerror}). Make room there, or "
            "set data.cache to 'off'."
        )

    def _unreadable(self, found: str) -> OutputError:
        return OutputError(
            f"{self._folder}: the cache of decoded images cannot be read back ({found}). Set data.cache to 'off'."
        )


def _shuffled(dataset: tf.data.Dataset, window: int, seed: int | None) -> tf.data.Dataset:
    return dataset if seed is None else dataset.shuffle(window, seed=seed, reshuffle_each_iteration=False)
