"""Annotation files: found, opened within limits, their values checked, and the images that they name."""

import json
import math
import os
import random
import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path, PureWindowsPath
from typing import Any

from ustoolkit.data.file_tree import check_inside, find_files, locate
from ustoolkit.data.image_files import find_images
from ustoolkit.data.readers.pairing import pair_masks
from ustoolkit.data.shapes import Point
from ustoolkit.errors import DataError

LARGEST_ANNOTATION_BYTES = 100_000_000  # beyond it a file is taken for a mistake, or an attack on memory
_TRIED = 64  # files that are looked into to tell what a folder holds
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_limited(path: Path) -> bytes:
    """The bytes of an annotation file.

    Raises:
        DataError: missing, no file, or larger than `LARGEST_ANNOTATION_BYTES`.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would wait for ever
            raise DataError(f"{path}: expected a file of annotations, found something else. Check the path.")
        size = path.stat().st_size
        if size > LARGEST_ANNOTATION_BYTES:
            raise DataError(
                f"{path}: expected annotations of at most {LARGEST_ANNOTATION_BYTES:,} bytes, found {size:,}. Divide "
                "the file, or save it without the images' data."
            )
        return path.read_bytes()
    except OSError as problem:
        raise DataError(f"{path}: the file cannot be read ({problem.strerror}). Check the path.") from None


def read_annotations(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: missing, larger than `LARGEST_ANNOTATION_BYTES`, or no JSON.
    """
    content = read_limited(path)
    try:
        return parse_json(content)
    except ValueError as problem:
        raise DataError(
            f"{path}: expected JSON, found something else ({problem}). Save the annotations again."
        ) from None


def parse_json(content: bytes) -> Any:
    """JSON to values; half a surrogate pair, which no file can hold, becomes '?'.

    Raises:
        ValueError: no JSON, or nested too deep.
    """
    try:
        value = json.loads(content)
        if _SURROGATE.search(content):
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def first_bytes(path: Path, count: int = 4096) -> bytes:
    """The start of a file, to tell what it is; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def some_files(root: Path, suffixes: Collection[str]) -> list[Path]:
    """Files under a folder by suffix, a few of them where there are many: the same ones at every call."""
    files = find_files(root, suffixes)
    return files if len(files) <= _TRIED else random.Random(0).sample(files, _TRIED)


def place_of(path: Path, root: Path) -> str:
    """A file's path within the data set's folder, for messages."""
    return path.relative_to(root).as_posix().encode(errors="backslashreplace").decode()


def as_number(value: Any, what: str, place: str) -> float:
    """A number of an annotation.

    Args:
        value: as JSON gave it.
        what, place: for the message: 'x', 'scan_017.json, shape 3'.
    Raises:
        DataError: anything else, infinity and NaN too.
    """
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    if not math.isfinite(number):
        raise DataError(f"{place}: expected a number as {what}, found {shown(value)}. Draw it again, or delete it.")
    return number


def as_points(value: Any, place: str) -> tuple[Point, ...]:
    """A list of [x, y] of an annotation.

    Raises:
        DataError: anything else.
    """
    pairs = value if isinstance(value, list) else [value]
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError(f"{place}: expected points as a list of [x, y], found {shown(pair)}. Draw it again.")
    return tuple((as_number(x, "x", place), as_number(y, "y", place)) for x, y in pairs)


def as_text(value: Any, what: str, place: str) -> str:
    """A word of an annotation; a number is spelled, null is ''.

    Raises:
        DataError: anything else.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{place}: expected a word as {what}, found {shown(value)}. Correct it.")
    return str(value).strip()


def as_object(value: Any, what: str, place: str) -> dict[str, Any]:
    """A JSON object of an annotation; null is an empty one.

    Raises:
        DataError: anything else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(f"{place}: expected an object as {what}, found {shown(value)}. Save the annotations again.")
    return value


def shown(value: Any) -> str:
    """A value for a message, shortened."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


class NamedImages:
    """The images under a folder, found by the names that annotations call them.

    Attributes:
        root: the folder.
        paths: all of them, sorted.
    """

    def __init__(self, root: Path) -> None:
        """Lists the folder."""
        self.root = root
        self.paths = find_images(root)
        self._real_folders: dict[Path, str] = {}
        self._by_key = {self._key(path): path for path in self.paths}
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[tuple[Path, str], list[Path]] = {}
        for path in self.paths:
            self._by_name.setdefault(path.name.lower(), []).append(path)
            self._by_stem.setdefault((path.parent, path.stem.lower()), []).append(path)
        self._folders = {path.parent for path in self.paths}

    def find(self, folder: Path, name: str, told_by: str) -> Path:
        """The image that an annotation names: where it says, else beside it, else the only one of its name.

        The last is tried where no images lie beside the annotation. Upper and lower case are one, where the letter is
        not met.

        Args:
            folder, name, told_by: as for `locate`.
        Raises:
            DataError: the path leads out of the root, there is no such image, or there are several.
        """
        try:
            path = locate(self.root, folder, name, told_by)
            known = self._by_key.get(self._key(path))
            return known or self.root / os.path.relpath(path, self.root)
        except DataError:
            check_inside(self.root, folder, name, told_by)
            called = self._by_name.get(PureWindowsPath(name).name.lower(), [])
            found = [path for path in called if path.parent == folder or folder not in self._folders]
            if len(found) == 1:
                return found[0]
            if found:
                places = ", ".join(place_of(path, self.root) for path in found[:3])
                raise DataError(
                    f"{told_by}: several images are called {name[:100]!r}: {places}. Put the annotation beside "
                    "its image."
                ) from None
            raise

    def beside(self, annotation: Path) -> Path | None:
        """The image in an annotation's folder that has its stem; None where there is none, or several."""
        found = self._by_stem.get((annotation.parent, annotation.stem.lower()), [])
        exact = [path for path in found if path.stem == annotation.stem]
        return next((group[0] for group in (exact, found) if len(group) == 1), None)

    def without_masks(self) -> list[Path]:
        """The images less the mask files of others among them, such as editors export beside what they annotate."""
        masks = {mask for masks in pair_masks(self.root)[0].values() for mask in masks}
        return [path for path in self.paths if path not in masks]

    def _key(self, path: Path) -> str:
        """One key for the paths that links and '..' make of a file."""
        if path.parent not in self._real_folders:
            self._real_folders[path.parent] = os.path.realpath(path.parent)
        return os.path.join(self._real_folders[path.parent], path.name)  # noqa: PTH118 (ten times faster)


def source_ids(paths: Iterable[Path], root: Path) -> dict[Path, str]:
    """A name for each file: its stem; its path where stems are shared; with its suffix where that is shared too."""
    paths = list(paths)
    stems = Counter(path.stem for path in paths)
    places = Counter(path.with_suffix("") for path in paths)

    def named(path: Path) -> str:
        if stems[path.stem] == 1:
            return path.stem
        relative = path.relative_to(root)
        return (relative if places[path.with_suffix("")] > 1 else relative.with_suffix("")).as_posix()

    return {path: named(path) for path in paths}
