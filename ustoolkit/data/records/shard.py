"""One shard's worth of images converted: what a worker does, here or on another machine."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ustoolkit.data.example import sample_to_features
from ustoolkit.data.fingerprint import fingerprint
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.records.identity import entries_digest
from ustoolkit.data.records.index import index_row
from ustoolkit.data.tfrecord import encode_example, write_record
from ustoolkit.errors import DataError


class Storage(Protocol):
    """Where a worker writes: the disk, or what a cluster shares."""

    def create(self, path: str) -> BinaryIO:
        """Opens a new file."""

    def rename(self, old: str, new: str) -> None:
        """Renames a file, over one that is there."""


class Disk:
    """The file system as this process sees it."""

    def create(self, path: str) -> BinaryIO:
        """Opens a new file."""
        return Path(path).open("wb")

    def rename(self, old: str, new: str) -> None:
        """Renames a file, over one that is there."""
        Path(old).replace(new)


@dataclass(frozen=True)
class ShardTask:
    """A shard to write.

    Attributes:
        name: the shard's file name.
        entries: what to write, in this order.
        labels: index of each image label.
        shards: folder for the shard.
        sidecars: folder for what else is known of it, until all shards are there.
    """

    name: str
    entries: Sequence[Entry]
    labels: dict[str, int]
    shards: Path
    sidecars: Path

    @property
    def shard(self) -> Path:
        """The shard's file."""
        return self.shards / self.name

    @property
    def sidecar(self) -> Path:
        """JSON with the size and SHA-256 of the shard and of the fingerprints, the digest of the entries, the rows for
        the index, and the refused images; written last."""
        return self.sidecars / f"{self.name}.json"

    @property
    def fingerprints(self) -> Path:
        """The images' fingerprints, one after another."""
        return self.sidecars / f"{self.name}.fingerprints"


def convert_shard(task: ShardTask, storage: Storage | None = None) -> None:
    """Writes a shard and its sidecars; each appears only when it is whole.

    An image that cannot be read is left out and named in the sidecar. Memory holds one image at a time.

    Args:
        task: what to convert.
        storage: where to; None for the disk.
    """
    storage = storage or Disk()
    sources = entries_digest(task.entries)  # before reading, so that a change while reading is a change
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    shard, prints = _Growing(storage, task.shard), _Growing(storage, task.fingerprints)
    with shard.file, prints.file:
        for entry in task.entries:
            try:
                sample = entry.load()
                row = asdict(index_row(sample, task.name, shard.size))
                json.dumps(row, ensure_ascii=False).encode()
                message = encode_example(sample_to_features(sample, task.labels))
                printed = fingerprint(sample.image)
            except DataError as problem:
                refused.append({"source_id": entry.source_id, "reason": str(problem)})
            except MemoryError:
                raise
            except Exception as problem:
                fault = f"{entry.source_id}: left out by a fault of ours ({type(problem).__name__}: {problem})."
                refused.append({"source_id": entry.source_id, "reason": f"{fault} Please report it."})
            else:
                write_record(shard, message)
                prints.write(printed)
                rows.append(row | {"fingerprint_bytes": len(printed)})
    about = {"sources": sources, "shard": shard.about(), "fingerprints": prints.about()}
    shard.finish()
    prints.finish()
    sidecar = _Growing(storage, task.sidecar)
    with sidecar.file:
        sidecar.write(json.dumps(about | {"rows": rows, "refused": refused}).encode())
    sidecar.finish()


class _Growing:
    """A file under a temporary name of its own, measured while it is written."""

    def __init__(self, storage: Storage, path: Path) -> None:
        self._storage, self._path = storage, path
        self._temporary = str(path.with_name(f".{path.name}.{uuid.uuid4().hex}"))
        self._digest = hashlib.sha256()
        self.size = 0
        self.file = storage.create(self._temporary)

    def write(self, content: bytes) -> None:
        self.file.write(content)
        self._digest.update(content)
        self.size += len(content)

    def about(self) -> dict[str, Any]:
        return {"bytes": self.size, "sha256": self._digest.hexdigest()}

    def finish(self) -> None:
        self._storage.rename(self._temporary, str(self._path))
