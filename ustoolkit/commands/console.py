"""What commands share: their result, their warnings, and what PATH and its options mean."""

import argparse
import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ustoolkit.errors import RecordsError

if TYPE_CHECKING:
    from ustoolkit.data.records import Records
    from ustoolkit.recipe import DataSetSettings

Outcome = tuple[dict[str, Any], str]  # a command's result for a script, and for a person


def data_set(options: argparse.Namespace) -> "tuple[Path, DataSetSettings]":
    """The folder and the description that PATH and the options mean."""
    from ustoolkit.recipe import DataSetSettings, load_data_set

    path: Path = options.path
    settings = load_data_set(path) if path.suffix == ".toml" else DataSetSettings(path=str(path))
    changes = {"format": options.format, "patient": options.patient}
    settings = settings.model_copy(update={key: value for key, value in changes.items() if value})
    if not settings.path:
        raise RecordsError(f"{path}: expected a path in the description. Add path = '…' to it.")
    return Path(settings.path), settings


def loose_lines(loose: dict[str, list[str]]) -> list[str]:
    """What lies in a folder and is no part of the data set, a sentence each."""
    from ustoolkit.data.audit import listed

    remedies = {
        "images": "images that no table or annotation names, left out: {}. Name them there to take them in.",
        "masks": "masks of no image, left out: {}. Name them after their image, in a folder like its own.",
    }
    return [remedies[kind].format(listed(names)) for kind, names in loose.items() if names]


def warn_of_refused(refused: list[dict[str, str]], done: str) -> None:
    """Names the images that were left out, and what became of the others."""
    if refused:
        reasons = "".join(f"\n  {item['reason']}" for item in refused)
        warn(f"{len(refused)} images were refused, {done}:{reasons}")


def warn_of_problems(records: "Records", splits: dict[str, list[str]] | None = None) -> None:
    """Says what the audit finds in records by their index, notices apart."""
    from ustoolkit.data.audit import audit_records, cases_text

    for problem in audit_records(records, splits):
        if problem["severity"] != "notice":
            warn(f"{problem['kind']}: {cases_text(problem)}. {problem['remedy']}")


def warn(message: str) -> None:
    """Says something that does not stop the work."""
    print(f"ustoolkit: {message}", file=sys.stderr)


@contextlib.contextmanager
def going_on_later(work: str, so_far: str) -> Iterator[None]:
    """A long piece of work that says how far it is by `say_progress`, and that the same command goes on with.

    Args:
        work: what it is, such as 'study'.
        so_far: a sentence on what is there of it when it is interrupted.
    """
    try:
        yield
    except KeyboardInterrupt:
        warn(f"the {work} stopped; the same command goes on with it. {so_far}")
        raise
    finally:
        if sys.stderr.isatty():
            print(file=sys.stderr)


def say_progress(line: str, changed: bool) -> None:
    """Says how far a long piece of work is: on a terminal in one line that is kept up to date, else where one changed.

    Args:
        line: what to say.
        changed: whether more than the time left has.
    """
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)
    elif changed:
        print(f"ustoolkit: {line}", file=sys.stderr, flush=True)
