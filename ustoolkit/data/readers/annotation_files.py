"""Annotation files in JSON: found, opened within limits, and refused by name where they are not what they should be."""

import json
from pathlib import Path
from typing import Any

from ustoolkit.errors import DataError

LARGEST_ANNOTATION_BYTES = 100_000_000  # beyond it a file is taken for a mistake, or an attack on memory


def read_annotations(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: missing, larger than `LARGEST_ANNOTATION_BYTES`, or no JSON.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_ANNOTATION_BYTES:
            raise DataError(
                f"{path}: expected annotations of at most {LARGEST_ANNOTATION_BYTES:,} bytes, found {size:,}. Divide "
                "the file, or save it without the images' data."
            )
        return json.loads(path.read_bytes())
    except OSError as problem:
        raise DataError(f"{path}: the file cannot be read ({problem.strerror}). Check the path.") from None
    except (ValueError, RecursionError) as problem:  # UnicodeDecodeError is a ValueError
        reason = "nested too deep" if isinstance(problem, RecursionError) else problem
        raise DataError(
            f"{path}: expected JSON, found something else ({reason}). Save the annotations again."
        ) from None


def first_bytes(path: Path, count: int = 4096) -> bytes:
    """The start of a file, to tell what it is; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""
