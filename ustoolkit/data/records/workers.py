"""Shards converted by the processes of this machine."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool

import cv2

from ustoolkit.data.records.shard import ShardTask, convert_shard
from ustoolkit.errors import RecordsError
from ustoolkit.processes import available_cores, process_pool

Engine = Callable[[Sequence[ShardTask]], Iterator[None]]  # converts shards, in any order; yields after each
_IMAGES_A_WORKER = 64  # with fewer, starting a process takes longer than it saves


def local_engine(workers: int, images: int) -> Engine:
    """Processes of this machine.

    Args:
        workers: how many; 0 for one a core, as far as there is work for them.
        images: how many there are to convert.
    """
    count = workers or min(available_cores(), max(1, images // _IMAGES_A_WORKER))

    def convert(tasks: Sequence[ShardTask]) -> Iterator[None]:
        return _convert(tasks, min(count, len(tasks)))

    return convert


def _convert(tasks: Sequence[ShardTask], workers: int) -> Iterator[None]:
    if workers <= 1:
        for task in tasks:
            convert_shard(task)
            yield
        return
    pool = process_pool(workers, _prepare_worker)
    try:
        for finished in as_completed([pool.submit(convert_shard, task) for task in tasks]):
            finished.result()
            yield
    except (BrokenProcessPool, MemoryError):
        raise RecordsError(
            f"one of {workers} worker processes was ended by the system, mostly for want of memory. Run this again "
            f"with fewer, such as --workers {max(1, workers // 2)}; it goes on with the shards that are finished."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    cv2.setNumThreads(1)  # the processes share the cores already
