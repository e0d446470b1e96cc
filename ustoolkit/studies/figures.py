"""The figures of studies, from their results. Where nothing is finished yet there is none."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ustoolkit.report.study_bars import LadderStep, ladder_figure
from ustoolkit.report.study_curves import StepSeries, curve_figure, step_figure
from ustoolkit.report.study_figures import CostPoint, IntervalRow, cost_figure, interval_figure
from ustoolkit.run import Run
from ustoolkit.studies.ladder_table import LADDER
from ustoolkit.studies.results import Results
from ustoolkit.studies.scores import ArmScores

Lines = Sequence[tuple[str, str]]
_OF_RUNS = "Dice, mean ± standard deviation over runs"


def curve_plot(results: Results, arms: Lines, name: str = "curves") -> dict[str, Figure]:
    """Validation Dice and loss over the epochs, a line an arm with a band over its runs.

    Args:
        results: of the study.
        arms: (label, name of the arm).
        name: of the figure.
    """
    columns = {"Dice, validation": "validation_dice", "loss, validation": "validation_loss"}
    histories = {label: _histories(results, arm) for label, arm in arms}
    histories = {label: found for label, found in histories.items() if found}
    if not histories:
        return {}
    panels = {
        title: {label: _over_epochs(found, column) for label, found in histories.items()}
        for title, column in columns.items()
    }
    return {name: curve_figure(panels, "epoch")}


def difference_plot(results: Results, table: str, axis: str) -> dict[str, Figure]:
    """The differences of a table from their baselines, with their intervals.

    Args:
        results: of the study.
        table: name of a comparison, and of the figure.
        axis: what the differences are.
    """
    rows = [
        IntervalRow(row["label"], row["difference"], row["interval_low"], row["interval_high"])
        for row in results.tables.get(table, ())
        if not math.isnan(row["difference"])
    ]
    return {table: interval_figure(rows, axis, reference=0.0)} if rows else {}


def cost_plot(results: Results, groups: Mapping[str, Lines], name: str = "trade-off") -> dict[str, Figure]:
    """Dice over trainable weights.

    Args:
        results: of the study.
        groups: (label, name of the arm), by name of the group.
        name: of the figure.
    """
    points = []
    for group, arms in groups.items():
        for label, arm in arms:
            found = results.scores.get(arm)
            if found and found.trainable_weights:
                mean, deviation = _spread(found, "dice")
                points.append(CostPoint(label, found.trainable_weights, mean, deviation, group))
    return {name: cost_figure(points, "trainable weights", _OF_RUNS)} if points else {}


def ladder_plot(results: Results) -> dict[str, Figure]:
    """The steps of the study's ladder: validation Dice, by which they are kept, would flatter; so the test part's."""
    steps = [
        LadderStep(row["label"], row["dice_mean"], row["dice_deviation"], bool(row["kept"]))
        for row in results.tables.get(LADDER, ())
        if row["runs"]
    ]
    return {LADDER: ladder_figure(steps, _OF_RUNS)} if steps else {}


def step_plot(
    results: Results, panels: Mapping[str, Mapping[str, Sequence[str]]], marks: Mapping[str, tuple[int, str]]
) -> dict[str, Figure]:
    """Dice over the number of blocks that are tuned.

    Args:
        results: of the study.
        panels: by title and series, the names of the arms that tune 1, 2, … blocks.
        marks: by series, the number of blocks and what is written there.
    """
    drawn: dict[str, dict[str, StepSeries]] = {}
    for title, series in panels.items():
        if not any(arm in results.scores for arms in series.values() for arm in arms):
            continue
        drawn[title] = {}
        for label, arms in series.items():
            pairs = [_spread(results.scores.get(arm), "dice") for arm in arms]
            number, text = marks.get(label, (0, ""))
            written = tuple(text if place == number else "" for place in range(1, len(arms) + 1))
            drawn[title][label] = StepSeries([mean for mean, _ in pairs], [spread for _, spread in pairs], written)
    return {"blocks": step_figure(drawn, "blocks that are tuned", _OF_RUNS)} if drawn else {}


def _spread(found: ArmScores | None, metric: str) -> tuple[float, float]:
    values = found.run_means[metric] if found else np.array([])
    values = values[~np.isnan(values)]
    deviation = float(values.std(ddof=1)) if values.size > 1 else math.nan
    return (float(values.mean()) if values.size else math.nan), deviation


def _histories(results: Results, arm: str) -> list[list[dict[str, float]]]:
    """One a finished run of an arm that has one."""
    return [rows for run in results.finished_runs([arm]) if (rows := Run(run.folder).read_history())]


def _over_epochs(histories: Sequence[Sequence[Mapping[str, float]]], column: str) -> np.ndarray:
    """Float (runs, epochs), NaN after the end of a run."""
    values = np.full((len(histories), max(len(rows) for rows in histories)), np.nan)
    for number, rows in enumerate(histories):
        values[number, : len(rows)] = [row[column] for row in rows]
    return values
