"""Files that lie in a data set's folder and are no part of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.readers.pairing import pair_masks


def loose_files(root: Path, entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Image files under a folder that are no part of the data set (a table does not name them), and masks of no image.

    Args:
        root: the folder.
        entries: what a reader found there.
    Returns:
        relative paths, under 'images' and 'masks'.
    """
    known = {entry.source_id for entry in entries}
    used = {path.resolve() for entry in entries for path in _files(entry.load)}
    pairs, orphans = pair_masks(root)
    images = [path for path in pairs if path.resolve() not in used and not known & _ids(path, root)]
    masks = [path for path in orphans if path.resolve() not in used]
    return {
        "images": [str(path.relative_to(root)) for path in images],
        "masks": [str(path.relative_to(root)) for path in masks],
    }


def _files(load: Any) -> set[Path]:
    """The files that a loader will read, as far as it names them."""
    while hasattr(load, "load"):
        load = load.load
    named = (getattr(load, "image", None), *getattr(load, "masks", ()))
    return {path for path in named if isinstance(path, Path)}


def _ids(path: Path, root: Path) -> set[str]:
    return {path.stem, path.relative_to(root).with_suffix("").as_posix()}
