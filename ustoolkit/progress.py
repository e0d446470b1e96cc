"""One way to show progress: a bar with rate and time left on a terminal, silence everywhere else."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], description: str, total: int | None = None, unit: str = "image") -> Iterator[Item]:
    """Yields the items unchanged and shows on stderr how far the work is, where stderr is a terminal.

    Args:
        items: what is worked on.
        description: two or three words before the bar.
        total: how many items there are, where `len(items)` does not tell.
        unit: what one item is called.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, desc=description, total=total, unit=unit, dynamic_ncols=True, leave=False)
