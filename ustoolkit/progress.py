"""One way to show progress: a bar with rate and time left on a terminal, silence everywhere else."""

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress_bar(total: int | None, description: str, unit: str = "image") -> tqdm:
    """A bar on stderr to `update` and `close`; it shows nothing where stderr is no terminal.

    Args:
        total: how many items there are, None where that is not known.
        description: two or three words before the bar.
        unit: what one item is called.
    """
    hidden = not sys.stderr.isatty()
    return tqdm(total=total, desc=description, unit=unit, dynamic_ncols=True, leave=False, disable=hidden)


def progress(items: Iterable[Item], description: str, total: int | None = None, unit: str = "image") -> Iterator[Item]:
    """Yields the items unchanged and shows how far the work is; see `progress_bar`.

    Args:
        items: what is worked on.
        total: how many there are, where `len(items)` does not tell.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(total, description, unit) as bar:
        for item in items:
            yield item
            bar.update()
