"""The table of a ladder: what each step changed, whether it was kept, and what it scored."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ustoolkit.evaluation.statistics import PairedDifference, paired_difference
from ustoolkit.studies.asked import StudyOptions
from ustoolkit.studies.comparison import Arm, Ladder, Table
from ustoolkit.studies.ladder import Climb, own_changes
from ustoolkit.studies.plan import PlannedRun
from ustoolkit.studies.scores import ArmScores, ScoredImages
from ustoolkit.studies.table_files import Row, format_interval, format_number, format_spread
from ustoolkit.studies.tables import spread_of

LADDER = "ladder"
_ABOUT = (
    "Each step changes one thing in what was kept before it, and is kept itself where the mean over its runs of the "
    "best validation Dice is higher; the test part has no say. Change in Dice: on the test part, against the last step "
    "that was kept, image by image and averaged over seeds, with a 95 % interval that draws patients and, where there "
    "are several, seeds (bootstrap; not corrected for the number of comparisons)."
)


def ladder_table(
    ladder: Ladder,
    options: StudyOptions,
    runs: Sequence[PlannedRun],
    scores: Mapping[str, ArmScores],
    images: ScoredImages,
    about: str,
) -> Table:
    """The steps in order.

    Args:
        ladder: which.
        options: of the study.
        runs: the ladder's, as planned now.
        scores: by step; one without finished runs is missing.
        images: that they were scored on.
        about: what else a reader must know.
    Returns:
        rows of label, arm, change, kept (True, False; None where it is not decided), runs, validation_dice (mean),
        dice_mean and dice_deviation over runs on the test part, and the paired difference from what was kept before.
    """
    climb, rows, kept = Climb(ladder, options), list[Row](), ""
    for label, step in zip(ladder.labels, ladder.steps, strict=True):
        climb.next_step()
        climb.take([run for run in runs if run.arm.name == step.name])
        found, before = scores.get(step.name), scores.get(kept)
        row: Row = {"label": label, "arm": step.name, "change": " ".join(_change(step, options))}
        row |= {"kept": climb.kept[-1], "runs": len(found.run_means["dice"]) if found else 0}
        row["validation_dice"] = climb.validated[-1]
        row |= spread_of("dice", found.run_means["dice"] if found else np.array([]))
        change = PairedDifference(math.nan, math.nan, math.nan, 0, 0)
        if found and before:
            change = paired_difference(found.metrics["dice"], before.metrics["dice"], groups=images.patient_ids)
        row |= {"difference": change.mean, "interval_low": change.interval_low, "interval_high": change.interval_high}
        rows.append(row)
        kept = step.name if climb.kept[-1] else kept
    header = ["Step", "Settings", "Runs", "Validation Dice", "Kept", "Dice", "Change in Dice"]
    lines = [
        [
            row["label"],
            row["change"],
            str(row["runs"]) if row["runs"] else "missing",
            format_number(row["validation_dice"], 3),
            {True: "yes", False: "no", None: "–"}[row["kept"]],
            format_spread(row, "dice", 3),
            format_interval(row),
        ]
        for row in rows
    ]
    return Table(LADDER, "Tuning ladder", rows, header, lines, f"{_ABOUT}\n\n{about}")


def _change(step: Arm, options: StudyOptions) -> tuple[str, ...]:
    """Its settings; those of previews win over the published ones."""
    settings = dict(change.partition("=")[::2] for change in own_changes(step, options))
    return tuple(f"{key}={value}" for key, value in settings.items())
