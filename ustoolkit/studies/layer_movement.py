"""How far fine-tuning moved the layers of the pre-trained network, over the folds: figure and table."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ustoolkit.data.records import records_of
from ustoolkit.errors import UstoolkitError
from ustoolkit.run import Run
from ustoolkit.studies.plan import PlannedRun
from ustoolkit.studies.results import Results
from ustoolkit.studies.table_files import format_number, write_table

if TYPE_CHECKING:
    from ustoolkit.explain.similarity import LayerChange

MOVEMENT = "movement"
_COLUMNS = {"weight_distance": "Change of the weights", "cosine": "Cosine", "cka": "CKA"}
_ABOUT = (
    "The whole network tuned, against the pre-trained one. Change of the weights: length of the difference over the "
    "length before. CKA: how alike a layer's outputs stayed, 1 for the same but for rotation and scale."
)
_IMAGES = 16  # of the validation part of each fold, to compare outputs on


def movement_plot(results: Results, arm: str) -> dict[str, Figure]:
    """The change of each layer's weights and outputs, mean over the runs of an arm; also written as a table.

    Args:
        results: of the study; the arm starts from a pre-training.
        arm: its name.
    Returns:
        the figure; none where no run of the arm is finished, or its layers cannot be compared with the pre-trained.
    Raises:
        OutputError: the folder cannot be written to.
    """
    runs = results.finished_runs([arm])
    if not runs:
        return {}
    from ustoolkit.report.explanation_figures import change_plot

    before = next(run for run in results.planned if run.name in runs[0].needs)
    try:
        changes = _mean([_changes(before.folder, run) for run in runs])
    except UstoolkitError:  # the pre-training was removed, or has other classes
        return {}
    rows = [asdict(change) for change in changes]
    lines = [[row["layer"], *(format_number(row[name], 3) for name in _COLUMNS)] for row in rows]
    about = f"{_ABOUT} Mean over {len(runs)} runs."
    title = "How far each layer moved"
    write_table(results.options.out / MOVEMENT, title, rows, ["Layer", *_COLUMNS.values()], lines, about)
    return {MOVEMENT: change_plot(changes, "pre-trained", f"tuned, mean of {len(runs)} runs")}


def _changes(before: Path, planned: PlannedRun) -> "list[LayerChange]":
    from ustoolkit.explain.similarity import compare_networks
    from ustoolkit.explain.subject import Subject

    first, second = Subject(Run(before)), Subject(Run(planned.folder))
    run = second.run
    samples = records_of(run, planned.records).read(run.splits["validation"])
    inputs = second.inputs_of(samples, _IMAGES)
    return compare_networks(first.model, second.model, second.layers(), inputs)


def _mean(folds: "Sequence[Sequence[LayerChange]]") -> "list[LayerChange]":
    """Mean over folds of each number of each layer."""
    from ustoolkit.explain.similarity import LayerChange

    return [
        LayerChange(
            same[0].layer,
            *(float(np.mean([getattr(each, name) for each in same])) for name in ("weight_distance", "cosine", "cka")),
        )
        for same in zip(*folds, strict=True)
    ]
