"""Settings changed one after the other: what each step is depends on which of those before it helped."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ustoolkit.errors import RunError, UstoolkitError
from ustoolkit.files import read_json
from ustoolkit.run import Run
from ustoolkit.studies.asked import StudyOptions
from ustoolkit.studies.comparison import Arm, Ladder
from ustoolkit.studies.same_recipe import comparable

if TYPE_CHECKING:
    from ustoolkit.studies.plan import PlannedRun


class Climb:
    """The steps of a ladder in order, each with the changes that were kept before it.

    A step is kept where the mean over its runs of the best validation Dice is higher than that of what was kept last;
    the test part has no say. All this is read from the run folders, so that it is the same after an interruption.
    """

    def __init__(self, ladder: Ladder, options: StudyOptions) -> None:
        """Stands before the first step.

        Args:
            ladder: which.
            options: of the study.
        """
        self.ladder, self.options = ladder, options
        self.undecided = False
        self.validated: list[float] = []
        self.kept: list[bool | None] = []
        self._overrides: tuple[str, ...] = ()
        self._tried: tuple[str, ...] = ()
        self._best = -math.inf

    def next_step(self) -> Arm | None:
        """The next step with all its overrides; None after the last. Where `undecided`, they are not final."""
        if len(self.kept) == len(self.ladder.steps):
            return None
        step = self.ladder.steps[len(self.kept)]
        self._tried = (*self._overrides, *own_changes(step, self.options))
        return replace(step, overrides=self._tried, preview_overrides=())

    def take(self, runs: "Sequence[PlannedRun]") -> None:
        """Looks at the runs of the step that `next_step` gave, and keeps it or not."""
        score = math.nan if self.undecided else validation_dice(runs)
        self.validated.append(score)
        if math.isnan(score):
            self.undecided = True
            self.kept.append(None)
            return
        better = score > self._best
        self.kept.append(better)
        if better:
            self._best, self._overrides = score, self._tried


def own_changes(step: Arm, options: StudyOptions) -> tuple[str, ...]:
    """What a step itself changes; in previews also what it changes for them, unless the user sets that."""
    asked = {_key(change) for change in options.changes}
    shorter = [change for change in step.preview_overrides if _key(change) not in asked]
    return (*step.overrides, *(shorter if options.preview else ()))


def validation_dice(runs: "Sequence[PlannedRun]") -> float:
    """Mean over runs of the best validation Dice; NaN unless each is trained to its end as it is planned."""
    scores = [_best_dice(run) for run in runs]
    return sum(scores) / len(scores)


def _key(change: str) -> str:
    return change.partition("=")[0].strip()


def _best_dice(planned: "PlannedRun") -> float:
    if not (planned.folder / "run.json").is_file():
        return math.nan
    try:
        run = Run(planned.folder)
        found, asked = (comparable(recipe, bool(planned.crf)) for recipe in (run.recipe, planned.recipe))
        finished = found == asked and _same_images(run, planned) and run.state.get("status") == "finished"
    except UstoolkitError:
        return math.nan
    score = run.state.get("best_validation_dice") if finished else None  # JSON has no NaN, but null
    return math.nan if score is None else float(score)


def _same_images(run: Run, planned: "PlannedRun") -> bool:
    """Whether a run was trained on the records that are named now, and leaves the same images to test on."""
    manifest = read_json(planned.records / "manifest.json", RunError, "")
    parts = read_json(planned.splits or planned.records / "splits.json", RunError, "").get("parts", {})
    return run.manifest["digest"] == manifest.get("digest") and set(run.splits["test"]) == set(parts.get("test", ()))
