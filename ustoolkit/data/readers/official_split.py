"""Which part of its own split a data set's folders and files name: train, val or test."""

import re
from collections.abc import Iterable

_PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def named_part(names: Iterable[str]) -> str:
    """The part that the last telling name tells, such as 'train' for `train_images/a.png`.

    Args:
        names: of folders, from the outermost, or of a file; 'instances_val2017', 'Test Images' and 'trainImages' tell.
    Returns:
        'train', 'val' or 'test'; '' where no name tells, or one tells two parts.
    """
    told = ""
    for name in names:
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
        parts = {_PARTS[word.lower()] for word in words if word.lower() in _PARTS}
        if parts:
            told = parts.pop() if len(parts) == 1 else ""
    return told


def part_attribute(names: Iterable[str]) -> dict[str, str]:
    """The attribute 'split' by `named_part`; none where no name tells."""
    part = named_part(names)
    return {"split": part} if part else {}
