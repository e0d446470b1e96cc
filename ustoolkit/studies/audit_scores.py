"""What audited runs scored, image by image, and how much of their test parts training knew. No TensorFlow."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ustoolkit.data.records import Records
from ustoolkit.errors import RunError
from ustoolkit.evaluation.statistics import PairedDifference
from ustoolkit.evaluation.tables import read_rows
from ustoolkit.files import read_json
from ustoolkit.run import Run
from ustoolkit.studies.classification_intervals import AucStatistic, Statistic, estimate
from ustoolkit.studies.classification_scores import ClassifierScores, Scored, read_classifiers
from ustoolkit.studies.plan import PlannedRun
from ustoolkit.studies.stages import PART

AUC = "roc_auc"
_REMEDY = "Remove this evaluation, and run the audit again to score the run."


@dataclass(frozen=True)
class Score:
    """A score of a test part.

    Attributes:
        name: as evaluations call it.
        header: for a reader.
        digits: that are shown after the point.
        more_is_better: whether a higher one flatters.
    """

    name: str
    header: str
    digits: int = 3
    more_is_better: bool = True


# The first of each is the one that a verdict is on.
SEGMENTATION_SCORES = (
    Score("dice", "Dice"),
    Score("hausdorff95_pixel", "HD95", 1, more_is_better=False),
    Score("hausdorff95_penalised_pixel", "HD95, penalised", 1, more_is_better=False),
)
CLASSIFICATION_SCORES = (
    Score(AUC, "AUC"),
    Score("sensitivity", "Sensitivity"),
    Score("specificity", "Specificity"),
    Score("accuracy", "Accuracy"),
    Score("brier", "Brier score", more_is_better=False),
)


@dataclass(frozen=True)
class KnownShare:
    """How much of a test part training knew.

    Attributes:
        training_images: that the run learnt from, copies included; NaN where nothing says.
        test_images: that it was scored on.
        of_trained_patients: share of these, 0 to 1, whose patient has an image in training or validation.
        of_trained_images: share of these that are, as they are or as another copy, in training or validation.
    """

    training_images: float
    test_images: float
    of_trained_patients: float
    of_trained_images: float


@dataclass(frozen=True, eq=False)
class AuditedRun:
    """What one run scored.

    Attributes:
        seed: which.
        patients: str (n,), whose each image is.
        values: by the name of a score that is a mean over images, float (n,), NaN where an image does not count.
        scored: probabilities of a classifier; None of a run that segments.
        known: how much of its test part training knew.
    """

    seed: int
    patients: np.ndarray
    values: dict[str, np.ndarray]
    scored: Scored | None
    known: KnownShare

    def statistic(self, score: str, patients: Sequence[str]) -> Statistic:
        """A score as a function of how often each of some patients counts; NaN where no image does."""
        if score == AUC and self.scored is not None:
            return AucStatistic([(1.0, self.scored)], patients)
        place = {name: number for number, name in enumerate(patients)}
        defined = ~np.isnan(self.values[score])
        members = np.array([place[name] for name in self.patients[defined]], dtype=np.int64)
        sums = np.bincount(members, self.values[score][defined], minlength=len(patients))
        counts = np.bincount(members, minlength=len(patients)).astype(np.float64)

        def mean(weights: np.ndarray) -> np.ndarray:
            images = weights @ counts
            return np.divide(weights @ sums, images, out=np.full(len(weights), math.nan), where=images > 0)

        return mean

    def score(self, name: str) -> float:
        """A score of the whole test part; NaN where it is undefined."""
        patients = sorted(set(self.patients.tolist()))
        return float(self.statistic(name, patients)(np.ones((1, len(patients))))[0])


def read_audited(finished: Iterable[PlannedRun]) -> dict[str, list[AuditedRun]]:
    """Reads finished runs.

    Args:
        finished: trained and scored.
    Returns:
        for each arm, its runs by rising seed.
    Raises:
        RunError: a run or an evaluation is missing or damaged.
        RecordsError: records that a run was tested on are.
    """
    ordered = sorted(finished, key=lambda planned: planned.seed)
    classified = {
        scores.folder: scores
        for found in read_classifiers(planned for planned in ordered if planned.recipe.classifies).values()
        for scores in found
    }
    opened: dict[Path, Records] = {}
    by_arm: dict[str, list[AuditedRun]] = {}
    for planned in ordered:
        records = opened.setdefault(planned.records, Records(planned.records))
        read = scores_of_classifier(classified[planned.folder]) if planned.recipe.classifies else _of_segmenter(planned)
        names, patients, values, scored = read
        run = AuditedRun(planned.seed, patients, values, scored, _known(planned, records, names))
        by_arm.setdefault(planned.arm.name, []).append(run)
    return by_arm


def estimate_score(runs: Sequence[AuditedRun], score: str) -> PairedDifference:
    """A score averaged over seeds, with its 95 % interval; see `estimate`."""
    patients = _patients(runs)
    return estimate([run.statistic(score, patients) for run in runs], len(patients), len(runs[0].patients))


def estimate_above(pairs: Sequence[tuple[AuditedRun, AuditedRun]], score: str) -> PairedDifference:
    """A score of the first of each pair less that of the second, averaged over seeds, with its 95 % interval.

    Patients of both test parts are drawn together: one who is in both counts as often in each, so that what the parts
    share is compared in pairs and the rest is not. See `estimate`.

    Args:
        pairs: runs of one seed, which may be tested on other images; 1 or more.
        score: name of the score.
    """
    patients = _patients([run for pair in pairs for run in pair])

    def difference(pair: tuple[AuditedRun, AuditedRun]) -> Statistic:
        first, second = (run.statistic(score, patients) for run in pair)
        return lambda weights: first(weights) - second(weights)

    return estimate([difference(pair) for pair in pairs], len(patients), len(pairs[0][0].patients))


def _patients(runs: Iterable[AuditedRun]) -> list[str]:
    return sorted({name for run in runs for name in run.patients.tolist()})


_Read = tuple[Sequence[str], np.ndarray, dict[str, np.ndarray], Scored | None]


def _of_segmenter(planned: PlannedRun) -> _Read:
    rows = read_rows(planned.folder / "evaluation" / PART)
    by_image: dict[str, list[dict]] = {}
    for row in rows:
        by_image.setdefault(row["source_id"], []).append(row)
    values = {
        score.name: np.array([_mean([row[score.name] for row in of_image]) for of_image in by_image.values()])
        for score in SEGMENTATION_SCORES
    }
    patients = np.array([of_image[0]["patient_id"] for of_image in by_image.values()], dtype=str)
    return list(by_image), patients, values, None


def scores_of_classifier(scores: ClassifierScores) -> _Read:
    """What a finished classifier scored, image by image, and what AUC is computed of.

    Raises:
        RunError: its evaluation has no threshold.
    """
    folder, found = scores.folder / "evaluation" / PART, scores.by["image"]
    path = folder / "metrics.json"
    content = read_json(path, RunError, _REMEDY)
    try:
        threshold, labels = float(content["by_image"]["threshold"]), content["labels"]
    except (KeyError, TypeError, ValueError) as problem:
        raise RunError(f"{path}: expected scores of a classifier with a threshold ({problem!r}). {_REMEDY}") from None
    called = found.probability >= threshold
    # Of more than two labels the most probable one is right or not.
    right = called == found.positive if len(labels) == 2 else _right(folder / "per_image.csv")
    values = {
        "sensitivity": np.where(found.positive, called, math.nan),
        "specificity": np.where(found.positive, math.nan, ~called),
        "accuracy": right.astype(np.float64),
        "brier": (found.probability - found.positive) ** 2,
    }
    return found.names, found.patients, values, found


def _right(path: Path) -> np.ndarray:
    """Whether each image is given its own label, bool (n,)."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return np.array([row["predicted"] == row["label"] for row in csv.DictReader(file)])
    except (OSError, KeyError, ValueError) as problem:
        raise RunError(f"{path}: expected a table of probabilities ({problem!r}). {_REMEDY}") from None


def _known(planned: PlannedRun, records: Records, tested: Sequence[str]) -> KnownShare:
    run = Run(planned.folder)
    rows = {row.source_id: row for row in records.index}
    try:
        learnt = [rows[name] for part in ("train", "validation") for name in run.splits[part]]
        scored = [rows[name] for name in tested]
    except KeyError as problem:
        raise RunError(
            f"{planned.folder}: expected images of {records.folder}, found {problem}. Remove the run, and run the "
            "audit again."
        ) from None
    patients = {row.patient_id for row in learnt} - {""}
    images = {row.attributes.get("expanded_from", row.source_id) for row in learnt}
    return KnownShare(
        _training_images(run),
        len(scored),
        _share([row.patient_id in patients for row in scored]),
        _share([row.attributes.get("expanded_from", row.source_id) in images for row in scored]),
    )


def _training_images(run: Run) -> float:
    if "training_images" in run.state:
        return float(run.state["training_images"])
    balance = run.recipe.classification.balance
    if run.recipe.classifies and balance.expand_to:
        return float(balance.expand_to)
    synthetic = run.recipe.classifies and balance.smote == "pixels"
    return math.nan if synthetic else float(len(run.splits["train"]))


def _share(members: Sequence[bool]) -> float:
    return sum(members) / len(members) if members else math.nan


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
