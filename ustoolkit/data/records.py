"""Records: every image of a data set once, unsplit, in sharded TFRecords with a manifest and an index. No TensorFlow.

records/manifest.json                      classes, labels, counts, shard checksums, settings, refused files
records/index.jsonl                        one line a record: what splitting and counting need, without the pixels
records/records-00000-of-00003.tfrecord    the shards
records/splits.json                        which image is in which part; see `ustoolkit.data.split`
"""

import hashlib
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit import __version__
from ustoolkit.data.example import features_to_sample, pixel_digest, sample_to_features
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.sample import Sample, count_regions
from ustoolkit.data.tfrecord import decode_example, encode_example, read_records, write_record
from ustoolkit.errors import DataError, RecordsError
from ustoolkit.files import new_folder, read_json, write_json, write_text
from ustoolkit.progress import progress
from ustoolkit.recipe import DataSetSettings

FORMAT_VERSION = 1
IMAGES_A_SHARD = 128
_REMEDY = "Convert the data set with 'ustoolkit records', or check the path."


@dataclass(frozen=True)
class IndexRow:
    """What is known of one record without decoding it.

    Attributes:
        source_id, patient_id, label, attributes: as in `Sample`.
        shard: file name of the shard that holds it.
        height, width: pixels.
        lesion_fraction: share of the pixels that are no background, or None where there is no mask.
        regions: connected regions of the class that has most, 0 without a mask.
        sha256: of the pixels; see `pixel_digest`.
        duplicate_group: the first source id of the pictures that are this one or nearly so, '' where it has no double.
        offset: byte at which the record starts in its shard.
    """

    source_id: str
    patient_id: str
    label: str
    shard: str
    height: int
    width: int
    lesion_fraction: float | None
    regions: int
    sha256: str
    spacing_mm: tuple[float, float] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    duplicate_group: str = ""
    offset: int = 0


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
        self.manifest = _read_manifest(self.folder / "manifest.json")
        self.index = _read_index(self.folder / "index.jsonl")
        if _checksum(self.folder / "index.jsonl") != self.manifest["index_sha256"]:
            raise RecordsError(f"{self.folder / 'index.jsonl'}: the index has changed since it was written. {_REMEDY}")
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
            if _checksum(path) != shard["sha256"]:
                raise RecordsError(f"{path}: the shard's checksum has changed. Convert the data set again.")

    def read(self, source_ids: Iterable[str] | None = None) -> Iterator[Sample]:
        """Yields samples at their original size.

        Args:
            source_ids: which; None for all.
        Raises:
            RecordsError: a shard is damaged.
        """
        wanted = None if source_ids is None else set(source_ids)
        needed = {row.shard for row in self.index if wanted is None or row.source_id in wanted}
        for path in self.shards:
            if path.name not in needed:
                continue
            for message in read_records(path):
                features = decode_example(message)
                if wanted is None or features["image/source_id"][0].decode() in wanted:
                    yield features_to_sample(features)


def write_records(
    entries: Sequence[Entry],
    out: Path | str,
    settings: DataSetSettings,
    workers: int = 0,
    overwrite: bool = False,
) -> Records:
    """Converts a data set to records; files that cannot be read are left out and listed in the manifest.

    The bytes depend on the entries alone, not on the number of workers. The folder appears when it is whole.

    Args:
        entries: what a reader found, in the order to store.
        out: the folder to make.
        settings: kept in the manifest; `classes` names the mask values.
        workers: processes; 0 for one a core.
        overwrite: whether records that are already there may be replaced.
    Returns:
        the records, opened.
    Raises:
        OutputError: the folder cannot be written.
        DataError: no file at all can be read.
    """
    chunks = [entries[start : start + IMAGES_A_SHARD] for start in range(0, len(entries), IMAGES_A_SHARD)]
    workers = min(workers or os.cpu_count() or 1, len(chunks))
    labels = {label: number for number, label in enumerate(settings.labels)}
    with new_folder(out, overwrite, owned_by="manifest.json") as folder:
        tasks = [
            (chunk, labels, folder / f"records-{number:05}-of-{len(chunks):05}.tfrecord")
            for number, chunk in enumerate(chunks)
        ]
        rows: list[IndexRow] = []
        refused: list[dict[str, str]] = []
        for written, left_out in progress(_map(workers, tasks), "converting", total=len(tasks), unit="shard"):
            rows.extend(written)
            refused.extend(left_out)
        if not rows:
            reasons = "\n  ".join(item["reason"] for item in refused[:5])
            raise DataError(f"no image could be read; the first reasons:\n  {reasons}")
        write_text(
            folder / "index.jsonl",
            "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows),
        )
        write_json(folder / "manifest.json", _manifest(folder, rows, refused, settings))
    return Records(out)


_Task = tuple[Sequence[Entry], dict[str, int], Path]
_Written = tuple[list[IndexRow], list[dict[str, str]]]


def _map(workers: int, tasks: list[_Task]) -> Iterator[_Written]:
    if workers <= 1:
        yield from map(_write_shard, tasks)
        return
    # Forked children would inherit TensorFlow's locks where the caller has it loaded.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(_write_shard, tasks)


def _write_shard(task: _Task) -> _Written:
    """Converts one shard's worth of entries, in a worker process."""
    entries, labels, path = task
    rows: list[IndexRow] = []
    refused: list[dict[str, str]] = []
    with path.open("wb") as file:
        for entry in entries:
            try:
                sample = entry.load()
            except DataError as problem:
                refused.append({"source_id": entry.source_id, "reason": str(problem)})
                continue
            write_record(file, encode_example(sample_to_features(sample, labels)))
            rows.append(_index_row(sample, path.name))
    return rows, refused


def _index_row(sample: Sample, shard: str) -> IndexRow:
    return IndexRow(
        source_id=sample.source_id,
        patient_id=sample.patient_id,
        label=sample.label,
        shard=shard,
        height=sample.image.shape[0],
        width=sample.image.shape[1],
        lesion_fraction=None if sample.mask is None else round(float(np.mean(sample.mask > 0)), 6),
        regions=0 if sample.mask is None else count_regions(sample.mask),
        sha256=pixel_digest(sample.image),
        spacing_mm=sample.spacing_mm,
        attributes=sample.attributes,
    )


def _manifest(
    folder: Path, rows: list[IndexRow], refused: list[dict[str, str]], settings: DataSetSettings
) -> dict[str, Any]:
    shards, counts = [], Counter(row.shard for row in rows)
    for path in sorted(folder.glob("*.tfrecord")):
        size, checksum = path.stat().st_size, _checksum(path)
        shards.append({"file": path.name, "records": counts[path.name], "bytes": size, "sha256": checksum})
    return {
        "format_version": FORMAT_VERSION,
        "ustoolkit": __version__,
        "digest": hashlib.sha256("".join(shard["sha256"] for shard in shards).encode()).hexdigest(),
        "classes": list(settings.classes),
        "labels": list(settings.labels),
        "counts": {
            "images": len(rows),
            "patients": len({row.patient_id for row in rows}),
            "unlabelled": sum(row.lesion_fraction is None for row in rows),
            "by_label": dict(sorted(Counter(row.label for row in rows).items())),
        },
        "shards": shards,
        "index_sha256": _checksum(folder / "index.jsonl"),
        "settings": settings.model_dump(mode="json"),
        "refused": refused,
    }


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _read_index(path: Path) -> list[IndexRow]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a name may hold what else Python takes for a line's end
        return [_row(json.loads(line)) for line in lines if line]
    except FileNotFoundError:
        raise RecordsError(f"{path}: no such file. {_REMEDY}") from None
    except (OSError, ValueError, TypeError, AttributeError) as problem:
        raise RecordsError(f"{path}: the index is damaged ({problem}). {_REMEDY}") from None


def _row(content: dict[str, Any]) -> IndexRow:
    spacing = content.pop("spacing_mm", None)
    return IndexRow(**content, spacing_mm=tuple(spacing) if spacing else None)
