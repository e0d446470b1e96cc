"""How a time is shared among starting, training, validating and evaluating, and what that makes of a recipe. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ustoolkit.data.profile import Profile
from ustoolkit.training import automatic_start as rules
from ustoolkit.training.automatic_start import Choice


@dataclass(frozen=True)
class Budget:
    """The time from the start of `ustoolkit train` to the scores of `ustoolkit evaluate`.

    Attributes:
        seconds: in all.
        gone: of them, before training can begin to start: what has passed, and the records' checksums.
    """

    seconds: float
    gone: float = 0.0

    def evaluation_seconds(self, counts: Mapping[str, int], image_seconds: float) -> float:
        """Kept for the evaluation of the test part, mirrored images included; at most a share of the budget.

        Args:
            counts: images by part.
            image_seconds: of an image in a training step.
        """
        each = 2 * rules.VALIDATION_SHARE * image_seconds + rules.EVALUATION_SECONDS_AN_IMAGE
        needed = rules.EVALUATION_SECONDS + counts.get("test", 0) * each
        return min(needed, rules.MOST_EVALUATION_SHARE * self.seconds)

    def training_seconds(self, counts: Mapping[str, int], image_seconds: float, start_seconds: float) -> float:
        """Left for steps and validation.

        Args:
            counts: images by part.
            image_seconds: of an image in a training step.
            start_seconds: until the first step is done.
        """
        rest = self.seconds - self.gone - start_seconds - self.evaluation_seconds(counts, image_seconds)
        return max(rest, rules.LEAST_TRAINING_SHARE * self.seconds)


@dataclass(frozen=True)
class TimePlan:
    """What a time makes of a training.

    Attributes:
        seconds: of steps and validation.
        start_seconds: of the first epoch, until the first step is done.
        images: drawn for training; 0 for all.
        passes: through them, an epoch.
        epochs: planned.
        epoch_seconds: of one of them.
        enough: whether the epochs are as many as are useful, and end before the time.
    """

    seconds: float
    start_seconds: float
    images: int
    passes: int
    epochs: int
    epoch_seconds: float
    enough: bool

    def choices(self, cost: str) -> list[Choice]:
        """The settings, with reasons.

        Args:
            cost: the time of an image, in words.
        """
        about = f"{self.epoch_seconds:.1f} s each with validation ({cost})"
        epochs = f"as many as the time is for, {about}, and a few more: the clock ends them"
        if self.enough:
            epochs = f"more are of no use; they end before the time, {about}"
        passes = "an epoch is long enough"
        if self.passes > 1:
            passes = f"so that an epoch is no less than {rules.STEPS_AN_EPOCH} steps or {rules.SECONDS_AN_EPOCH:g} s"
        drawn = "all of them"
        if self.images:
            drawn = f"drawn, so that there is time for {rules.FEWEST_EPOCHS} epochs"
        left = "what is left of the time after planning and before evaluation; the rate ends with it"
        return [
            Choice("training.images", self.images, drawn),
            Choice("training.passes", self.passes, passes),
            Choice("training.epochs", self.epochs, epochs),
            Choice("training.minutes", round((self.start_seconds + self.seconds) / 60, 3), left),
            Choice("training.stop_patience", self.epochs, "the schedule is gone through to its end"),
        ]


def plan_time(
    profile: Profile,
    budget: Budget,
    image_seconds: float,
    start_seconds: float,
    batch: int,
    own: Mapping[str, Any] | None = None,
) -> TimePlan:
    """Plans images, passes, epochs and minutes.

    Args:
        profile: of the data set.
        budget: the time there is.
        image_seconds: of an image in a training step.
        start_seconds: until the first step is done.
        batch: images a step.
        own: settings of the user, by dotted name.
    """
    own = own or {}
    seconds = budget.training_seconds(profile.counts, image_seconds, start_seconds)
    if own.get("training.minutes"):
        seconds = max(1.0, 60.0 * own["training.minutes"] - start_seconds)
    count, validated = profile.images, profile.counts.get("validation", 0)
    images = 0
    if _epoch_seconds(count, validated, image_seconds) > seconds / rules.FEWEST_EPOCHS:
        images = _drawn(count, validated, image_seconds, seconds / rules.FEWEST_EPOCHS, batch)
    images = own.get("training.images", images)
    if images:
        count, validated = min(images, count), min(validated, max(1, images // 4))
    passes = own.get("training.passes") or _passes(count, batch, image_seconds, seconds)
    epoch_seconds = _epoch_seconds(count, validated, image_seconds, passes)
    epochs = max(1, int(rules.EPOCHS_BEYOND * seconds / epoch_seconds))
    useful = max(1, math.ceil(max(rules.EPOCHS_USEFUL * count, rules.PASSES_USEFUL) / (count * passes)))
    enough = useful < seconds / epoch_seconds
    epochs = own.get("training.epochs") or min(epochs, useful)
    return TimePlan(seconds, start_seconds, images, passes, epochs, epoch_seconds, enough)


def _epoch_seconds(count: int, validated: int, image_seconds: float, passes: int = 1) -> float:
    steps = passes * (count * image_seconds + rules.SECONDS_BETWEEN_PASSES)
    return steps + rules.VALIDATION_SHARE * validated * image_seconds + rules.SECONDS_BETWEEN_EPOCHS


def _drawn(count: int, validated: int, image_seconds: float, seconds: float, batch: int) -> int:
    """How many images, with a quarter as many to validate on, take so long; 0 where that is no fewer than all."""
    most = (seconds - rules.SECONDS_BETWEEN_EPOCHS - rules.SECONDS_BETWEEN_PASSES) / image_seconds
    drawn = int(max(most - rules.VALIDATION_SHARE * validated, most / (1 + rules.VALIDATION_SHARE / 4)))
    drawn = max(drawn, 2 * batch)
    return drawn if drawn < count else 0


def _passes(count: int, batch: int, image_seconds: float, seconds: float) -> int:
    steps = max(1, count // batch)
    once = count * image_seconds + rules.SECONDS_BETWEEN_PASSES
    wanted = max(math.ceil(rules.STEPS_AN_EPOCH / steps), math.ceil(rules.SECONDS_AN_EPOCH / once))
    return max(1, min(wanted, int(seconds / rules.FEWEST_EPOCHS_OF_PASSES / once)))
