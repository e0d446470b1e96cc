"""A cleaned data set: images and masks as PNG with a table that `ustoolkit records` reads as it is."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ustoolkit.data.clean import clean_sample
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError, OutputError
from ustoolkit.files import new_folder, safe_name, write_bytes, write_text
from ustoolkit.processes import process_pool
from ustoolkit.progress import progress
from ustoolkit.recipe import DataSetSettings, dump_toml, validate
from ustoolkit.recipe.data_set import CleanSettings, TableSettings

TABLE = "table.csv"
DESCRIPTION = "data_set.toml"
_OWN = ("id", "image", "mask", "patient", "label", "spacing_row_mm", "spacing_column_mm")  # as in TableSettings
_IMAGES_A_TASK = 8


@dataclass(frozen=True)
class CleanedSet:
    """What was written.

    Attributes:
        folder: with `images/`, `masks/`, `table.csv` and the description `data_set.toml`.
        images: how many.
        cropped: how many of them were cropped.
        refused: 'source_id' and 'reason' of each that was left out.
    """

    folder: Path
    images: int
    cropped: int
    refused: list[dict[str, str]]


def choose_steps(settings: DataSetSettings, steps: str | None) -> DataSetSettings:
    """Settings with other cleaning steps.

    Args:
        settings: a data set's description.
        steps: names with commas between, such as 'crop,smooth'; None leaves the description's.
    Raises:
        RecipeError: an unknown step.
    """
    if steps is None:
        return settings
    names = tuple(name.strip() for name in steps.split(",") if name.strip())
    changed = validate(CleanSettings, settings.clean.model_dump() | {"steps": names}, "--steps")
    return settings.model_copy(update={"clean": changed})


def write_cleaned(
    entries: Sequence[Entry],
    out: Path | str | None,
    settings: DataSetSettings,
    workers: int = 0,
    overwrite: bool = False,
) -> CleanedSet:
    """Cleans every image of a data set, as `settings.clean` says; images that cannot be read are left out.

    The files depend on the entries alone, not on the number of workers. The folder appears when it is whole.

    Args:
        entries: what a reader found.
        out: the folder to make; None is an error, told as one.
        settings: `clean` says what is done; classes, labels and split go into the new description.
        workers: processes; 0 for one a core.
        overwrite: whether an earlier cleaned data set may be replaced.
    Raises:
        OutputError: the folder cannot be written.
        DataError: no file at all can be read.
    """
    if out is None:
        raise OutputError("clean: expected --out DIR for the cleaned images, or --preview to look first. Add one.")
    chunks = [entries[start : start + _IMAGES_A_TASK] for start in range(0, len(entries), _IMAGES_A_TASK)]
    workers = min(workers or os.cpu_count() or 1, len(chunks))
    names = Counter(safe_name(entry.source_id) for entry in entries)
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    with new_folder(out, overwrite, owned_by=TABLE) as folder:
        tasks = [(chunk, settings, folder, {name for name in names if names[name] > 1}) for chunk in chunks]
        for written, left_out in progress(_map(workers, tasks), "cleaning", total=len(tasks), unit="images"):
            rows.extend(written)
            refused.extend(left_out)
        if not rows:
            reasons = "\n  ".join(item["reason"] for item in refused[:5])
            raise DataError(f"no image could be read; the first reasons:\n  {reasons}")
        write_text(folder / TABLE, _table(rows))
        write_text(folder / DESCRIPTION, _description(settings))
    return CleanedSet(Path(out), len(rows), sum("cropped_to" in row for row in rows), refused)


_Task = tuple[Sequence[Entry], DataSetSettings, Path, set[str]]
_Written = tuple[list[dict[str, Any]], list[dict[str, str]]]


def _map(workers: int, tasks: list[_Task]) -> Iterator[_Written]:
    if workers <= 1:
        yield from map(_clean_chunk, tasks)
        return
    with process_pool(workers) as pool:
        yield from pool.map(_clean_chunk, tasks)


def _clean_chunk(task: _Task) -> _Written:
    """Cleans some images, in a worker process."""
    entries, settings, folder, shared_names = task
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    for entry in entries:
        try:
            if safe_name(entry.source_id) in shared_names:
                raise DataError(f"{entry.source_id}: another image's name differs by slashes only. Rename one.")
            sample = clean_sample(entry.load(), settings.clean)
        except DataError as problem:
            refused.append({"source_id": entry.source_id, "reason": str(problem)})
            continue
        rows.append(_write_sample(sample, folder, len(settings.classes)))
    return rows, refused


def _write_sample(sample: Sample, folder: Path, num_classes: int) -> dict[str, Any]:
    """Writes the image and the mask; returns the table's row."""
    name = safe_name(sample.source_id)
    image, mask = f"images/{name}.png", f"masks/{name}.png" if sample.mask is not None else ""
    write_bytes(folder / image, encode_png(sample.image))
    if sample.mask is not None:
        shown = 255 if num_classes == 2 else 1  # of two classes the mask is to be seen
        write_bytes(folder / mask, encode_png(sample.mask * shown))
    own = (name, image, mask, sample.patient_id, sample.label, *(sample.spacing_mm or ("", "")))
    known = {key: _cell(value) for key, value in sample.attributes.items() if key not in _OWN}
    return dict(zip(_OWN, own, strict=True)) | known


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value, ensure_ascii=False)


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _description(settings: DataSetSettings) -> str:
    columns = {"source_id": "id"} | {name: name for name in _OWN[1:]}
    return dump_toml(
        DataSetSettings(
            name=settings.name,
            path=".",
            format="table",
            classes=settings.classes,
            labels=settings.labels,
            table=TableSettings(file=TABLE, **columns),
            split=settings.split,
        )
    )
