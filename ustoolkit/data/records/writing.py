"""From a reader's entries to a records folder: shards by many workers, then the index and the manifest."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import PIL

from ustoolkit import __version__
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.records.folder import FORMAT_VERSION, MANIFEST_FILE, Records
from ustoolkit.data.records.index import INDEX_FILE, row_line
from ustoolkit.data.records.shard import ShardTask
from ustoolkit.data.records.unfinished import Fingerprints, Unfinished, read_sidecar
from ustoolkit.data.records.workers import Engine, local_engine
from ustoolkit.errors import DataError
from ustoolkit.files import write_json
from ustoolkit.progress import progress
from ustoolkit.recipe import DataSetSettings

_MOST_IMAGES_A_SHARD = 128
_FEWEST_IMAGES_A_SHARD = 16
_SHARDS = 64  # as many as this, where there are the images, so that no worker waits long for another's last shard


def write_records(
    entries: Sequence[Entry],
    out: Path | str,
    settings: DataSetSettings,
    workers: int = 0,
    overwrite: bool = False,
    *,
    excluded: Collection[str] = (),
    engine: Engine | None = None,
    tell: Callable[[str], None] | None = None,
    images_a_shard: int = 0,
) -> Records:
    """Converts a data set to records; files that cannot be read are left out and listed in the manifest.

    The bytes depend on the entries and settings alone: not on the number of workers, on the engine, or on
    interruptions. The folder appears when it is whole; until then the work is in `.NAME.partial` beside it, and the
    same call after an interruption goes on with the shards that are finished there.

    Args:
        entries: what a reader found, in the order to store.
        out: the folder to make.
        settings: kept in the manifest; `classes` names the mask values.
        workers: processes; 0 for one a core.
        overwrite: whether records that are already there may be replaced.
        excluded: source ids to leave out; the manifest lists those that there were.
        engine: what converts the shards; None for processes of this machine.
        tell: called with a sentence for the user, where there is something to say.
        images_a_shard: 0 for 16 to 128, by how many images there are.
    Returns:
        the records, opened.
    Raises:
        OutputError: the folder cannot be written, or another process is converting into it.
        DataError: no image is left, or no file at all can be read.
        RecordsError: a worker was ended by the system.
    """
    target = Path(out).resolve()  # so that a link to a folder is filled, not replaced
    unfinished = Unfinished(target)
    unfinished.check_free(overwrite)
    left_out = sorted({entry.source_id for entry in entries} & set(excluded))
    kept = [entry for entry in entries if entry.source_id not in excluded] if left_out else entries
    if not kept:
        raise DataError(f"all {len(entries)} images are on the list of those to leave out. Take some off it.")
    size = images_a_shard or min(max(len(kept) // _SHARDS, _FEWEST_IMAGES_A_SHARD), _MOST_IMAGES_A_SHARD)
    with unfinished.held():
        unfinished.check_free(overwrite)  # another conversion may just have ended
        tasks = _tasks(kept, size, settings, unfinished)
        todo, message = unfinished.prepare(_plan(kept, size, settings), tasks)
        if message and tell:
            tell(message)
        convert = engine or local_engine(workers, sum(len(task.entries) for task in todo))
        for _ in progress(convert(todo), "converting", total=len(todo), unit="shard"):
            pass
        _describe(tasks, unfinished, settings, left_out)
        unfinished.finish(overwrite)
    return Records(out)


def _tasks(entries: Sequence[Entry], size: int, settings: DataSetSettings, unfinished: Unfinished) -> list[ShardTask]:
    starts = range(0, len(entries), size)
    labels = {label: number for number, label in enumerate(settings.labels)}
    return [
        ShardTask(
            name=f"records-{number:05}-of-{len(starts):05}.tfrecord",
            entries=entries[start : start + size],
            labels=labels,
            shards=unfinished.shards,
            sidecars=unfinished.sidecars,
        )
        for number, start in enumerate(starts)
    ]


def _plan(entries: Sequence[Entry], size: int, settings: DataSetSettings) -> dict[str, Any]:
    """What makes a conversion this one; what the loaders were told is compared shard by shard."""
    names = hashlib.sha256()
    for entry in entries:
        names.update(json.dumps(entry.source_id).encode() + b"\n")
    return {
        "format_version": FORMAT_VERSION,
        "ustoolkit": __version__,
        "pillow": PIL.__version__,
        "images_a_shard": size,
        "source_ids_sha256": names.hexdigest(),
        "settings": settings.model_dump(mode="json"),
    }


def _describe(tasks: list[ShardTask], unfinished: Unfinished, settings: DataSetSettings, excluded: list[str]) -> None:
    """Writes index and manifest. Of the rows one shard's are held at a time."""
    digests: list[str] = []
    names: list[str] = []
    lengths: list[int] = []
    patients: set[str] = set()
    labels: Counter[str] = Counter()
    unlabelled = 0
    shards: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    for task, about in _sidecars(tasks):
        shards.append({"file": task.name, "records": len(about["rows"]), **about["shard"]})
        refused.extend(about["refused"])
        for row in about["rows"]:
            digests.append(row["sha256"])
            names.append(row["source_id"])
            lengths.append(row["fingerprint_bytes"])
            patients.add(row["patient_id"])
            labels[row["label"]] += 1
            unlabelled += row["lesion_fraction"] is None
    if not names:
        unfinished.remove()
        reasons = "\n  ".join(item["reason"] for item in refused[:5])
        raise DataError(f"no image could be read; the first reasons:\n  {reasons}")
    joined = Fingerprints(unfinished.folder / "fingerprints", [task.fingerprints for task in tasks], lengths)
    manifest = {
        "format_version": FORMAT_VERSION,
        "ustoolkit": __version__,
        "digest": hashlib.sha256("".join(shard["sha256"] for shard in shards).encode()).hexdigest(),
        "classes": list(settings.classes),
        "labels": list(settings.labels),
        "counts": {
            "images": len(names),
            "patients": len(patients),
            "unlabelled": unlabelled,
            "by_label": dict(sorted(labels.items())),
        },
        "shards": shards,
        "index_sha256": _write_index(unfinished.shards / INDEX_FILE, tasks, _groups(names, joined, digests)),
        "settings": settings.model_dump(mode="json"),
        "refused": refused,
        "excluded": excluded,
    }
    write_json(unfinished.shards / MANIFEST_FILE, manifest)


def _sidecars(tasks: list[ShardTask]) -> Iterator[tuple[ShardTask, dict[str, Any]]]:
    for task in tasks:
        yield task, read_sidecar(task)


def _groups(names: list[str], fingerprints: Sequence[bytes], digests: list[str]) -> dict[str, str]:
    """The first id of its group for each image that has a double."""
    from ustoolkit.data.duplicates import find_duplicates, group_duplicates

    groups = group_duplicates(len(names), find_duplicates(fingerprints, digests))
    return {names[member]: names[min(group)] for group in groups if len(group) > 1 for member in group}


def _write_index(path: Path, tasks: list[ShardTask], groups: dict[str, str]) -> str:
    """Writes the index; returns its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _, about in _sidecars(tasks):
            for row in about["rows"]:
                del row["fingerprint_bytes"]
                line = row_line(row | {"duplicate_group": groups.get(row["source_id"], "")})
                file.write(line)
                digest.update(line)
    return digest.hexdigest()
