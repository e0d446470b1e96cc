"""Worker processes that end with the command that began them. No TensorFlow."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def available_cores() -> int:
    """How many cores this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_pool(workers: int, prepare: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """Processes to hand work to.

    They begin afresh, since forked ones would inherit TensorFlow's locks where the caller has it loaded. Interrupted,
    they end without a word, as the parent says that it was; and they end where the parent is killed.

    Args:
        workers: how many, at least 1.
        prepare: called once in each before its first work; a function of a module, so that it can be sent there.
    Returns:
        a pool; shut it down, or use it as a context.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(prepare,))


def mapped(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int, ahead: int = 4) -> Iterator[Result]:
    """Results of a function in the order of its jobs, worked on in processes, in memory that does not grow.

    Args:
        function: of a module, so that it can be sent to a process.
        jobs: taken as they are needed.
        workers: processes, at least 1.
        ahead: how many jobs a process may have waiting or done before their turn.
    Raises:
        BrokenProcessPool: a process was ended by the system; and what the function raises.
    """
    pool = process_pool(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(function, job))
            if len(waiting) >= ahead * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(prepare: Callable[[], None] | None) -> None:
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare()


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers, and they would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
