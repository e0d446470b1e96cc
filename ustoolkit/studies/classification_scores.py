"""What finished classifiers scored: probabilities by image and by patient, as their evaluations hold them."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.errors import RunError
from ustoolkit.files import read_json
from ustoolkit.studies.plan import Planned
from ustoolkit.studies.stages import PART

UNITS = ("image", "patient")
_REMEDY = "Remove this evaluation, and run the study again to score the run."


@dataclass(frozen=True, eq=False)
class Scored:
    """What one classifier says of the images, or of the patients, that it was tested on.

    Attributes:
        names: of the images or patients.
        patients: str (n,), whose each is; patients who share a picture have one name.
        positive: bool (n,), the truth.
        probability: float64 (n,), in [0, 1], of the positive label.
    """

    names: tuple[str, ...]
    patients: np.ndarray
    positive: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True, eq=False)
class ClassifierScores:
    """What one run or fusion scored.

    Attributes:
        folder: of the run or fusion.
        seed: which.
        by: `Scored` of each of `UNITS`.
        metrics: for each of `UNITS` the values of `evaluation.diagnostic`'s scores by name; NaN where undefined.
        validation_auc: of a run, on its validation part; NaN where nothing says.
        minutes: of training; NaN where nothing says.
    """

    folder: Path
    seed: int
    by: dict[str, Scored]
    metrics: dict[str, dict[str, float]]
    validation_auc: float
    minutes: float


def read_classifiers(finished: Iterable[Planned]) -> dict[str, list[ClassifierScores]]:
    """Reads finished runs and fusions.

    Args:
        finished: trained and scored.
    Returns:
        for each arm, its scores by rising seed.
    Raises:
        RunError: an evaluation is missing or damaged.
    """
    by_arm: dict[str, list[ClassifierScores]] = {}
    for planned in sorted(finished, key=lambda planned: planned.seed):
        by_arm.setdefault(planned.arm.name, []).append(_read(planned))
    return by_arm


def check_same_images(runs: Sequence[ClassifierScores]) -> None:
    """Checks that runs were tested on the same images.

    Raises:
        RunError: one was tested on others.
    """
    for run in runs:
        if any(run.by[unit].names != runs[0].by[unit].names for unit in UNITS):
            raise RunError(
                f"{run.folder / 'evaluation' / PART}: expected the images that {runs[0].folder} was tested on, found "
                f"others. {_REMEDY}"
            )


def spread(values: Iterable[float]) -> tuple[float, float]:
    """Mean and standard deviation (ddof 1) of what is defined of some values; NaN without, or below two."""
    defined = np.array([value for value in values if not math.isnan(value)])
    deviation = float(defined.std(ddof=1)) if defined.size > 1 else math.nan
    return (float(defined.mean()) if defined.size else math.nan), deviation


def _read(planned: Planned) -> ClassifierScores:
    folder = planned.folder / "evaluation" / PART
    tables = read_json(folder / "metrics.json", RunError, _REMEDY)
    try:
        label = tables["labels"][-1]
        metrics = {unit: _values(tables[f"by_{unit}"]) for unit in UNITS}
    except (KeyError, TypeError, IndexError, ValueError) as problem:
        raise RunError(f"{folder / 'metrics.json'}: expected scores of a classifier ({problem!r}). {_REMEDY}") from None
    path = planned.folder / "run.json"
    state = read_json(path, RunError, "Train again.") if path.is_file() else {}
    return ClassifierScores(
        planned.folder,
        planned.seed,
        {unit: _scored(folder / f"per_{unit}.csv", unit, label) for unit in UNITS},
        metrics,
        float(state.get("best_validation_auc", math.nan)),
        float(state.get("training_seconds", math.nan)) / 60,
    )


def _values(scores: dict[str, Any]) -> dict[str, float]:
    """Values of a table of scores, of which null is NaN; counts and the like are left out."""
    return {
        name: math.nan if entry["value"] is None else float(entry["value"])
        for name, entry in scores.items()
        if isinstance(entry, dict) and "value" in entry
    }


def _scored(path: Path, unit: str, label: str) -> Scored:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return Scored(
            tuple(row["source_id" if unit == "image" else "patient_id"] for row in rows),
            np.array([row["patient_id"] for row in rows]),
            np.array([row["label"] == label for row in rows]),
            np.array([float(row[f"probability_{label}"]) for row in rows]),
        )
    except (OSError, KeyError, TypeError, ValueError) as problem:
        raise RunError(f"{path}: expected a table of probabilities ({problem!r}). {_REMEDY}") from None
