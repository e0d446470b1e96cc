"""What tells one piece of work from another: the loaders, all they were told, and the state of the files they name."""

import dataclasses
import functools
import hashlib
import os
import pickle
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any

import numpy as np
from pydantic import BaseModel

from ustoolkit.data.readers.entry import Entry


def entries_digest(entries: Iterable[Entry]) -> str:
    """A digest (hex) of entries: another one where a loader was told something else or a file that it names changed.

    Of a file its size and time of change count, not its content, so this is quick. What a loader reads without holding
    its path as a `Path` is not seen.

    Args:
        entries: of a shard.
    Returns:
        the same in every process. Loaders that cannot be told apart, such as functions made in functions, give a
        digest that no other call gives.
    """
    digest = hashlib.sha256()
    told = _Told(digest.update)
    for entry in entries:
        told.add(entry)
    return digest.hexdigest()


class _Told:
    """Feeds values to a hash, each with its kind and its length, so that different ones never run together."""

    def __init__(self, update: Callable[[bytes], None]) -> None:
        self._update = update
        self._files: dict[PurePath, bytes] = {}
        self._settings: dict[int, bytes] = {}

    def add(self, value: Any) -> None:
        if value is None or isinstance(value, bool | int | float | str):
            self._put(type(value).__name__, repr(value).encode())
        elif isinstance(value, PurePath):
            self._put("path", self._file(value))
        elif isinstance(value, bytes):
            self._put("bytes", value)
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            self._put(f"array {value.dtype} {value.shape}", np.ascontiguousarray(value).tobytes())
        elif isinstance(value, BaseModel):
            self._put(type(value).__qualname__, self._model(value))
        elif isinstance(value, dict):
            self._all("dict", [part for item in value.items() for part in item])
        elif isinstance(value, list | tuple):
            self._all("list", value)
        elif isinstance(value, set | frozenset):
            self._all("set", sorted(value, key=repr))
        elif isinstance(value, functools.partial):
            self._all("partial", [value.func, value.args, value.keywords])
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            kind = type(value)
            fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
            self._all(f"{kind.__module__}.{kind.__qualname__}", fields)
        else:
            self._put("other", _pickled(value))

    def _all(self, kind: str, values: Iterable[Any]) -> None:
        values = list(values)
        self._put(kind, str(len(values)).encode())
        for value in values:
            self.add(value)

    def _put(self, kind: str, content: bytes) -> None:
        self._update(f"{kind} {len(content)}:".encode())
        self._update(content)

    def _file(self, path: PurePath) -> bytes:
        if path not in self._files:
            try:
                found = os.stat(path)  # noqa: PTH116
                state = f"{found.st_size} {found.st_mtime_ns}"
            except (OSError, ValueError):
                state = "missing"
            self._files[path] = f"{os.fsdecode(path)!r} {state}".encode()
        return self._files[path]

    def _model(self, model: BaseModel) -> bytes:
        """Settings, which the loaders of a data set share."""
        if id(model) not in self._settings:
            self._settings[id(model)] = model.model_dump_json().encode()
        return self._settings[id(model)]


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:  # whatever an object's own code raises
        return os.urandom(16)
