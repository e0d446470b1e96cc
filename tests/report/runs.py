"""Run folders as evaluation leaves them, made from phantoms without training."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ustoolkit.data.image_files import encode_png
from ustoolkit.data.phantom import phantom_samples
from ustoolkit.data.readers.entry import Entry, Refused
from ustoolkit.data.records import Records, write_records
from ustoolkit.data.split import split_patients
from ustoolkit.evaluation.confusion import confusion_matrix
from ustoolkit.evaluation.tables import evaluate_image, write_tables
from ustoolkit.files import safe_name, write_bytes
from ustoolkit.inference.lesion_probability import lesion_probability
from ustoolkit.recipe import DataSetSettings, load_recipe
from ustoolkit.run import Run

REFUSED = "scan_<b>9</b>.png: the image is damaged"


def make_samples(count=24, seed=0):
    return list(phantom_samples(count, seed, size=(64, 80)))


def make_records(folder, samples, refused=(), classes=("background", "lesion")):
    entries = [Entry(sample.source_id, lambda sample=sample: sample) for sample in samples]
    entries += [Entry(source_id, Refused(REFUSED)) for source_id in refused]
    return write_records(entries, folder, DataSetSettings(classes=classes), workers=1)


def make_run(folder, records, recipe="fast"):
    """A finished run whose test part holds some half of the patients."""
    parts = split_patients(records.index, test=0.5)
    run = Run.create(folder, load_recipe(recipe), records.manifest, records.folder, parts, [])
    run.write_history(
        [
            {
                "epoch": epoch,
                "loss": 1 / epoch,
                "validation_loss": 1.1 / epoch,
                "validation_dice": 0.8 - 0.02 * (epoch - 4) ** 2,
                "learning_rate": 1e-3 * 0.5 ** (epoch // 3),
                "seconds": 2.0,
            }
            for epoch in range(1, 7)
        ]
    )
    run.update(status="finished", stopped_because="all 6 epochs done", epochs=6, training_seconds=3725.0)
    return run


def make_evaluation(run, records, name="test", part="test", own=True, shift=int, keep=None, **settings):
    """Predictions that move the truth further with each image, or by `shift` of its number; the last misses it."""
    wanted = run.splits[part] if own else [row.source_id for row in records.index]
    rows, confusion = [], 0
    samples = list(records.read(wanted))
    keep = keep or (lambda number: number < len(samples) - 1)
    for number, sample in enumerate(samples):
        predicted = np.roll(sample.mask, shift(number), axis=1) if keep(number) else 0 * sample.mask
        write_bytes(run.evaluation(name) / "masks" / f"{safe_name(sample.source_id)}.png", encode_png(predicted))
        identity = {"source_id": sample.source_id, "patient_id": sample.patient_id, "label": sample.label}
        rows += [{**identity, **row} for row in evaluate_image(sample.mask, predicted, run.classes, sample.spacing_mm)]
        confusion = confusion + confusion_matrix(sample.mask, predicted, len(run.classes))
    settings = {
        "records": str(records.folder),
        "records_digest": records.digest,
        "part": part if own else "all",
        "own_records": own,
        **settings,
    }
    return write_tables(run.evaluation(name), rows, settings, confusion)


def keep_probabilities(run, records, name="test"):
    """Keeps the truth, blurred, as an evaluation keeps its probabilities."""
    for sample in records.read(run.splits["test"]):
        blurred = cv2.GaussianBlur(sample.mask.astype(np.float32), (0, 0), 3)
        path = run.evaluation(name) / "probabilities" / f"{safe_name(sample.source_id)}.png"
        write_bytes(path, encode_png(lesion_probability(blurred[..., np.newaxis], 64)))


def make_all(folder: Path, change=lambda sample: sample, **kwargs) -> tuple[Run, Records]:
    """A run with its records and an evaluation of the test part; `change` is applied to each sample first."""
    records = make_records(folder / "records", [change(sample) for sample in make_samples()], **kwargs)
    run = make_run(folder / "my run", records)
    make_evaluation(run, records)
    return run, records


def renamed(sample, source_id, **changes):
    return replace(sample, source_id=source_id, **changes)
