"""How far training has come: what the schedule and early stopping remember, and the history. Plain Python."""

import json
import math
from dataclasses import asdict, dataclass, field

from ustoolkit.recipe.training import TrainingSettings


@dataclass
class TrainingState:
    """Everything besides weights and optimiser that resuming needs.

    Attributes:
        epoch: epochs finished.
        best_score: best validation score so far, -1 before the first epoch.
        best_epoch: the epoch it was reached in, from 1.
        reductions: how often the plateau schedule has lowered the rate.
        stalled: epochs since the last improvement or reduction of the rate.
        seconds: spent on training, over all sittings.
        history: one row an epoch.
        step: steps taken of the epoch that runs; 0 between epochs.
        epoch_steps: that this epoch has, as it began; on another number of devices it may have others.
        loss_sum: of the steps taken.
        rate: of the last of them.
        epoch_seconds: spent on them.
        accumulation: parts that a batch is taken in, one after the other, where memory asked for more than the recipe
            has; 0 where it did not.
    """

    epoch: int = 0
    best_score: float = -1.0
    best_epoch: int = 0
    reductions: int = 0
    stalled: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    step: int = 0
    epoch_steps: int = 0
    loss_sum: float = 0.0
    rate: float = 0.0
    epoch_seconds: float = 0.0
    accumulation: int = 0

    @property
    def waited_share(self) -> float:
        """Of the time of all epochs, 0 to 1, how much training waited for data; 0 before the first ended."""
        waited = sum(row.get("waited_seconds", 0.0) for row in self.history)
        return waited / max(self.seconds, 1e-9)

    def to_json(self) -> str:
        """The state as text, for a checkpoint."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "TrainingState":
        """The state that `to_json` wrote."""
        return cls(**json.loads(text))

    def learning_rate(self, settings: TrainingSettings, fraction: float, peak: float | None = None) -> float:
        """The rate for the next step.

        Args:
            settings: the schedule, and the share of the training in which the rate rises evenly from 0.
            fraction: in [0, 1], how much of the training is done.
            peak: the highest rate, where it is not `settings.learning_rate`.
        """
        peak = settings.learning_rate if peak is None else peak
        if fraction < settings.warmup:
            return peak * fraction / settings.warmup
        if settings.schedule == "cosine":
            since = (min(1.0, fraction) - settings.warmup) / (1.0 - settings.warmup)
            return peak * 0.5 * (1.0 + math.cos(math.pi * since))
        return peak * settings.plateau_factor**self.reductions

    def fraction_done(self, settings: TrainingSettings, part_of_epoch: float, seconds: float) -> float:
        """How much of the training is done, by epochs or by the time allowed, whichever is further.

        Args:
            settings: `epochs` and `minutes`.
            part_of_epoch: in [0, 1], of the epoch now running.
            seconds: of training so far, the running epoch included.
        """
        by_epochs = (self.epoch + part_of_epoch) / settings.epochs
        by_time = seconds / (60.0 * settings.minutes) if settings.minutes else 0.0
        return min(1.0, max(by_epochs, by_time))

    def begin_epoch(self) -> None:
        """Leaves out what was done of the running epoch."""
        self.step, self.loss_sum, self.epoch_seconds = 0, 0.0, 0.0

    def finish_epoch(self, settings: TrainingSettings, row: dict[str, float], seconds: float, score: float) -> bool:
        """Takes an epoch's result in.

        Args:
            settings: patience and factor of the plateau schedule.
            row: the history row.
            seconds: that the epoch took.
            score: on the validation part; more is better.
        Returns:
            whether this epoch is the best so far.
        """
        self.epoch += 1
        self.begin_epoch()
        self.seconds += seconds
        self.history.append(row)
        if score > self.best_score:
            self.best_score, self.best_epoch, self.stalled = score, self.epoch, 0
            return True
        self.stalled += 1
        if settings.schedule == "plateau" and self.stalled >= settings.plateau_patience:
            self.reductions += 1
            self.stalled = 0
        return False

    def stop_reason(self, settings: TrainingSettings) -> str:
        """Why training ends here; '' while it goes on."""
        if self.epoch >= settings.epochs:
            return f"all {settings.epochs} epochs done"
        if self.epoch - self.best_epoch >= settings.stop_patience:
            return f"no better validation score in {settings.stop_patience} epochs"
        longest = max((row["seconds"] for row in self.history[-3:]), default=0.0)
        if settings.minutes and self.seconds + 0.5 * longest > 60.0 * settings.minutes:
            return f"the {settings.minutes:g} minutes allowed are over"
        return ""
