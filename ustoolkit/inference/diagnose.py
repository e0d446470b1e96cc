"""Diagnoses of files, folders and records: a picture of each image, and one table."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ustoolkit.data.given_images import GivenImage, check_apart, given_images, loaded
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError
from ustoolkit.evaluation.measurements import LesionSize
from ustoolkit.files import new_folder, write_bytes, write_json, write_text
from ustoolkit.inference.diagnosis import Diagnosis, Diagnostician
from ustoolkit.inference.diagnosis_panel import draw_diagnosis
from ustoolkit.progress import progress

DIAGNOSES_FILE = "diagnoses.json"
RESEARCH_ONLY = "This is research software and no medical device: no diagnosis may rest on it."
_TOGETHER = 32  # images in memory at a time


@dataclass
class Diagnoses:
    """What diagnosing left behind.

    Attributes:
        rows: one an image, of the columns that `diagnose_images` lists.
        refused: why files could not be read.
        learned_from: names of images that a classifier was trained or validated on.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    learned_from: list[str] = field(default_factory=list)


def diagnose_images(
    diagnostician: Diagnostician,
    paths: Sequence[Path],
    out: Path,
    part: str = "all",
    overwrite: bool = False,
) -> Diagnoses:
    """Diagnoses images and writes `<name>_diagnosis.png` of each, `diagnoses.csv` and `diagnoses.json`.

    The columns are source_id (the name), file, lesion_found (yes, no); long_diameter, short_diameter and area in
    pixels, and in millimetres where the distance of pixels is known; the probability of the positive label;
    interval_low and interval_high, the lowest and the highest of several classifiers; decision and threshold; panel.
    What is not known is empty, null in JSON. The folder appears when it is whole.

    Args:
        diagnostician: finds and judges lesions.
        paths: image files, folders of images or of DICOM files, or records folders.
        out: the folder to make.
        part: which part of the records that the classifiers were trained on, or 'all'.
        overwrite: whether earlier diagnoses there may be replaced.
    Returns:
        the table, and what could not be read.
    Raises:
        DataError: a path does not exist, a folder holds no image, or no image at all could be read.
        RecordsError: a records folder is damaged, or the classifier knows no such part of it.
        OutputError: the folder is taken, lies within the images' own, or cannot be written.
    """
    check_apart(out, paths)
    images = given_images(paths, diagnostician.num_classes, part, diagnostician.splits_of)
    result = Diagnoses()
    with new_folder(out, overwrite, owned_by=DIAGNOSES_FILE) as folder:
        read = progress(loaded(images, result.refused), "diagnosing", total=len(images))
        while some := list(islice(read, _TOGETHER)):
            diagnoses = diagnostician([sample for _, sample in some])
            for (image, sample), diagnosis in zip(some, diagnoses, strict=True):
                _add(result, image, sample, diagnosis, diagnostician)
                panel = draw_diagnosis(sample.image, diagnosis, image.name, diagnostician)
                write_bytes(folder / result.rows[-1]["panel"], encode_png(panel))
        if not result.rows:
            raise DataError("no image could be read:\n  " + "\n  ".join(result.refused[:5]))
        write_text(folder / "diagnoses.csv", _table(result.rows))
        content = {
            "notice": RESEARCH_ONLY,
            "labels": diagnostician.labels,
            "threshold": diagnostician.threshold,
            "classifiers": diagnostician.members,
            "diagnoses": result.rows,
            "refused": result.refused,
            "learned_from": result.learned_from,
        }
        write_json(folder / DIAGNOSES_FILE, content)
    return result


def _add(
    result: Diagnoses, image: GivenImage, sample: Sample, diagnosis: Diagnosis, diagnostician: Diagnostician
) -> None:
    if diagnostician.learned_from(sample):
        result.learned_from.append(image.name)
    row = {
        "source_id": image.name,
        "file": image.file or sample.filename,
        "lesion_found": "yes" if diagnosis.size_pixels else "no",
        **_sizes(diagnosis.size_pixels, "pixels", "pixels"),
        **_sizes(diagnosis.size_mm, "mm", "mm2"),
        f"probability_{diagnostician.labels[-1]}": _rounded(diagnosis.probability, 6),
        "interval_low": _rounded(diagnosis.lowest, 6),
        "interval_high": _rounded(diagnosis.highest, 6),
        "decision": diagnosis.decision,
        "threshold": _rounded(diagnostician.threshold, 6),
        "panel": f"{image.name}_diagnosis.png",
    }
    result.rows.append(row)


def _sizes(size: LesionSize | None, unit: str, area_unit: str) -> dict[str, float | None]:
    long, short, area = (size.long_diameter, size.short_diameter, size.area) if size else (None, None, None)
    return {
        f"long_diameter_{unit}": _rounded(long, 2),
        f"short_diameter_{unit}": _rounded(short, 2),
        f"area_{area_unit}": _rounded(area, 2),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _table(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
