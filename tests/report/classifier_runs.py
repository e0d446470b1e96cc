"""Runs that classify as evaluation leaves them, with probabilities that are given: nothing is trained."""

import csv

import numpy as np

from tests.report.runs import make_records, make_samples
from ustoolkit.data.split import split_patients
from ustoolkit.evaluation.diagnostic import by_patient, diagnosis
from ustoolkit.files import write_json
from ustoolkit.recipe import load_recipe
from ustoolkit.run import Run

LABELS = ["benign", "malignant"]
THRESHOLD = 0.4


def make_classifier(folder, change=lambda sample: sample, labels=LABELS, count=40, **settings):
    """A finished run with its records and an evaluation of the test part."""
    records = make_records(folder / "records", [change(sample) for sample in make_samples(count)])
    parts = split_patients(records.index, test=0.6)
    run = Run.create(folder / "told apart", load_recipe("lesion_features"), records.manifest, records.folder, parts, [])
    estimator = {"name": "svm", "inner_auc": {"logistic": 0.9, "svm": 0.95}}
    run.update(status="finished", labels=list(labels), training_seconds=31.0, estimator=estimator)
    write_decision(run.folder)
    evaluate(run.folder, records, parts["test"], labels, **settings)
    return run, records


def write_decision(folder):
    """A temperature and an operating point, with what they were found on."""
    evidence = {"images": 30, "of_the_validation_part": 10, "patients": 20, "operating_point": "youden"}
    evidence |= {"roc_auc": 0.93, "sensitivity": 0.9, "specificity": 0.8}
    write_json(folder / "decision.json", {"temperature": 1.25, "threshold": THRESHOLD, "evidence": evidence})


def probability_of(source_id, label, labels=LABELS):
    """Of each label: an image's own is the most probable, but for every fifth, which is a sure mistake."""
    number = sum(source_id.encode())
    sure = 0.6 + number % 37 / 100
    own = 1 - sure if number % 5 == 0 else sure
    shares = np.full(len(labels), (1 - own) / (len(labels) - 1))
    shares[labels.index(label)] = own
    return shares


def evaluate(folder, records, names, labels=LABELS, name="test", part="test", **settings):
    """What `ustoolkit evaluate` writes."""
    rows = {row.source_id: row for row in records.index}
    names = [each for each in rows if each in set(names)]
    patients = np.array([rows[each].patient_id for each in names])
    truth = np.array([labels.index(rows[each].label) for each in names])
    probability = np.array([probability_of(each, rows[each].label, labels) for each in names])
    ids, patient_truth, patient_probability = by_patient(truth, probability, patients)
    about = {"records": str(records.folder), "records_digest": records.digest, "part": part, "own_records": True}
    about |= {"lesions": "truth", "lesions_missed": [], "temperature": 1.25, "threshold": THRESHOLD, **settings}
    scores = {
        "by_image": diagnosis(truth, probability, THRESHOLD, labels, patients),
        "by_patient": diagnosis(patient_truth, patient_probability, THRESHOLD, labels),
    }
    out = folder / "evaluation" / name
    write_json(out / "metrics.json", {"labels": list(labels), "settings": about, **scores})
    _write(out / "per_image.csv", ["source_id", "patient_id"], [names, patients], truth, probability, labels)
    _write(out / "per_patient.csv", ["patient_id"], [ids], patient_truth, patient_probability, labels)
    return out


def _write(path, keys, identities, truth, probability, labels):
    called = (probability[:, -1] >= THRESHOLD).astype(int) if len(labels) == 2 else probability.argmax(axis=1)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*keys, "label", "predicted", *(f"probability_{label}" for label in labels)])
        for *identity, shares, own, decided in zip(*identities, probability, truth, called, strict=True):
            writer.writerow([*identity, labels[own], labels[decided], *shares])
