"""How many images a step has on each device and in all, and what that does to the learning rate. Plain Python."""

import math
from dataclasses import dataclass

from ustoolkit.errors import RecipeError
from ustoolkit.recipe.training import TrainingSettings


@dataclass(frozen=True)
class BatchSizes:
    """Images a step.

    Attributes:
        images: over all devices together.
        devices: that share a step.
        learning_rate: the highest of the schedule.
        lines: that say so to a person; none where nothing is shared or scaled.
    """

    images: int
    devices: int
    learning_rate: float
    lines: tuple[str, ...] = ()


def batch_sizes(settings: TrainingSettings, devices: int, images: int, workers: int = 1) -> BatchSizes:
    """Works out the images a step and the learning rate that goes with them.

    With `rate_scaling` the rate grows with the images a step beyond `batch_size`: linearly (Goyal et al., Accurate,
    Large Minibatch SGD, 2017) or as the square root (Krizhevsky, One weird trick, 2014).

    Args:
        settings: of a recipe.
        devices: that share a step, those of all processes.
        images: in the training part.
        workers: processes that share a step.
    Raises:
        RecipeError: a device would have no image in each of its parts, or processes would have unequal shares.
    """
    each = settings.replica_batch_size
    wanted = each * devices if each else settings.batch_size
    total = min(wanted, images) if workers == 1 else wanted
    _refuse_unequal_shares(settings, total, devices, images, workers)
    factor = 1.0 if settings.rate_scaling == "off" else max(1.0, total / settings.batch_size)
    factor = math.sqrt(factor) if settings.rate_scaling == "root" else factor
    rate = settings.learning_rate * factor
    return BatchSizes(total, devices, rate, tuple(_lines(settings, total, devices, workers, factor, rate)))


def _refuse_unequal_shares(settings: TrainingSettings, total: int, devices: int, images: int, workers: int) -> None:
    remedy = (
        "Raise training.batch_size or training.replica_batch_size, add images, lower training.branches or "
        "training.accumulation, or train with --strategy one."
    )
    if total > images:
        raise RecipeError(
            f"training.batch_size: a batch of {total} images is more than the {images} images to train on. Lower "
            "training.batch_size or training.replica_batch_size, or train on fewer devices."
        )
    parts = settings.accumulation * settings.branches
    if total < devices * parts:
        shared = f"{devices} devices" if parts == 1 else f"{devices} × {parts} parts"
        raise RecipeError(f"training.batch_size: a batch of {total} images cannot be shared by {shared}. {remedy}")
    if workers > 1 and total % devices:
        raise RecipeError(
            f"training.batch_size: expected a multiple of the {devices} devices of {workers} workers, found {total}. "
            f"Set it to {-(-total // devices) * devices}, or set training.replica_batch_size."
        )


def _lines(settings: TrainingSettings, total: int, devices: int, workers: int, factor: float, rate: float) -> list[str]:
    lines = []
    if devices > 1:
        each = f"{total // devices}" if total % devices == 0 else f"{total // devices} or {total // devices + 1}"
        on = f" on {workers} workers" if workers > 1 else ""
        lines.append(f"{total} images a step: {devices} devices{on} × {each}")
    if not math.isclose(factor, 1.0):
        beyond = f"{total / settings.batch_size:g}"
        why = f"{total} images a step are {beyond} × training.batch_size"
        shown = f"√{beyond}" if settings.rate_scaling == "root" else beyond
        lines.append(f"learning rate {settings.learning_rate:g} × {shown} = {rate:g}, since {why}")
    return lines
