"""Scores of a classifier on one part of its records, or on another hospital's: by image and by patient."""

import csv
import io
from collections.abc import Iterable
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.data.leaks import groups
from ustoolkit.data.lesions import LesionFinder, known_lesions
from ustoolkit.data.records import Records
from ustoolkit.data.split import part_of
from ustoolkit.errors import RecordsError, RunError
from ustoolkit.evaluation.diagnostic import by_patient, diagnosis
from ustoolkit.files import new_folder, write_json, write_text
from ustoolkit.inference.classifier import Classifier, calibrated, decision_of
from ustoolkit.inference.lesions import FoundLesions
from ustoolkit.inference.segmenter import Segmenter


def lesion_finder(classifier: Classifier, segmenter: Segmenter | None) -> LesionFinder:
    """Where a classifier is to look: where a segmenter finds lesions, or where the data set says.

    Args:
        classifier: says what of an image it looks at.
        segmenter: asked where there is one.
    Raises:
        RunError: the classifier was trained on lesions as a segmenter finds them, and none is named.
    """
    if segmenter is not None:
        return FoundLesions(segmenter)
    if classifier.region.source == "predicted":
        raise RunError(
            f"{classifier.folder}: it looks at lesions that a segmenter finds. Name one by --segmenter "
            f"{' '.join(classifier.region.segmenters)}."
        )
    return known_lesions(classifier.region)


def evaluate_classifier(
    classifier: Classifier, records: Records, part: str, segmenter: Segmenter | None = None, name: str = ""
) -> Path:
    """Classifies a part and writes tables.

    Args:
        classifier: a run or a fusion, with its decision.
        records: its own, or others with the same labels.
        part: 'train', 'validation', 'test' or 'all'. Of records that it was not trained on only 'all' is known.
        segmenter: finds the lesions, in place of the annotated ones.
        name: of the segmenter, for the folder.
    Returns:
        the folder with metrics.json, per_image.csv and per_patient.csv, in `evaluation` of the classifier's own.
    Raises:
        RecordsError: the part has no labelled image, or holds images that the classifier or the segmenter learned from.
        RunError: there is no decision.
        DataError: a lesion is not known.
    """
    decision = decision_of(classifier.folder)
    own = classifier.splits_of(records.digest)
    names = _chosen(classifier, records, part, own)
    _check_segmenter(segmenter, records, names if part in ("test", "all") else [])
    find = lesion_finder(classifier, segmenter)
    samples, again = tee(records.read(names))
    raw = classifier.raw(samples, find(again), len(names))
    probability = calibrated(classifier.combined(raw), decision)
    rows = {row.source_id: row for row in records.index}
    group_of = groups(records.index)
    patients = np.array([group_of[rows[name].patient_id] for name in names])
    truth = np.array([classifier.labels.index(rows[name].label) for name in names])
    ids, patient_truth, patient_probability = by_patient(truth, probability, patients)
    missed = getattr(find, "missed", [])
    folder_name = part if own is not None else f"{records.folder.resolve().name}-{records.digest[:8]}-{part}"
    out = classifier.folder / "evaluation" / (f"{folder_name}-by-{name}" if segmenter is not None else folder_name)
    settings = {
        "records": str(records.folder.resolve()),
        "records_digest": records.digest,
        "part": part,
        "own_records": own is not None,
        "lesions": name if segmenter is not None else classifier.region.source,
        "lesions_missed": missed,
        "temperature": decision.temperature,
        "threshold": decision.threshold,
    }
    with new_folder(out, overwrite=True) as folder:
        tables = {
            "labels": classifier.labels,
            "settings": settings,
            "by_image": diagnosis(truth, probability, decision.threshold, classifier.labels, patients),
            "by_patient": diagnosis(patient_truth, patient_probability, decision.threshold, classifier.labels),
        }
        write_json(folder / "metrics.json", tables)
        each = ([n, p, m, *row] for n, p, m, row in zip(names, patients, truth, probability, strict=True))
        _write_rows(folder / "per_image.csv", ["source_id", "patient_id"], each, classifier.labels, decision.threshold)
        each = ([p, m, *row] for p, m, row in zip(ids, patient_truth, patient_probability, strict=True))
        _write_rows(folder / "per_patient.csv", ["patient_id"], each, classifier.labels, decision.threshold)
    return out


def _write_rows(path: Path, keys: list[str], rows: Iterable[list[Any]], labels: list[str], threshold: float) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*keys, "label", "predicted", *(f"probability_{label}" for label in labels)])
    for row in rows:
        identity, truth, probability = row[: len(keys)], row[len(keys)], np.array(row[len(keys) + 1 :])
        two = len(labels) == 2
        predicted = int(probability[-1] >= threshold) if two else int(probability.argmax())
        writer.writerow([*identity, labels[truth], labels[predicted], *(float(value) for value in probability)])
    write_text(path, stream.getvalue())


def _chosen(classifier: Classifier, records: Records, part: str, own: dict[str, list[str]] | None) -> list[str]:
    """The labelled images of a part, in the order of the records."""
    if own is None:
        if part != "all":
            raise RecordsError(
                f"{records.folder}: these are not the records that {classifier.folder} was trained on, so it has no "
                f"'{part}' part there. Use --split all."
            )
        shared = [row.source_id for row in records.index if row.sha256 in classifier.trained_on]
        if shared:
            raise RecordsError(
                f"{records.folder}: {len(shared)} images are the same as images that {classifier.folder} was trained "
                f"on ({', '.join(shared[:3])}, …); their scores would say nothing. Leave them out of these records."
            )
    wanted = None if own is None else part_of(own, part)
    names = None if wanted is None else set(wanted)
    rows = [row for row in records.index if row.label and (names is None or row.source_id in names)]
    if not rows:
        raise RecordsError(f"{records.folder}: the part '{part}' has no labelled image. Choose another --split.")
    other = sorted({row.label for row in rows} - set(classifier.labels))
    if other:
        raise RecordsError(
            f"{records.folder}: expected the labels {', '.join(classifier.labels)}, found '{other[0]}' too. Leave "
            "these images out of the records, or train with all labels."
        )
    return [row.source_id for row in rows]


def _check_segmenter(segmenter: Segmenter | None, records: Records, names: list[str]) -> None:
    """Refuses a segmenter that learned from what is tested on; what an export learned from is not known."""
    tested = set(names)
    learned: set[str] = getattr(segmenter, "trained_on", set())
    shared = [row.source_id for row in records.index if row.source_id in tested and row.sha256 in learned]
    if shared:
        raise RecordsError(
            f"{records.folder}: the segmenter learned from {len(shared)} of the images to test on "
            f"({', '.join(shared[:3])}, …), so that it finds their lesions too well. Train it on the same split."
        )
