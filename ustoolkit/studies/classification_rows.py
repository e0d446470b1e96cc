"""Rows of the tables of classification, to compute with: scores of networks and fusions, and what changes do."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ustoolkit.evaluation.roc import auc_interval, compare_auc
from ustoolkit.evaluation.statistics import PairedDifference
from ustoolkit.studies.classification_arms import LESION_FEATURES, NetworkArm
from ustoolkit.studies.classification_intervals import estimate_auc, estimate_brier, estimate_effect, estimate_slope
from ustoolkit.studies.classification_scores import UNITS, ClassifierScores, Scored, spread

Row = dict[str, Any]
Scores = Mapping[str, Sequence[ClassifierScores]]

# [paper] sensitivity, specificity, accuracy and area, as printed: of 3,000 images, 2,000 to train; of 5,000, 3,000.
PRINTED = {
    ("resnet50", 2000): (0.867, 0.828, 0.84, 0.848),
    ("densenet161", 2000): (0.92, 0.80, 0.865, 0.861),
    ("resnet50", 3000): (0.92, 0.86, 0.89, 0.89),
    ("densenet161", 3000): (0.93, 0.88, 0.90, 0.90),
}
PRINTED_SCORES = ("sensitivity", "specificity", "accuracy", "roc_auc")
_NOTHING = PairedDifference(math.nan, math.nan, math.nan, 0, 0)


def network_rows(scores: Scores, networks: Sequence[NetworkArm]) -> list[Row]:
    """Scores of each network, with the printed figures beside.

    Args:
        scores: by arm.
        networks: which arms.
    Returns:
        dicts of arm, network, transfer, size, smote, seeds; sensitivity, specificity, accuracy and roc_auc by image and
        patient_roc_auc by patient, each as `_mean` and `_deviation` over seeds, NaN where there is no run; the printed
        figures as `printed_…`.
    """
    rows = []
    for each in networks:
        runs = scores.get(each.name, ())
        row: Row = {"arm": each.name, "network": each.network, "transfer": each.transfer, "size": each.size}
        row |= {"smote": each.smote, "seeds": len(runs)}
        for name in PRINTED_SCORES:
            row |= _spread(name, (run.metrics["image"][name] for run in runs))
        row |= _spread("patient_roc_auc", (run.metrics["patient"]["roc_auc"] for run in runs))
        printed = PRINTED.get((each.network, each.size), (math.nan,) * len(PRINTED_SCORES))
        row |= {f"printed_{name}": value for name, value in zip(PRINTED_SCORES, printed, strict=True)}
        rows.append(row)
    return rows


def fusion_rows(scores: Scores, labels: Mapping[str, str]) -> list[Row]:
    """Scores of some arms with intervals, and each against lesion features.

    Args:
        scores: by arm.
        labels: of the arms shown.
    Returns:
        dicts of label, arm, seeds; roc_auc by image and patient_roc_auc, brier and calibration_slope by image: the mean
        over seeds, its `_low` and `_high`; sensitivity and specificity by image, mean and deviation over seeds;
        averaged_auc, by patient, of the probabilities averaged over seeds, with `_low` and `_high`, and its difference
        from that of lesion features with interval, p and verdict.
    """
    other = scores.get(LESION_FEATURES.name, ())
    rows = []
    for arm, label in labels.items():
        runs = scores.get(arm, ())
        images, patients = ([run.by[unit] for run in runs] for unit in UNITS)
        row: Row = {"label": label, "arm": arm, "seeds": len(runs)}
        row |= _with_interval("roc_auc", estimate_auc(images) if runs else _NOTHING)
        row |= _with_interval("patient_roc_auc", estimate_auc(patients) if runs else _NOTHING)
        row |= _with_interval("brier", estimate_brier(images) if runs else _NOTHING)
        row |= _with_interval("calibration_slope", estimate_slope(images) if runs else _NOTHING)
        for name in ("sensitivity", "specificity"):
            row |= _spread(name, (run.metrics["image"][name] for run in runs))
        averaged = _averaged(patients)
        area = auc_interval(averaged.positive, averaged.probability, averaged.patients) if averaged else (math.nan,) * 3
        row |= dict(zip(("averaged_auc", "averaged_auc_low", "averaged_auc_high"), area, strict=True))
        compared = arm != LESION_FEATURES.name and runs and other
        rows.append(row | _against(averaged, _averaged([run.by["patient"] for run in other]) if compared else None))
    return rows


def effect_rows(scores: Scores, networks: Sequence[NetworkArm]) -> list[Row]:
    """What each change does to the area under the ROC curve, averaged over all else.

    Args:
        scores: by arm.
        networks: which arms.
    Returns:
        dicts of change, unit, pairs, seeds (those in which every pair is there), difference, interval_low and
        interval_high, verdict; NaN where no pair is finished.
    """
    sizes = sorted({each.size for each in networks})
    changes = {
        "SMOTE against none": lambda each: (each.smote, (each.network, each.transfer, each.size)),
        f"{sizes[-1]:,} images against {sizes[0]:,}": lambda each: (
            each.size == sizes[-1],
            (each.network, each.transfer, each.smote),
        ),
        "fine-tuning against bottleneck features": lambda each: (
            each.transfer == "fine-tuning",
            (each.network, each.size, each.smote),
        ),
    }
    by_seed = {arm: {run.seed: run for run in runs} for arm, runs in scores.items()}
    rows = []
    for change, side_of in changes.items():
        sides: dict[tuple, dict[bool, str]] = {}
        for each in networks:
            changed, rest = side_of(each)
            sides.setdefault(rest, {})[changed] = each.name
        pairs = [(side[True], side[False]) for side in sides.values() if len(side) == 2]
        there = {pair: set(by_seed.get(pair[0], ())) & set(by_seed.get(pair[1], ())) for pair in pairs}
        used = [pair for pair in pairs if there[pair]]
        seeds = sorted(set.intersection(*(there[pair] for pair in used))) if used else []
        for unit in UNITS:
            terms = [
                [
                    (sign / len(used), by_seed[arm][seed].by[unit])
                    for pair in used
                    for sign, arm in zip((1, -1), pair, strict=True)
                ]
                for seed in seeds
            ]
            found = estimate_effect(terms) if terms else _NOTHING
            row: Row = {"change": change, "unit": unit, "pairs": len(used), "seeds": len(seeds)}
            row |= {"difference": found.mean, "interval_low": found.interval_low, "interval_high": found.interval_high}
            rows.append(row | {"verdict": found.verdict if seeds else ""})
    return rows


def _averaged(runs: Sequence[Scored]) -> Scored | None:
    """Probabilities averaged over seeds."""
    if not runs:
        return None
    probability = np.mean([run.probability for run in runs], axis=0)
    return Scored(runs[0].names, runs[0].patients, runs[0].positive, probability)


def _against(averaged: Scored | None, other: Scored | None) -> Row:
    if averaged is None or other is None:
        nothing = dict.fromkeys(("difference", "difference_low", "difference_high", "p_value"), math.nan)
        return {**nothing, "verdict": ""}
    found = compare_auc(averaged.positive, averaged.probability, other.probability, averaged.patients)
    row = {"difference": found.mean, "difference_low": found.interval_low, "difference_high": found.interval_high}
    return {**row, "p_value": found.p_value, "verdict": found.verdict}


def _spread(name: str, values: Iterable[float]) -> Row:
    mean, deviation = spread(values)
    return {f"{name}_mean": mean, f"{name}_deviation": deviation}


def _with_interval(name: str, found: PairedDifference) -> Row:
    return {name: found.mean, f"{name}_low": found.interval_low, f"{name}_high": found.interval_high}
