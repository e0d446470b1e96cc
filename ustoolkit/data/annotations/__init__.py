"""Masks as annotations again, so that a prediction can be corrected by hand where it was annotated.

A writer is a module with a class `Writer(folder, classes, labels)` that takes samples by `add` and ends with `close`.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from ustoolkit.data.annotations import coco, labelme, via
from ustoolkit.data.image_files import read_mask
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError
from ustoolkit.files import new_folder, safe_name, write_text
from ustoolkit.progress import progress

__all__ = ["WRITERS", "write_annotations"]

WRITERS: dict[str, ModuleType] = {"labelme": labelme, "via": via, "coco": coco}
"""Modules by the name of their form."""


def write_annotations(
    entries: Sequence[Entry],
    out: Path | str,
    form: str,
    classes: Sequence[str],
    labels: Sequence[str],
    masks: Path | None = None,
    overwrite: bool = False,
) -> tuple[int, list[str]]:
    """Writes images (PNG), the outlines of their masks' regions, and `data_set.toml` to read both again.

    Args:
        entries: the images.
        out: the folder to make.
        form: a key of `WRITERS`.
        classes: names of the mask values 0, 1, …
        labels: names that an image's label may have.
        masks: a folder of predictions, `<id>_mask.png`, that stand in place of the entries' own masks; images
            without a prediction are left out.
        overwrite: whether earlier annotations there may be replaced.
    Returns:
        how many images were written, and why others were not.
    Raises:
        DataError: no image could be written.
        OutputError: the folder is taken or cannot be written.
    """
    refused: list[str] = []
    count = 0
    with new_folder(out, overwrite, owned_by=_DESCRIPTION) as folder:
        writer = WRITERS[form].Writer(folder, list(classes), list(labels))
        for entry in progress(entries, "writing"):
            name = safe_name(entry.source_id)
            mask = None if masks is None else masks / f"{name}_mask.png"
            if mask is not None and not mask.is_file():
                continue
            try:
                sample = entry.load()
                writer.add(name, sample if mask is None else _with_mask(sample, mask, len(classes)))
                count += 1
            except DataError as problem:
                refused.append(str(problem))
        if not count:
            where = f"; no mask of theirs is in {masks}" if masks and not refused else ""
            raise DataError("no image could be written" + where + "".join(f"\n  {reason}" for reason in refused[:5]))
        writer.close()
        write_text(folder / _DESCRIPTION, _description(form, classes, labels))
    return count, refused


_DESCRIPTION = "data_set.toml"


def _description(form: str, classes: Sequence[str], labels: Sequence[str]) -> str:
    """What is needed to read the corrected annotations: the classes keep their numbers, drawn or not."""
    lines = ["# Correct the outlines in the annotator, then convert: ustoolkit records data_set.toml --out RECORDS"]
    content = {"path": ".", "format": form, "classes": list(classes), "labels": list(labels)}
    return "\n".join(
        [*lines, *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()), ""]
    )


def _with_mask(sample: Sample, path: Path, num_classes: int) -> Sample:
    mask: np.ndarray = read_mask(path, num_classes)
    if mask.shape != sample.image.shape[:2]:
        raise DataError(
            f"{path}: the mask is {mask.shape[1]} × {mask.shape[0]} pixels, its image is "
            f"{sample.image.shape[1]} × {sample.image.shape[0]}. Predict this data set again."
        )
    return replace(sample, mask=mask)
