"""What the finished runs of a study scored, as arrays over seeds and images. No TensorFlow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ustoolkit.errors import RunError
from ustoolkit.evaluation.tables import read_rows
from ustoolkit.run import Run
from ustoolkit.studies.plan import PART, PlannedRun, StudyData

METRIC_NAMES = ("dice", "hausdorff95_pixel", "hausdorff95_penalised_pixel")


@dataclass(frozen=True)
class ScoredImages:
    """The images that every run was scored on.

    Attributes:
        source_ids: in the order of the scores.
        patient_ids: str (images,), of each.
        lesion_fractions: float (images,), share of each image that is lesion.
    """

    source_ids: tuple[str, ...]
    patient_ids: np.ndarray
    lesion_fractions: np.ndarray


@dataclass(frozen=True)
class ArmScores:
    """What an arm scored.

    Attributes:
        seeds: those that are finished.
        metrics: for each of `METRIC_NAMES`, float (seeds, images): the mean over an image's classes, NaN where it is
            undefined in all.
        trainable_weights: of the network; None where the runs do not say.
        multiply_adds: of the network, an image; None where the runs do not say.
        minutes: of training, float (seeds,); NaN where a run does not say.
    """

    seeds: tuple[int, ...]
    metrics: dict[str, np.ndarray]
    trainable_weights: int | None
    multiply_adds: int | None
    minutes: np.ndarray


def tested_images(data: StudyData) -> ScoredImages:
    """The annotated images of the test part, in the order of the records."""
    wanted = set(data.splits[PART])
    rows = [row for row in data.records.index if row.source_id in wanted and row.lesion_fraction is not None]
    return ScoredImages(
        tuple(row.source_id for row in rows),
        np.array([row.patient_id for row in rows], dtype=str),
        np.array([row.lesion_fraction for row in rows], dtype=np.float64),
    )


def read_scores(finished: Iterable[PlannedRun], images: ScoredImages) -> dict[str, ArmScores]:
    """Reads finished runs.

    Args:
        finished: runs that are trained and scored, of any arms.
        images: those that they were scored on.
    Returns:
        for each arm with a finished run, its scores.
    Raises:
        RunError: a run's tables cannot be read, or hold other images.
    """
    by_arm: dict[str, list[PlannedRun]] = {}
    for planned in finished:
        by_arm.setdefault(planned.arm.name, []).append(planned)
    return {name: _arm_scores(sorted(runs, key=lambda run: run.seed), images) for name, runs in by_arm.items()}


def _arm_scores(planned: Sequence[PlannedRun], images: ScoredImages) -> ArmScores:
    runs = [Run(each.folder) for each in planned]
    each_seed = [_image_scores(run, images) for run in runs]
    return ArmScores(
        seeds=tuple(each.seed for each in planned),
        metrics={name: np.stack([scores[name] for scores in each_seed]) for name in METRIC_NAMES},
        trainable_weights=_stated(runs, "trainable_weights"),
        multiply_adds=_stated(runs, "multiply_adds"),
        minutes=np.array([run.state.get("training_seconds", np.nan) / 60 for run in runs]),
    )


def _stated(runs: list[Run], key: str) -> int | None:
    """What the first run that says it says of the network, which is the same in all."""
    return next((run.state[key] for run in runs if key in run.state), None)


def _image_scores(run: Run, images: ScoredImages) -> dict[str, np.ndarray]:
    by_image: dict[str, list[dict[str, Any]]] = {}
    for row in read_rows(run.evaluation(PART)):
        by_image.setdefault(row["source_id"], []).append(row)
    if by_image.keys() != set(images.source_ids):
        raise RunError(
            f"{run.evaluation(PART)}: expected scores of the {len(images.source_ids)} images of the test part, found "
            f"{len(by_image)} images, not the same. Remove this folder, and run the study again to score them."
        )
    return {
        name: np.array([_mean([row[name] for row in by_image[source_id]]) for source_id in images.source_ids])
        for name in METRIC_NAMES
    }


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
