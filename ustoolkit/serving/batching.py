"""Requests that arrive together share one call of the model."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from ustoolkit.serving.refusal import overloaded, stopping

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Job:
    """Rows for one signature.

    Attributes:
        signature: its name.
        kind: jobs of the same signature and kind may share a call; None for one that must have its own.
        inputs: arrays by name, of the same length along their first axis.
        rows: that length.
        pixels: of all images in it.
    """

    signature: str
    kind: Hashable
    inputs: Arrays
    rows: int
    pixels: int
    answer: "Future[Arrays]" = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)

    def fits(self, other: "Job") -> bool:
        """Whether both may share a call."""
        return self.kind is not None and (self.signature, self.kind) == (other.signature, other.kind)


class Batcher:
    """Collects jobs, and calls a model from threads of its own.

    Args:
        call: (signature, inputs) to outputs, arrays by name; called by several threads at once.
        batch: how many rows a shared call has at most; a job of more is called alone.
        pixels: how many pixels a shared call has at most.
        queue: how many jobs may wait.
        workers: threads.
        longest_wait_s: how long the first of a call waits for others, seconds.
        queue_pixels: how many pixels may wait or be computed; a single job always gets in.
    """

    def __init__(
        self,
        call: Callable[[str, Arrays], Arrays],
        batch: int,
        pixels: int,
        queue: int,
        workers: int,
        longest_wait_s: float,
        queue_pixels: int,
    ) -> None:
        self._call, self._batch, self._pixels, self._queue, self._wait = call, batch, pixels, queue, longest_wait_s
        self._queue_pixels, self._held_pixels = queue_pixels, 0
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"model-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> "Future[Arrays]":
        """Puts a job into the queue.

        Returns:
            the outputs of its rows, in time; or what the model raised for them.
        Raises:
            Refusal: the queue is full by jobs or by pixels, or closed.
        """
        with self._changed:
            if self._closed:
                raise stopping()
            if len(self._waiting) >= self._queue:
                raise overloaded(len(self._waiting))
            if self._held_pixels and self._held_pixels + job.pixels > self._queue_pixels:
                raise overloaded(len(self._waiting), self._held_pixels)
            self._held_pixels += job.pixels
            self._waiting.append(job)
            # To all: one that collects for another call would else be woken in place of one that is free.
            self._changed.notify_all()
        return job.answer

    def close(self) -> None:
        """Takes nothing more, and waits for what was taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while together := self._next():
            self._answer(together)
            with self._changed:
                self._held_pixels -= sum(job.pixels for job in together)
            # Else the thread would keep these arrays until its next job, which may come tomorrow.
            del together

    def _next(self) -> list[Job]:
        """The oldest job and others that share its call; none once the queue is closed and empty."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return []
                self._changed.wait()
            together = [self._waiting.popleft()]
            until = together[0].arrived + self._wait
            while True:
                full = self._join(together)
                left = until - time.monotonic()
                if full or self._closed or left <= 0 or together[0].kind is None:
                    return together
                self._changed.wait(left)

    def _join(self, together: list[Job]) -> bool:
        """Adds what fits from the queue, in its order; whether the call is full."""
        rows, pixels = sum(job.rows for job in together), sum(job.pixels for job in together)
        for job in [job for job in self._waiting if job.fits(together[0])]:
            if rows + job.rows > self._batch or pixels + job.pixels > self._pixels:
                return True
            self._waiting.remove(job)
            together.append(job)
            rows, pixels = rows + job.rows, pixels + job.pixels
        return rows >= self._batch

    def _answer(self, together: Sequence[Job]) -> None:
        together = [job for job in together if job.answer.running() or job.answer.set_running_or_notify_cancel()]
        if not together:
            return
        try:
            answers = _parted(self._call(together[0].signature, _joined(together)), together)
        except Exception as problem:
            if len(together) == 1:
                together[0].answer.set_exception(problem)
                return
            for job in together:  # one of them spoiled it: the others must not suffer
                self._answer([job])
            return
        for job, answer in zip(together, answers, strict=True):
            job.answer.set_result(answer)


def _joined(together: Sequence[Job]) -> Arrays:
    if len(together) == 1:
        return together[0].inputs
    return {name: np.concatenate([job.inputs[name] for job in together]) for name in together[0].inputs}


def _parted(outputs: Arrays, together: Sequence[Job]) -> list[Arrays]:
    """The rows of each job."""
    ends = np.cumsum([job.rows for job in together])
    if any(len(output) != ends[-1] for output in outputs.values()):
        raise RuntimeError("the model gave another number of rows than it was given")
    return [
        {name: output[end - job.rows : end] for name, output in outputs.items()}
        for job, end in zip(together, ends, strict=True)
    ]
