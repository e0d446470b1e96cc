"""Images of a part, read from the record files and decoded at the network's size, by one reader or several."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlsplit

import numpy as np
import tensorflow as tf

from ustoolkit.data.records import IndexRow, Records
from ustoolkit.data.resize import mask_to_network, to_network
from ustoolkit.errors import RecipeError, RecordsError
from ustoolkit.recipe import Recipe
from ustoolkit.recipe.pixels import OFF
from ustoolkit.recipe.settings import DataSettings

_HASHES = 2**62
_SECONDS_TO_ANSWER = 10.0  # of a service; without a limit tf.data waits for ever


@dataclass(frozen=True)
class Readers:
    """Into how many readers a part is divided, and which of them read for this process.

    A batch has equal parts of all readers, so that it holds the same images whether one process has all readers or many
    processes have some each.

    Attributes:
        count: readers in all processes, at least 1.
        workers: processes; each has as many readers.
        worker: the number of this process, from 0.
    Raises:
        RecipeError: the readers cannot be shared evenly.
    """

    count: int = 1
    workers: int = 1
    worker: int = 0

    def __post_init__(self) -> None:
        if self.count % self.workers:
            raise RecipeError(
                f"data.readers: expected a multiple of the {self.workers} workers, found {self.count}. Set it to "
                f"{-(-self.count // self.workers) * self.workers}, or to 0 for one a worker."
            )

    @classmethod
    def of(cls, settings: DataSettings, workers: int = 1, worker: int = 0) -> "Readers":
        """The readers that a recipe asks for; one a worker where it leaves it open."""
        return cls(settings.readers or workers, workers, worker)

    @property
    def own(self) -> range:
        """Numbers of the readers of this process."""
        each = self.count // self.workers
        return range(self.worker * each, (self.worker + 1) * each)

    def part_of_batch(self, batch_size: int) -> int:
        """Images of a batch that each reader gives.

        Args:
            batch_size: over all processes.
        Raises:
            RecipeError: they cannot have equal parts.
        """
        if batch_size % self.count:
            raise RecipeError(
                f"training.batch_size: expected a multiple of the {self.count} readers, of which each gives an equal "
                f"part of a batch, found {batch_size}. Change it, or data.readers."
            )
        return batch_size // self.count

    def divide(self, records: Records, source_ids: Sequence[str]) -> list[list[str]]:
        """The images of every reader, also of other processes.

        The files are laid end to end and cut into stretches of as many images, so that a reader has files of its own
        but for the one in which a stretch ends. Readers differ by one image at most, however large the files are.

        Args:
            records: where the images are.
            source_ids: which of them.
        Returns:
            source ids of each reader, in the order of the files.
        Raises:
            RecordsError: there are fewer images than readers.
        """
        if len(source_ids) < self.count:
            raise RecordsError(
                f"{records.folder}: expected an image or more for each of {self.count} readers, found "
                f"{len(source_ids)}. Lower data.readers, or use fewer workers."
            )
        if self.count == 1:
            return [list(source_ids)]
        chosen = set(source_ids)
        ordered = [row.source_id for row in sorted(records.index, key=_place) if row.source_id in chosen]
        ends = [number * len(ordered) // self.count for number in range(self.count + 1)]
        return [ordered[start:end] for start, end in pairwise(ends)]

    def steps(self, count: int, batch_size: int) -> int:
        """Full batches of an epoch: as many as the reader with the fewest images has parts for.

        Args:
            count: images of all readers.
            batch_size: over all processes.
        """
        return count // self.count // self.part_of_batch(batch_size)


def read_images(records: Records, source_ids: Sequence[str], settings: DataSettings) -> tf.data.Dataset:
    """Reads images and masks in the order of the files.

    Args:
        records: where they are.
        source_ids: which of them; each must have a mask.
        settings: the network's input.
    Returns:
        a dataset of (image, mask, source id): uint8 (height, width, channels), uint8 (height, width), class indices,
        `ustoolkit.recipe.data_set.IGNORE` where the image is padded, and string ().
    Raises:
        RecordsError: two names cannot be told apart.
    """
    chosen = set(source_ids)
    shards = sorted({row.shard for row in records.index if row.source_id in chosen})
    wanted = _hashes_of(records, chosen, set(shards))
    # Whole paths, since the helpers of a service do not work in this process's folder.
    dataset = tf.data.TFRecordDataset([str((records.folder / shard).resolve()) for shard in shards])
    dataset = dataset.map(_parse, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.filter(lambda features: _is_one_of(features["image/source_id"], wanted))
    return dataset.map(lambda features: _decode(features, settings), num_parallel_calls=tf.data.AUTOTUNE)


def joined(datasets: Sequence[tf.data.Dataset]) -> tf.data.Dataset:
    """Batches of several readers as one: the parts of a batch one after the other, until one reader has no more.

    Args:
        datasets: of each reader, batches of equal structure.
    """
    if len(datasets) == 1:
        return datasets[0]

    def join(*parts: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        return tuple(tf.concat(pieces, axis=0) for pieces in zip(*parts, strict=True))

    return tf.data.Dataset.zip(tuple(datasets)).map(join)


def through_service(dataset: tf.data.Dataset, recipe: Recipe) -> tf.data.Dataset:
    """A dataset that the workers of a tf.data service carry out, where the recipe names one.

    Each element is given once, in the order in which workers are done. What a worker that dies had begun is lost to
    this pass through the data.

    Args:
        dataset: that reads files, of TensorFlow's operations alone; not cached.
        recipe: the service's address, and what augments.
    Returns:
        the same elements; the dataset itself where there is no service.
    Raises:
        RecipeError: the service cannot carry out the augmentation, the address is none, or nothing answers there.
    """
    address = recipe.data.service
    if address == OFF:
        return dataset
    place = _host_and_port(address)
    if recipe.augmentation.enabled and recipe.augmentation.engine != "tensorflow":
        raise RecipeError(
            f"data.service: expected augmentation.engine = 'tensorflow', since a service runs TensorFlow's operations "
            f"alone, found '{recipe.augmentation.engine}'. Set it, or data.service to 'off'."
        )
    try:
        socket.create_connection(place, _SECONDS_TO_ANSWER).close()
    except OSError as problem:
        raise RecipeError(
            f"data.service: nothing answers at '{address}' ({problem.strerror or problem}). Start a dispatcher there, "
            "correct the address, or set it to 'off'."
        ) from None
    service = tf.data.experimental.service
    return dataset.apply(service.distribute(service.ShardingPolicy.DYNAMIC, address))


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address)
        if parts.scheme == "grpc" and parts.hostname and parts.port and not parts.path:
            return parts.hostname, parts.port
    except ValueError:  # the port is no number
        pass
    raise RecipeError(
        f"data.service: expected an address as grpc://host:port, found '{address}'. Write such as grpc://host:5000, or "
        "'off'."
    )


def _place(row: IndexRow) -> tuple[str, int]:
    return row.shard, row.offset


def _hashes_of(records: Records, chosen: set[str], shards: set[str]) -> tf.Tensor:
    """Sorted int64 hashes of names: a small constant, where a table would keep all names, and no service takes one."""
    names = [row.source_id for row in records.index if row.shard in shards]
    hashes = tf.strings.to_hash_bucket_fast(tf.constant(names), _HASHES).numpy()
    if len(np.unique(hashes)) < len(names):
        raise RecordsError(f"{records.folder}: two names have the same hash. Rename one of them and convert again.")
    return tf.constant(np.sort(hashes[[name in chosen for name in names]]))


def _is_one_of(name: tf.Tensor, hashes: tf.Tensor) -> tf.Tensor:
    hashed = tf.strings.to_hash_bucket_fast(name, _HASHES)
    place = tf.minimum(tf.searchsorted(hashes, hashed[tf.newaxis])[0], tf.size(hashes) - 1)
    return hashes[place] == hashed


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
