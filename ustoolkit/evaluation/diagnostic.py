"""From probabilities of labels to a diagnosis, and how good that diagnosis is."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import beta
from sklearn.metrics import confusion_matrix

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.evaluation.calibration import calibration_slope_intercept
from ustoolkit.evaluation.probabilities import checked_labels, checked_probability, checked_rows, group_members
from ustoolkit.evaluation.roc import auc_interval
from ustoolkit.evaluation.weighted import bootstrap_intervals, weighted_scores
from ustoolkit.recipe.classification import DecisionSettings

DIAGNOSTIC_SCORES = (
    "sensitivity",
    "specificity",
    "accuracy",
    "balanced_accuracy",
    "f1",
    "positive_predictive_value",
    "negative_predictive_value",
    "roc_auc",
    "pr_auc",
    "brier",
    "expected_calibration_error",
    "calibration_slope",
    "calibration_intercept",
)
"""What `diagnosis` says of each label, in this order."""


def operating_point(truth: np.ndarray, probability: np.ndarray, settings: DecisionSettings) -> float:
    """The threshold from which on an image is called positive.

    It stands midway between two neighbouring probabilities, or between 0 and the lowest one, so that rounding cannot
    move an image across it. Where several thresholds are best by Youden's index, sensitivity + specificity − 1
    ("Index for rating diagnostic tests", Cancer, 1950), it is the lowest of them, so that fewer positive images are
    missed.

    Args:
        truth: bool (n,), whether each image is positive.
        probability: float (n,), in [0, 1], of the positive label, on images that were not trained on.
        settings: how the threshold is chosen.
    Returns:
        float in [0, 1]: images with this probability or more are positive. 0.5 for 'half', whatever the images.
    Raises:
        ShapeError: not one probability for each image.
        DataError: only one class is there, or a probability is not between 0 and 1.
    """
    truth, probability = checked_probability(truth, probability)
    if settings.operating_point == "half":
        return 0.5
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        raise DataError(
            f"the images that the operating point is chosen on are {positives} positive and {negatives} negative; "
            "expected both. Make the validation part larger, or set classification.decision.operating_point=half."
        )
    values, members = np.unique(probability, return_inverse=True)
    # Of the images with each value and all higher ones, rising value by rising value.
    found = np.bincount(members, weights=truth)[::-1].cumsum()[::-1]
    false = np.bincount(members, weights=~truth)[::-1].cumsum()[::-1]
    if settings.operating_point == "sensitivity":
        wanted = math.ceil(settings.sensitivity * positives - 1e-9)
        best = int(np.flatnonzero(found >= wanted)[-1])
    else:
        # In whole numbers, so that equal indices are equal.
        best = int(np.argmax(found * negatives - false * positives))
    below = values[best - 1] if best else 0.0
    middle = (below + values[best]) / 2
    # Two neighbouring floats have no number between them.
    return float(middle if middle > below or not best else values[best])


def by_patient(
    truth: np.ndarray, probability: np.ndarray, patients: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One truth and one probability of each label for each patient.

    Args:
        truth: int (n,), the index of each image's label, the positive one the last.
        probability: float (n, labels), each row adding up to 1.
        patients: (n,) str, the patient of each image.
    Returns:
        patients (m,) in alphabetical order; truth int64 (m,), positive where any image of the patient is, else his
        most frequent label, the first one of equal ones; probability float64 (m, labels), the mean over his images.
    Raises:
        ShapeError: not one label and one patient for each image.
        DataError: a label index or a probability is not valid.
    """
    probability = checked_rows(probability)
    images, labels = probability.shape
    truth = checked_labels(truth, images, labels)
    members, number = group_members(patients, images)
    counts = np.zeros((number, labels), np.int64)
    np.add.at(counts, (members, truth), 1)
    of_patients = np.where(counts[:, -1] > 0, labels - 1, counts.argmax(axis=1))
    sums = np.stack([np.bincount(members, weights=column, minlength=number) for column in probability.T], axis=1)
    return np.unique(np.asarray(patients)), of_patients, sums / counts.sum(axis=1, keepdims=True)


def diagnosis(
    truth: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    labels: Sequence[str],
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores of a diagnosis with 95 % intervals, ready for JSON.

    An image is called positive where its last probability reaches the threshold. With more than two labels the scores
    are of the positive label against the rest, and accuracy and confusion are of the most probable label.

    Intervals are by the bootstrap over patients (`bootstrap_intervals`), the ROC curve's by DeLong or, with several
    images a patient, Obuchowski (`auc_interval`). A rate of exactly 0 or 1 is the same in every resample; its interval
    is that of Clopper and Pearson (Biometrika, 1934) with a trial for each patient.

    Args:
        truth: int (n,), the index of each image's label.
        probability: float (n, labels), each row adding up to 1, the positive label's last.
        threshold: as `operating_point` finds it.
        labels: their names, in the order of the columns.
        groups: (n,) str, the patient of each image, or None where every image stands for itself.
        seed: of the bootstrap; the same seed gives the same intervals.
    Returns:
        dict: for each of `DIAGNOSTIC_SCORES` a dict of value, interval_low and interval_high, None where undefined;
        counts (true_positive, false_positive, true_negative, false_negative, images, patients); confusion (a list for
        each annotated label, with the images of each predicted one); labels; threshold.
    Raises:
        ShapeError: not one label and one group for each image, or not a column for each label.
        DataError: there are no images, or a label index, a probability or the threshold is not valid.
    """
    probability = checked_rows(probability)
    truth = checked_labels(truth, *probability.shape)
    _check_diagnosis(probability, threshold, labels)
    members, patients = group_members(groups, len(truth))
    last = len(labels) - 1
    positive, scores = truth == last, probability[:, -1]
    called = scores >= threshold
    predicted = called.astype(np.int64) if last == 1 else probability.argmax(axis=1)
    right = predicted == truth
    values = {
        name: float(value[0])
        for name, value in weighted_scores(positive, scores, called, right, np.ones((1, len(truth)))).items()
    }
    values["calibration_slope"], values["calibration_intercept"] = calibration_slope_intercept(positive, scores)
    intervals = bootstrap_intervals(positive, scores, called, right, members, seed)
    for name, trials in _trials(positive, called).items():
        if values[name] in (0, 1):
            intervals[name] = _clopper_pearson(values[name], len(np.unique(members[trials])))
    values["roc_auc"], low, high = auc_interval(positive, scores, members)
    intervals["roc_auc"] = (low, high)
    return {
        **{name: _entry(values[name], intervals.get(name)) for name in DIAGNOSTIC_SCORES},
        "counts": {
            "true_positive": int(np.count_nonzero(positive & called)),
            "false_positive": int(np.count_nonzero(~positive & called)),
            "true_negative": int(np.count_nonzero(~positive & ~called)),
            "false_negative": int(np.count_nonzero(positive & ~called)),
            "images": len(truth),
            "patients": patients,
        },
        "confusion": confusion_matrix(truth, predicted, labels=range(len(labels))).tolist(),
        "labels": list(labels),
        "threshold": float(threshold),
    }


def _check_diagnosis(probability: np.ndarray, threshold: float, labels: Sequence[str]) -> None:
    if len(labels) != probability.shape[1]:
        raise ShapeError(
            f"{len(labels)} labels and probabilities of shape {probability.shape}; expected a column for each label. "
            "Give the labels that the probabilities were predicted for."
        )
    if not len(probability):
        raise DataError("there are no images to score; expected one or more. Choose a part of the split that has some.")
    if not 0 <= threshold <= 1:
        raise DataError(f"the threshold is {threshold}; expected 0 to 1. Choose the operating point again.")


def _trials(positive: np.ndarray, called: np.ndarray) -> dict[str, np.ndarray]:
    """bool (n,) for each rate: the images that it is a share of."""
    return {
        "sensitivity": positive,
        "specificity": ~positive,
        "accuracy": np.ones_like(positive),
        "positive_predictive_value": called,
        "negative_predictive_value": ~called,
    }


def _clopper_pearson(value: float, trials: int) -> tuple[float, float]:
    if value == 1:
        return float(beta.ppf(0.025, trials, 1)), 1.0
    return 0.0, float(beta.ppf(0.975, 1, trials))


def _entry(value: float, interval: Sequence[float] | None) -> dict[str, float | None]:
    low, high = interval or (math.nan, math.nan)
    entry = {"value": value, "interval_low": low, "interval_high": high}
    return {name: None if math.isnan(number) else float(number) for name, number in entry.items()}
