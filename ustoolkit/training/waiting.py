"""How long training waits for its data."""

import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class WaitingTime(Generic[Batch]):
    """Iterates over batches, and counts the seconds until each was there.

    Args:
        batches: to iterate over, once.
    Attributes:
        seconds: waited so far.
    """

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = iter(batches)
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        asked = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.seconds += time.perf_counter() - asked
