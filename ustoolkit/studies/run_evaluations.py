"""Evaluations as the runs below a folder left them: found, and read one after another. No TensorFlow."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ustoolkit.errors import RunError
from ustoolkit.evaluation import METRICS
from ustoolkit.evaluation.tables import METRICS_FILE, PER_IMAGE_FILE, read_rows
from ustoolkit.files import read_json
from ustoolkit.run import Run

BRIER = "brier"
AGAIN = "Run 'ustoolkit evaluate' again."
_LEVELS = 3  # below a folder, at which its runs may lie
_RUN_FILE, _FUSION_FILE = "run.json", "fusion.json"

Kind = Literal["segmentation", "classification"]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: what each image scored, and of which records and seed it is.

    Attributes:
        folder: of the evaluation.
        seed: of the run's training; 0 where no run is known.
        kind: what the run does.
        digest: of the records that were scored; '' where nothing says.
        records: where they lay; None where nothing says.
        positive: name of the positive label, of a run that classifies.
        images: by source id its patient_id, label and metrics; of a run that segments those of `METRICS`, the mean over
            an image's classes, of one that classifies `BRIER` and the positive label's probability.
    """

    folder: Path
    seed: int
    kind: Kind
    digest: str
    records: Path | None
    positive: str
    images: dict[str, dict[str, Any]]


def read_evaluations(folder: Path, part: str, named: Sequence[Path] = ()) -> list[Evaluation]:
    """Reads an evaluation, or that of each run in a folder or below it.

    Args:
        folder: of an evaluation, of a run, or with runs at most three levels below it.
        part: name of the runs' evaluation.
        named: the runs in it to read; none for all.
    Raises:
        RunError: there is none, a run has none, one is damaged, or the runs are not of one network.
    """
    if (folder / PER_IMAGE_FILE).is_file():
        return [_read(folder, folder.resolve().parent.parent)]
    runs = list(named) or _runs(folder, _LEVELS)
    if not folder.exists():
        raise RunError(f"{folder}: there is no such folder. Name a run, a folder of runs, or an evaluation.")
    if not runs:
        raise RunError(
            f"{folder}: expected an evaluation '{part}', found none, nor a run within {_LEVELS} levels below it. Name "
            f"a run, a folder of runs, or an evaluation that 'ustoolkit evaluate RUN --split {part}' made."
        )
    for run in runs:
        if not (run / "evaluation" / part / PER_IMAGE_FILE).is_file():
            state = _run_of(run / "evaluation" / part)
            if state is not None and state.state.get("status") != "finished":
                raise RunError(f"{run}: expected a run that is trained, found one under way. Finish it first.")
            raise RunError(
                f"{run}: expected an evaluation '{part}', found none. Make it with 'ustoolkit evaluate {run} --split "
                f"{part}'."
            )
    _check_one_network(runs)
    return [_read(run / "evaluation" / part, run) for run in runs]


def _runs(folder: Path, levels: int) -> list[Path]:
    if any((folder / name).is_file() for name in (_RUN_FILE, _FUSION_FILE)):
        return [folder]
    if not levels or not folder.is_dir():
        return []
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as problem:
        raise RunError(f"{folder}: cannot be read ({problem.strerror}). Name a folder that can.") from None
    return [run for path in below for run in _runs(path, levels - 1)]


def _check_one_network(runs: Sequence[Path]) -> None:
    opened = [Run(run) for run in runs if (run / _RUN_FILE).is_file()]
    other = next((run for run in opened if run.recipe.model != opened[0].recipe.model), None)
    if other:
        raise RunError(
            f"{other.folder}: expected the network of {opened[0].folder}, found another ('{other.recipe.model.name}', "
            f"or other settings than its). Name the folder of one method."
        )


def _read(folder: Path, run_folder: Path) -> Evaluation:
    content = read_json(folder / METRICS_FILE, RunError, AGAIN)
    settings = content.get("settings", {}) if isinstance(content, dict) else None
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(settings, dict) or not ("classes" in content or (isinstance(labels, list) and labels)):
        raise RunError(f"{folder / METRICS_FILE}: expected a summary of scores, found something else. {AGAIN}")
    run = _run_of(run_folder)
    digest = settings.get("records_digest") or (run.manifest["digest"] if run else "")
    records = settings.get("records") or (run.records if run else None)
    positive = str(labels[-1]) if labels else ""
    return Evaluation(
        folder,
        run.recipe.training.seed if run else 0,
        "classification" if labels else "segmentation",
        str(digest),
        Path(str(records)) if records else None,
        positive,
        _classified(folder, positive) if labels else _segmented(folder),
    )


def _run_of(folder: Path) -> Run | None:
    """A run, or the first of a fusion's."""
    if (folder / _RUN_FILE).is_file():
        return Run(folder)
    if not (folder / _FUSION_FILE).is_file():
        return None
    content = read_json(folder / _FUSION_FILE, RunError, "Fuse the runs again with 'ustoolkit fuse'.")
    paths = content.get("runs") if isinstance(content, dict) else None
    first = folder / str(paths[0]) if isinstance(paths, list) and paths else None
    return Run(first) if first and (first / _RUN_FILE).is_file() else None


def _segmented(folder: Path) -> dict[str, dict[str, Any]]:
    by_image: dict[str, list[dict[str, Any]]] = {}
    for row in read_rows(folder):
        by_image.setdefault(row["source_id"], []).append(row)
    return {
        name: {**rows[0], **{metric: _mean([row[metric] for row in rows]) for metric in METRICS}}
        for name, rows in by_image.items()
    }


def _classified(folder: Path, positive: str) -> dict[str, dict[str, Any]]:
    path = folder / PER_IMAGE_FILE
    images = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                probability = float(row[f"probability_{positive}"])
                images[row["source_id"]] = {
                    "patient_id": row["patient_id"],
                    "label": row["label"],
                    "probability": probability,
                    BRIER: (probability - (row["label"] == positive)) ** 2,
                }
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as problem:
        raise RunError(f"{path}: expected a table of probabilities ({problem!r}). {AGAIN}") from None
    return images


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
