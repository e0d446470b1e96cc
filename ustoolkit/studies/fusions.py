"""Fusions of a study's runs: how far one is, and the commands that finish it."""

from pathlib import Path
from typing import Literal

from ustoolkit.errors import RunError, UstoolkitError
from ustoolkit.files import read_json
from ustoolkit.studies.plan import PlannedFusion

_FUSION_FILE = "fusion.json"


def fusion_progress(planned: PlannedFusion, part: str) -> Literal["absent", "trained", "finished"]:
    """How far a fusion of runs that are all trained is; one that is not as asked counts as absent, being made quickly.

    Args:
        planned: the fusion.
        part: that it is to be scored on.
    """
    made = planned.folder / _FUSION_FILE
    if not made.is_file():
        return "absent"
    try:
        content = read_json(made, RunError, "Run the study again.")
        runs, how = [Path(path) for path in content["runs"]], content["fusion"]["how"]
    except (UstoolkitError, KeyError, TypeError):
        return "absent"
    if how != planned.arm.how or [_within(run) for run in runs] != [_within(run) for run in planned.members]:
        return "absent"
    decisions = [member / "decision.json" for member in planned.members]
    if any(path.is_file() and path.stat().st_mtime > made.stat().st_mtime for path in decisions):
        return "absent"  # a run was trained anew since
    scored = planned.folder / "evaluation" / part / "metrics.json"
    return "finished" if scored.is_file() else "trained"


def fusion_commands(planned: PlannedFusion, made: bool, part: str) -> tuple[tuple[str, ...], ...]:
    """The commands, as after `ustoolkit`, that make a fusion and score it.

    Args:
        planned: the fusion.
        made: whether it is there, and only to be scored.
        part: that it is to be scored on.
    """
    folder, records = str(planned.folder), ("--records", str(planned.records))
    members = [str(member) for member in planned.members]
    fuse = ("fuse", *members, "--out", folder, "--how", planned.arm.how, *records, "--overwrite")
    evaluate = ("evaluate", folder, *records, "--split", part)
    return (evaluate,) if made else (fuse, evaluate)


def _within(run: Path) -> tuple[str, ...]:
    """A run as named within its study, which may have been moved since."""
    return run.parts[-2:]
