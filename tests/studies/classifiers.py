"""A toy study of classifiers, and evaluations as its runs leave them, made by hand without training."""

import csv
from functools import partial

import numpy as np

from ustoolkit.evaluation.diagnostic import by_patient, diagnosis
from ustoolkit.files import write_json
from ustoolkit.studies.classification_arms import NetworkArm, pretraining_arm
from ustoolkit.studies.classification_scores import Scored
from ustoolkit.studies.classification_tables import tabulate_classification
from ustoolkit.studies.comparison import Arm, FusionArm, Study

SMALL = (
    "data.image_size=[32,32]",
    "model.growth_rate=4",
    "model.initial_filters=8",
    "model.blocks=[2,2]",
    'classification.transfer.estimators=["logistic"]',
    "classification.transfer.inner_folds=2",
    "classification.transfer.head_epochs=1",
)
LESIONS = Arm(
    "lesion-features",
    "lesion_features",
    ('classification.transfer.estimators=["logistic"]', "classification.transfer.inner_folds=2"),
    quick=True,
)
LABELS = ["benign", "malignant"]


def toy_networks(size=80):
    """DenseNets of four dense layers: with bottleneck features without and with SMOTE, and fine-tuned."""
    opened = (*SMALL, 'classification.transfer.open_layers=["denseblock2"]')
    return (
        NetworkArm("densenet161", size, False, "bottleneck", SMALL),
        NetworkArm("densenet161", size, True, "bottleneck", SMALL),
        NetworkArm("densenet161", size, False, "fine-tuning", opened),
    )


def toy_classifiers(how="equal"):
    networks = toy_networks()
    fusions = (FusionArm("fusion-two", (networks[0].name, networks[2].name), how),)
    fusions += (FusionArm("fusion-all", (networks[0].name, LESIONS.name), how),)
    return Study(
        "toy-classes",
        "benign or malignant",
        (LESIONS, *(each.arm for each in networks)),
        (),
        (pretraining_arm("densenet161"),),
        fusions=fusions,
        tabulate=partial(tabulate_classification, networks=networks, fusions=fusions),
    )


def scored(positive, probability, patients=None, prefix="scan"):
    """Images named scan0, scan1, …, each of a patient of its own where none are given."""
    names = tuple(f"{prefix}{number}" for number in range(len(positive)))
    return Scored(names, np.array(patients or names), np.array(positive, bool), np.array(probability, float))


def write_evaluation(folder, found, threshold=0.5):
    """What `ustoolkit evaluate` writes of images."""
    truth = found.positive.astype(int)
    probability = np.stack([1 - found.probability, found.probability], axis=1)
    patients, patient_truth, patient_probability = by_patient(truth, probability, found.patients)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "metrics.json",
        {
            "labels": LABELS,
            "by_image": diagnosis(truth, probability, threshold, LABELS, found.patients),
            "by_patient": diagnosis(patient_truth, patient_probability, threshold, LABELS),
        },
    )
    images = (
        [n, p, LABELS[t], "", *row]
        for n, p, t, row in zip(found.names, found.patients, truth, probability, strict=True)
    )
    of_patients = (
        [p, LABELS[t], "", *row] for p, t, row in zip(patients, patient_truth, patient_probability, strict=True)
    )
    columns = ["patient_id", "label", "predicted", *(f"probability_{label}" for label in LABELS)]
    _write(folder / "per_image.csv", ["source_id", *columns], images)
    _write(folder / "per_patient.csv", columns, of_patients)


def _write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
