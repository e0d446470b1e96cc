"""imgaug in processes of its own, which share the pixels' memory with this one. No TensorFlow."""

import mmap
import os
import queue
import subprocess
import sys
import tempfile
import threading
import traceback
import weakref
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import BinaryIO

import cv2
import numpy as np

from ustoolkit.data.augment import Augmenter
from ustoolkit.errors import RunError
from ustoolkit.processes import available_cores
from ustoolkit.recipe.augmentation import AugmentationSettings

# (images, masks, source ids, epoch) to images and masks, of the same shapes and types
BatchAugmenter = Callable[[np.ndarray, np.ndarray, Sequence[str], int], tuple[np.ndarray, np.ndarray]]

_MOST_WORKERS = 16  # unless the recipe says so: more than a GPU takes, and each has 0.15 GB
_WORTH_PROCESSES = 10_000  # images in a whole training; imgaug takes 2 ms for one, and a process 2 s to start
_ATTEMPTS = 3  # at a batch whose process was ended

# Not multiprocessing's way to start, which runs the caller's script once more and with it imports TensorFlow.
_COMMAND = "import sys; sys.path[:] = {path!r}; from ustoolkit.data.augment_processes import _work; _work({ends})"


def batch_augmenter(settings: AugmentationSettings, seed: int, images: int, image_bytes: int) -> BatchAugmenter:
    """What changes whole batches at random by imgaug: in this process, or in several where that is worth it.

    Args:
        settings: how far each change may go, and in how many processes.
        seed: another seed, other changes.
        images: how many are changed in the whole training; few are changed in this process.
        image_bytes: of the largest batch, its masks included.
    Returns:
        to be called in any number of threads with uint8 (n, height, width, channels), uint8 (n, height, width), n
        source ids and the epoch; the result is the same bit for bit in any number of processes.
    """
    workers = settings.workers or min(available_cores(), _MOST_WORKERS)
    few = not settings.workers and images < _WORTH_PROCESSES
    if workers == 1 or few or os.name != "posix":
        return _InThisProcess(settings, seed)
    # Several readers, and each part that is augmented, share the same ones.
    key = (settings, seed, workers, image_bytes)
    with _lock:
        shared = _in_use.get(key)
        if shared is None or shared.closed:
            shared = _in_use[key] = AugmentationProcesses(*key)
        return shared


def parallel_calls(augmenter: BatchAugmenter | None) -> int:
    """How many batches an augmenter works on at once; 1 where there is none."""
    return augmenter.workers if isinstance(augmenter, AugmentationProcesses) else 1


class AugmentationProcesses:
    """Changes batches in processes, each of which takes a batch at a time.

    They start as they are needed, apart from the caller's script and from TensorFlow. They end with this object, and
    where this process ends in any way; their memory has no name, so that nothing of it stays. One that is ended by the
    system is replaced, and its batch changed anew.

    Args:
        settings: how far each change may go; `workers` is not asked.
        seed: another seed, other changes.
        workers: processes, at least 1.
        batch_bytes: of the largest batch, its masks included.
    """

    def __init__(self, settings: AugmentationSettings, seed: int, workers: int, batch_bytes: int) -> None:
        self.workers = workers
        self._crew = _Crew(settings, seed, batch_bytes)
        # The last one that came back goes out first, so that no more are started than there is work for.
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(None)
        self._finalizer = weakref.finalize(self, self._crew.end)

    def __call__(
        self, images: np.ndarray, masks: np.ndarray, source_ids: Sequence[str], epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Changes a batch; see `batch_augmenter`. Waits while all processes are at work.

        Raises:
            RunError: the processes could not be started, or were ended by the system, time and again.
            MemoryError: a process has too little.
            RuntimeError: anything else went wrong in a process, with its traceback.
        """
        worker, problem = self._idle.get(), None
        try:
            for _ in range(_ATTEMPTS):
                try:
                    worker = worker or self._crew.start()
                    return worker.changed(images, masks, source_ids, epoch)
                except (EOFError, OSError) as raised:  # it did not start, or its end of the pipe is gone
                    problem = raised
                    if worker is not None:
                        self._crew.dismiss(worker)
                        worker = None
        finally:
            self._idle.put(worker)
        raise RunError(
            f"a process that changes training images could not be started, or was ended by the system, {_ATTEMPTS} "
            f"times ({type(problem).__name__}: {problem}), mostly for want of memory. Use fewer, such as "
            f"--set augmentation.workers={max(1, self.workers // 2)}; 1 needs none."
        )

    @property
    def process_ids(self) -> list[int]:
        """Of the processes that have been started and were not dismissed."""
        return self._crew.process_ids

    @property
    def closed(self) -> bool:
        """Whether they have been ended."""
        return not self._finalizer.alive

    def close(self) -> None:
        """Ends the processes; a batch that one is at work on is lost."""
        self._finalizer()


_lock = threading.Lock()
_in_use: weakref.WeakValueDictionary[tuple, AugmentationProcesses] = weakref.WeakValueDictionary()


class _InThisProcess:
    def __init__(self, settings: AugmentationSettings, seed: int) -> None:
        self._augmenter = Augmenter(settings, seed)

    def __call__(
        self, images: np.ndarray, masks: np.ndarray, source_ids: Sequence[str], epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        changed, moved = np.empty_like(images), np.empty_like(masks)
        _change(self._augmenter, images, masks, source_ids, epoch, (changed, moved))
        return changed, moved


class _Worker:
    """A process, the pipe that says what to do, and the memory in which it does it."""

    def __init__(self, settings: AugmentationSettings, seed: int, batch_bytes: int) -> None:
        self._connection, other_end = Pipe()
        with other_end, _nameless_file() as file:
            os.ftruncate(file.fileno(), batch_bytes)
            self._memory = mmap.mmap(file.fileno(), batch_bytes)
            ends = (other_end.fileno(), file.fileno())
            command = _COMMAND.format(path=sys.path, ends=f"{ends[0]}, {ends[1]}")
            # A session of its own, so that Ctrl-C reaches only us: a process ends when its pipe does.
            self.process = subprocess.Popen(
                [sys.executable, "-c", command], stdin=subprocess.DEVNULL, pass_fds=ends, start_new_session=True
            )
        try:
            self._connection.send((settings, seed))
        except OSError:
            self.end()
            raise

    def changed(
        self, images: np.ndarray, masks: np.ndarray, source_ids: Sequence[str], epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        pixels, classes = _views(self._memory, images.shape)
        pixels[:], classes[:] = images, masks
        self._connection.send((images.shape, list(source_ids), epoch))
        problem = self._connection.recv()
        if problem is not None:
            lacks_memory, said = problem
            raise MemoryError(said) if lacks_memory else RuntimeError(f"in a process that changes images:\n{said}")
        return pixels.copy(), classes.copy()

    def end(self) -> None:
        # The pipe is left open: a thread may still be reading from it, and finds that the other end is gone.
        self.process.kill()  # it holds nothing that could be lost
        self.process.wait()


class _Crew:
    """The processes that were started, so that they can be ended."""

    def __init__(self, settings: AugmentationSettings, seed: int, batch_bytes: int) -> None:
        self._arguments = (settings, seed, batch_bytes)
        self._lock = threading.Lock()
        self._workers: list[_Worker] | None = []  # None when all have been ended

    def start(self) -> _Worker:
        with self._lock:
            if self._workers is None:
                raise RunError("the processes that change training images have been ended.")
            worker = _Worker(*self._arguments)
            self._workers.append(worker)
            return worker

    def dismiss(self, worker: _Worker) -> None:
        with self._lock:
            if self._workers is not None:
                self._workers.remove(worker)
                worker.end()

    @property
    def process_ids(self) -> list[int]:
        with self._lock:
            return [worker.process.pid for worker in self._workers or ()]

    def end(self) -> None:
        with self._lock:
            workers, self._workers = self._workers, None
        for worker in workers or ():
            worker.end()


def _nameless_file() -> BinaryIO:
    """A file in memory that is gone with the last process that holds it."""
    # Not in /dev/shm: containers often have 64 MB there, and writing beyond ends the process.
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("ustoolkit-batch"), "w+b")
    return tempfile.TemporaryFile()


def _views(memory: mmap.mmap, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, height, width, channels) and their masks behind them, both uint8."""
    pixels = np.ndarray(shape, np.uint8, memory)
    return pixels, np.ndarray(shape[:3], np.uint8, memory, offset=pixels.nbytes)


def _change(
    augmenter: Augmenter,
    images: np.ndarray,
    masks: np.ndarray,
    source_ids: Sequence[str],
    epoch: int,
    into: tuple[np.ndarray, np.ndarray],
) -> None:
    for place, (image, mask, name) in enumerate(zip(images, masks, source_ids, strict=True)):
        into[0][place], into[1][place] = augmenter(image, mask, name, epoch)


def _work(connection_number: int, memory_number: int) -> None:
    """What a process does, to the end of the other one or of its pipe."""
    cv2.setNumThreads(1)  # the processes share the cores already
    connection = Connection(connection_number)
    memory = mmap.mmap(memory_number, 0)
    try:
        augmenter = Augmenter(*connection.recv())
        while True:
            shape, source_ids, epoch = connection.recv()
            told = None
            try:
                arrays = _views(memory, shape)
                _change(augmenter, *arrays, source_ids, epoch, arrays)
            except Exception as problem:
                # As text: not every exception can be sent, and one of the system's would look like a broken pipe.
                told = isinstance(problem, MemoryError), traceback.format_exc()
            connection.send(told)
    except (EOFError, OSError):
        return
