"""Temperature and operating point of a classifier, found on images that it did not learn from."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path

import numpy as np

from ustoolkit.data.leaks import groups
from ustoolkit.data.lesions import LesionFinder
from ustoolkit.data.records import Records
from ustoolkit.errors import RunError
from ustoolkit.evaluation.calibration import apply_temperature, fit_temperature
from ustoolkit.evaluation.diagnostic import operating_point
from ustoolkit.evaluation.roc import auc_interval
from ustoolkit.files import write_json
from ustoolkit.inference.classifier import DECISION_FILE, Decision, RunClassifier
from ustoolkit.recipe.classification import DecisionSettings
from ustoolkit.run import Run


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a classifier says of images that it did not learn from.

    Attributes:
        source_ids: of the images.
        groups: str (n,), patients that belong together.
        truth: int64 (n,), indices of labels.
        probability: float64 (n, labels), before calibration.
        validation: bool (n,), of the validation part; the others are out-of-fold, of the training part.
    """

    source_ids: list[str]
    groups: np.ndarray
    truth: np.ndarray
    probability: np.ndarray
    validation: np.ndarray

    def with_probability(self, probability: np.ndarray) -> "HeldOut":
        """The same images with other probabilities."""
        return replace(self, probability=probability)

    def of(self, source_ids: Sequence[str]) -> "HeldOut":
        """Some of the images, in the order of their names."""
        place = {name: number for number, name in enumerate(self.source_ids)}
        chosen = [place[name] for name in source_ids]
        arrays = {name: getattr(self, name)[chosen] for name in ("groups", "truth", "probability", "validation")}
        return HeldOut(list(source_ids), **arrays)


def held_out(classifier: RunClassifier, records: Records, find: LesionFinder) -> HeldOut:
    """What a run says of its validation part, and where it was cross-validated, of its training part out of fold.

    Args:
        classifier: of the run.
        records: that it was trained on.
        find: where the lesions of the validation part are.
    Raises:
        RunError: out-of-fold probabilities are damaged.
        DataError: a lesion is not known.
    """
    run = classifier.run
    rows = {row.source_id: row for row in records.index}
    chosen = set(run.splits["validation"])
    names = [row.source_id for row in records.index if row.source_id in chosen]
    samples, again = tee(records.read(chosen))
    probability = classifier.raw(samples, find(again), len(names))[0]
    earlier = _out_of_fold(run)
    names += list(earlier)
    group_of = groups(records.index)
    return HeldOut(
        names,
        np.array([group_of[rows[name].patient_id] for name in names]),
        np.array([run.labels.index(rows[name].label) for name in names]),
        np.concatenate([probability, np.array(list(earlier.values())).reshape(-1, len(run.labels))]),
        np.array([name in chosen for name in names]),
    )


def decide(run: Run, records: Records, find: LesionFinder) -> Decision:
    """Finds and keeps a run's temperature and operating point; see `write_decision`.

    Args:
        run: trained.
        records: that it was trained on.
        find: where lesions are.
    """
    found = held_out(RunClassifier(run), records, find)
    return write_decision(run.folder, found, run.recipe.classification.decision)


def write_decision(folder: Path, found: HeldOut, settings: DecisionSettings) -> Decision:
    """Finds a temperature and an operating point and writes `decision.json`.

    Args:
        folder: of the run or fusion.
        found: what it says of images that it did not learn from.
        settings: how both are chosen.
    Raises:
        DataError: images of one label only.
    """
    temperature = fit_temperature(found.probability, found.truth) if settings.calibration == "temperature" else 1.0
    probability = apply_temperature(found.probability, temperature)[:, -1]
    positive = found.truth == found.probability.shape[1] - 1
    threshold = operating_point(positive, probability, settings)
    called = probability >= threshold
    area, low, high = auc_interval(positive, probability, found.groups)
    evidence = {
        "images": len(found.truth),
        "of_the_validation_part": int(found.validation.sum()),
        "patients": len(np.unique(found.groups)),
        "operating_point": settings.operating_point,
        "roc_auc": area,
        "roc_auc_interval": [low, high],
        "sensitivity": float(called[positive].mean()),
        "specificity": float((~called[~positive]).mean()),
    }
    write_json(folder / DECISION_FILE, {"temperature": temperature, "threshold": threshold, "evidence": evidence})
    return Decision(temperature, threshold, evidence)


def _out_of_fold(run: Run) -> dict[str, list[float]]:
    path = run.folder / "out_of_fold.csv"
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {row["source_id"]: [float(row[label]) for label in run.labels] for row in rows}
    except (OSError, KeyError, TypeError, ValueError) as problem:
        raise RunError(f"{path}: expected out-of-fold probabilities ({problem!r}). Train again.") from None
