"""The run folder of a worker that is not the first: a copy of the first one's, since one process alone writes that."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ustoolkit.run import Run
from ustoolkit.training.placement import Placement

_NOT_NEEDED = ("tensorboard", "evaluation", "export", "explain", "unfinished-*", "*.tmp")


@contextlib.contextmanager
def run_of_worker(place: Placement | None, folder: Path, begin: Callable[[], Run]) -> Iterator[Run]:
    """A run to train in, in each of the workers.

    The first worker makes or opens the run. The others train in a copy, which begins from the same checkpoint and is
    removed in the end: to keep a checkpoint takes all workers, as some of the variables are read from all of them.

    Args:
        place: of this process; None where it trains alone.
        folder: of the run; where all workers see it, such as on a shared disk.
        begin: makes or opens the run there.
    Yields:
        the run; in the other workers its copy.
    Raises:
        RunError: the first worker could not make the run, or its folder is not seen here.
    """
    if place is None:
        yield begin()
        return
    run = place.first_alone(begin)
    with contextlib.ExitStack() as held:
        try:
            if run is None:
                temporary = held.enter_context(tempfile.TemporaryDirectory(prefix="ustoolkit-worker-"))
                original = Run(folder).folder
                ignored = shutil.ignore_patterns(*_NOT_NEEDED)
                run = Run(shutil.copytree(original, Path(temporary) / original.name, ignore=ignored))
        finally:
            place.wait()  # the first goes on when all have their copies
        yield run
