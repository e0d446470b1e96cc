"""A records folder, opened: its index, its samples one after another, or any one of them."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ustoolkit.data.example import features_to_sample
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.records.index import INDEX_FILE, read_index
from ustoolkit.data.sample import Sample
from ustoolkit.data.tfrecord import decode_example, read_record_at, read_records
from ustoolkit.errors import DataError, RecordsError
from ustoolkit.files import read_json
from ustoolkit.run import Run

FORMAT_VERSION = 2
"""Of the records that this version writes and reads."""
MANIFEST_FILE = "manifest.json"
_REMEDY = "Convert the data set with 'ustoolkit records', or check the path."


class Records:
    """A records folder, opened and checked.

    Attributes:
        folder: where it lies.
        manifest: the content of `manifest.json`.
        index: one `IndexRow` a record, in the order of the shards.
    """

    def __init__(self, folder: Path | str) -> None:
        """Opens a records folder.

        Raises:
            RecordsError: it is missing or incomplete, of another format version, or a shard's size is not as written.
        """
        self.folder = Path(folder)
        self.manifest = _read_manifest(self.folder / MANIFEST_FILE)
        index = self.folder / INDEX_FILE
        self.index = read_index(index, _REMEDY)
        if file_checksum(index) != self.manifest["index_sha256"]:
            raise RecordsError(f"{index}: the index has changed since it was written. {_REMEDY}")
        for shard in self.manifest["shards"]:
            path = self.folder / shard["file"]
            size = path.stat().st_size if path.is_file() else 0
            if size != shard["bytes"]:
                raise RecordsError(
                    f"{path}: expected a shard of {shard['bytes']:,} bytes, found {size:,}: it is damaged or cut "
                    "short. Convert the data set again."
                )

    @property
    def classes(self) -> list[str]:
        """Names of the mask values 0, 1, …"""
        return self.manifest["classes"]

    @property
    def digest(self) -> str:
        """SHA-256 over the shards: two records folders of one digest hold the same images."""
        return self.manifest["digest"]

    @property
    def shards(self) -> list[Path]:
        """The shard files, in order."""
        return [self.folder / shard["file"] for shard in self.manifest["shards"]]

    def verify(self) -> None:
        """Reads every shard and compares its checksum.

        Raises:
            RecordsError: a shard's content is not what was written.
        """
        for shard in self.manifest["shards"]:
            path = self.folder / shard["file"]
            if file_checksum(path) != shard["sha256"]:
                raise RecordsError(f"{path}: the shard's checksum has changed. Convert the data set again.")

    def read(self, source_ids: Iterable[str] | None = None) -> Iterator[Sample]:
        """Yields samples at their original size, in the order of the shards.

        Args:
            source_ids: which; None for all.
        Raises:
            RecordsError: a shard is damaged.
        """
        if source_ids is None:
            for path in self.shards:
                for message in read_records(path):
                    yield features_to_sample(decode_example(message))
            return
        wanted = set(source_ids)
        for row in self.index:
            if row.source_id in wanted:
                yield _read_sample(self.folder / row.shard, row.offset, row.source_id)

    def load(self, source_id: str) -> Sample:
        """Reads one image, without reading the rest of its shard.

        Args:
            source_id: which.
        Raises:
            RecordsError: there is no such image, or its record is damaged.
        """
        if source_id not in self._position:
            raise RecordsError(f"{self.folder}: there is no image '{source_id}' in these records. Check the name.")
        row = self.index[self._position[source_id]]
        return _read_sample(self.folder / row.shard, row.offset, source_id)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {row.source_id: number for number, row in enumerate(self.index)}


@dataclass(frozen=True, slots=True)
class RecordLoader:
    """Loads one image of a records folder, in any process.

    Attributes:
        source_id: of the image.
        shard: the file that holds it.
        offset: byte at which its record starts.
    """

    source_id: str
    shard: Path
    offset: int

    def __call__(self) -> Sample:
        """Reads the record.

        Raises:
            DataError: the record is damaged.
        """
        try:
            return _read_sample(self.shard, self.offset, self.source_id)
        except RecordsError as problem:
            raise DataError(str(problem)) from None


def record_entries(records: Records) -> list[Entry]:
    """The images of a records folder as a reader's entries, in the records' order."""
    shards = {path.name: path for path in records.shards}
    return [Entry(row.source_id, RecordLoader(row.source_id, shards[row.shard], row.offset)) for row in records.index]


def records_of(run: Run, folder: Path | None = None) -> Records:
    """The records that a run was trained on, or others to use it with.

    Args:
        run: says where its records lay.
        folder: to open in place of these.
    Raises:
        RecordsError: they are no longer there, or as `Records` raises.
    """
    if folder is None and not run.records.is_dir():
        raise RecordsError(
            f"{run.folder}: expected its records in {run.records}, found nothing there. Say where they are now, with "
            "--records DIR."
        )
    return Records(folder or run.records)


def is_records_folder(path: Path) -> bool:
    """Whether a folder holds what `ustoolkit records` writes."""
    return (path / MANIFEST_FILE).is_file() and (path / INDEX_FILE).is_file()


def file_checksum(path: Path) -> str:
    """SHA-256 (hex) of a file's content.

    Raises:
        RecordsError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise RecordsError(f"{path}: the file cannot be read ({problem.strerror}). {_REMEDY}") from None


def _read_sample(shard: Path, offset: int, source_id: str) -> Sample:
    sample = features_to_sample(decode_example(read_record_at(shard, offset)))
    if sample.source_id != source_id:
        raise RecordsError(
            f"{shard}: expected the image '{source_id}' at byte {offset}, found '{sample.source_id}'. "
            "Convert the data set again."
        )
    return sample


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = read_json(path, RecordsError, _REMEDY)
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise RecordsError(f"{path.parent}: expected records of format {FORMAT_VERSION}, found {version}. {_REMEDY}")
    try:
        whole = all({"file", "bytes", "sha256"} <= set(shard) for shard in manifest["shards"])
        whole = whole and {"classes", "digest", "index_sha256"} <= set(manifest) and "images" in manifest["counts"]
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise RecordsError(f"{path}: the manifest is damaged. {_REMEDY}")
    return manifest
