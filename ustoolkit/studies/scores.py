"""What the finished runs of a study scored, as arrays over seeds and images. No TensorFlow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ustoolkit.errors import RunError
from ustoolkit.evaluation.tables import METRICS_FILE, read_rows
from ustoolkit.files import read_json
from ustoolkit.run import Run
from ustoolkit.studies.comparison import CRF
from ustoolkit.studies.plan import PlannedRun
from ustoolkit.studies.stages import PART, PART_WITH_CRF, StudyData

METRIC_NAMES = ("dice", "hausdorff95_pixel", "hausdorff95_penalised_pixel", "pixel_error", "adjusted_rand")
PIXEL_METRIC_NAMES = ("iou_background", "iou_lesion", "mean_iou", "pixel_accuracy")


@dataclass(frozen=True)
class ScoredImages:
    """The images that some arms were scored on, in all folds together.

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
        seeds: those of which a run is finished.
        metrics: for each of `METRIC_NAMES`, float (seeds, images): the mean over an image's classes, NaN where it is
            undefined in all, or of a fold that is not finished.
        scored: bool (images,), whether every seed has scored an image; not so where folds are not finished.
        run_means: for each of `METRIC_NAMES`, float (runs,): the mean over the images of each seed and fold.
        pixel_metrics: for each of `PIXEL_METRIC_NAMES`, float (runs,): over all pixels of the test part together, the
            lesion's the mean over classes; NaN where a run does not say.
        trainable_weights: of the network; None where the runs do not say.
        open_weights: of them, those that learn; None where the runs do not say.
        multiply_adds: of the network, an image; None where the runs do not say.
    """

    seeds: tuple[int, ...]
    metrics: dict[str, np.ndarray]
    scored: np.ndarray
    run_means: dict[str, np.ndarray]
    pixel_metrics: dict[str, np.ndarray]
    trainable_weights: int | None
    open_weights: int | None
    multiply_adds: int | None


def tested_images(planned: Sequence[PlannedRun], data: StudyData) -> ScoredImages:
    """The annotated images that some runs are tested on, in the order of the records.

    Args:
        planned: of records that hold the same images.
        data: what they are tested on; prepared, where images are.
    """
    opened = [found for run in planned if (found := data.of(run))]
    wanted = {name for each in opened for name in each.splits[PART]}
    rows = [row for row in opened[0].records.index if row.source_id in wanted and row.lesion_fraction is not None]
    return ScoredImages(
        tuple(row.source_id for row in rows),
        np.array([row.patient_id for row in rows], dtype=str),
        np.array([row.lesion_fraction for row in rows], dtype=np.float64),
    )


def read_scores(finished: Iterable[PlannedRun], images: ScoredImages, data: StudyData) -> dict[str, ArmScores]:
    """Reads finished runs.

    Args:
        finished: runs that are trained and scored, of any arms.
        images: those that they were scored on.
        data: what they were trained on.
    Returns:
        for each arm with a finished run, its scores; under its name and `CRF` those with the CRF, where it has one.
    Raises:
        RunError: a run's tables cannot be read, or hold other images.
    """
    by_arm: dict[str, list[PlannedRun]] = {}
    for planned in finished:
        by_arm.setdefault(planned.arm.name, []).append(planned)
    scores = {}
    for name, runs in by_arm.items():
        ordered = sorted(runs, key=lambda run: (run.seed, run.fold))
        scores[name] = _arm_scores(ordered, PART, images, data)
        if all(run.crf for run in runs):
            scores[name + CRF] = _arm_scores(ordered, PART_WITH_CRF, images, data)
    return scores


def _arm_scores(planned: Sequence[PlannedRun], evaluation: str, images: ScoredImages, data: StudyData) -> ArmScores:
    runs = [Run(each.folder) for each in planned]
    place = {name: number for number, name in enumerate(images.source_ids)}
    seeds = sorted({each.seed for each in planned})
    metrics = {name: np.full((len(seeds), len(place)), np.nan) for name in METRIC_NAMES}
    means = {name: np.full(len(runs), np.nan) for name in METRIC_NAMES}
    there = np.zeros((len(seeds), len(place)), dtype=bool)
    for number, (each, run) in enumerate(zip(planned, runs, strict=True)):
        opened = data.of(each)
        if opened is None:
            raise RunError(f"{each.folder}: the records that it was scored on are not there. Run the study again.")
        expected = [name for name in opened.splits[PART] if name in place]
        scored = _image_scores(run.evaluation(evaluation), expected)
        columns = [place[name] for name in expected]
        there[seeds.index(each.seed), columns] = True
        for name, values in scored.items():
            metrics[name][seeds.index(each.seed), columns] = values
            means[name][number] = _mean(values)
    pixels = [_pixel_scores(run.evaluation(evaluation)) for run in runs]
    return ArmScores(
        seeds=tuple(seeds),
        metrics=metrics,
        scored=np.all(there, axis=0),
        run_means=means,
        pixel_metrics={name: np.array([scores[name] for scores in pixels]) for name in PIXEL_METRIC_NAMES},
        trainable_weights=_stated(runs, "trainable_weights"),
        open_weights=_stated(runs, "open_weights"),
        multiply_adds=_stated(runs, "multiply_adds"),
    )


def _stated(runs: list[Run], key: str) -> int | None:
    """What the first run that says it says of the network, which is the same in all."""
    return next((run.state[key] for run in runs if key in run.state), None)


def _image_scores(folder: Path, source_ids: Sequence[str]) -> dict[str, np.ndarray]:
    by_image: dict[str, list[dict[str, Any]]] = {}
    for row in read_rows(folder):
        by_image.setdefault(row["source_id"], []).append(row)
    if by_image.keys() != set(source_ids):
        raise RunError(
            f"{folder}: expected scores of the {len(source_ids)} images of the test part, found "
            f"{len(by_image)} images, not the same. Remove this folder, and run the study again to score them."
        )
    return {
        name: np.array([_mean([row.get(name, np.nan) for row in by_image[source_id]]) for source_id in source_ids])
        for name in METRIC_NAMES
    }


def _pixel_scores(folder: Path) -> dict[str, float]:
    """Scores over all pixels; those of an evaluation that did not count pixels are NaN."""
    path, remedy = folder / METRICS_FILE, "Remove this folder, and run the study again to score the run."
    content = read_json(path, RunError, remedy)
    counted = content.get("confusion") if isinstance(content, dict) else None
    if not counted:
        return dict.fromkeys(PIXEL_METRIC_NAMES, float("nan"))
    try:
        background, *lesions = [_defined(value) for value in counted["iou"]]
        values = (background, _mean(lesions), _defined(counted["mean_iou"]), _defined(counted["pixel_accuracy"]))
    except (KeyError, TypeError, ValueError) as problem:
        raise RunError(f"{path}: expected iou, mean_iou and pixel_accuracy ({problem}). {remedy}") from None
    return dict(zip(PIXEL_METRIC_NAMES, values, strict=True))


def _defined(value: float | None) -> float:
    """A number of a JSON file, where null stands for NaN."""
    return float("nan") if value is None else float(value)


def _mean(values: Sequence[float] | np.ndarray) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
