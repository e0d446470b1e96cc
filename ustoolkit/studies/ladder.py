"""Settings changed one after the other: what each step is depends on which of those before it helped."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ustoolkit.errors import UstoolkitError
from ustoolkit.run import Run
from ustoolkit.studies.comparison import Arm, Ladder

if TYPE_CHECKING:
    from ustoolkit.studies.plan import PlannedRun


class Climb:
    """The steps of a ladder in order, each with the changes that were kept before it.

    A step is kept where the mean over its runs of the best validation Dice is higher than that of what was kept last;
    the test part has no say. All this is read from the run folders, so that it is the same after an interruption.
    """

    def __init__(self, ladder: Ladder, preview: bool) -> None:
        """Stands before the first step.

        Args:
            ladder: which.
            preview: whether steps take what they change in previews, too.
        """
        self.ladder, self.preview = ladder, preview
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
        own = (*step.overrides, *(step.preview_overrides if self.preview else ()))
        self._tried = (*self._overrides, *own)
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


def validation_dice(runs: "Sequence[PlannedRun]") -> float:
    """Mean over runs of the best validation Dice; NaN unless each is trained to its end as it is planned."""
    scores = [_best_dice(run) for run in runs]
    return sum(scores) / len(scores)


def _best_dice(planned: "PlannedRun") -> float:
    if not (planned.folder / "run.json").is_file():
        return math.nan
    try:
        run = Run(planned.folder)
        same = run.recipe == planned.recipe
    except UstoolkitError:
        return math.nan
    finished = same and run.state.get("status") == "finished"
    return float(run.state.get("best_validation_dice", math.nan)) if finished else math.nan
