"""Which part of which split each image is in, by a file of splits or by what the source knew."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ustoolkit.data.audit.examine import Row
from ustoolkit.errors import DataError
from ustoolkit.files import read_json

Parts = dict[str, set[str]]  # the parts of each image, by source id; more than one is a mistake
_ATTRIBUTES = ("fold", "split", "subset", "set", "part", "partition")
_MOST_FOLDS = 20
_FOLD = re.compile(r"(fold[ _-]?)?\d{1,2}(\.0)?", re.IGNORECASE)
_PART = re.compile(r"(train|valid|val|dev|test|hold[ _-]?out|unlabell?ed)\w*", re.IGNORECASE)


def read_parts(path: Path | str) -> dict[str, list[str]]:
    """Reads the parts of a `splits.json` as they are, mistakes included.

    Returns:
        source ids by the part's name.
    Raises:
        DataError: not a file of splits.
    """
    remedy = "Make one with 'ustoolkit split RECORDS'."
    content = read_json(path, DataError, remedy)
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in parts.values()
    ):
        raise DataError(f"{path}: expected 'parts' with a list of image ids each. {remedy}")
    return parts


def find_splits(rows: Iterable[Row], splits: Mapping[str, Iterable[str]] | None) -> dict[str, Parts]:
    """Every way in which the images are known to be divided.

    Args:
        rows: the images.
        splits: source ids by part; None to look at the attributes instead: those called fold, split, set, subset or
            part that hold fold numbers, or words such as train and test.
    Returns:
        the parts of each image, by the split's name; empty where nobody divided them.
    """
    if splits is not None:
        parts: Parts = {}
        for part, names in splits.items():
            for name in names:
                parts.setdefault(name, set()).add(part)
        return {"split": parts}
    found: dict[str, Parts] = {}
    for row in rows:
        for name, value in row.attributes.items():
            if name.strip().lower() in _ATTRIBUTES and str(value).strip():
                found.setdefault(name, {})[row.source_id] = {str(value).strip()}
    return {name: parts for name, parts in found.items() if _divides(name, parts)}


def _divides(name: str, parts: Parts) -> bool:
    """Whether the values are parts of a split: 'set' and 'part' may mean anything, a fold is always one."""
    values = set().union(*parts.values())
    if all(_PART.fullmatch(value) for value in values):
        return True
    if name.strip().lower() == "fold":
        return len(values) <= _MOST_FOLDS
    return name.strip().lower() == "split" and all(_FOLD.fullmatch(value) or _PART.fullmatch(value) for value in values)
