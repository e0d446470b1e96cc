"""A network and all that it learns with: optimiser, average of its weights, the step."""

import contextlib
from typing import Any

import tensorflow as tf

from ustoolkit.errors import RecipeError
from ustoolkit.models import build_model, count_trainable
from ustoolkit.recipe import Recipe
from ustoolkit.training.averaging import WeightAverage
from ustoolkit.training.freezing import open_layers, open_segmenter, opened_blocks
from ustoolkit.training.normalization import synchronize
from ustoolkit.training.optimizers import make_optimizer
from ustoolkit.training.precision import chosen_precision
from ustoolkit.training.scheduled import ScheduledStep
from ustoolkit.training.step import Step
from ustoolkit.training.tasks import Task


class Learner:
    """A recipe's network under a strategy, with what is not to learn closed.

    Args:
        recipe: network, optimiser, precision.
        task: what it learns.
        strategy: where.
        precision: of the arithmetic, found when training began; '' for what the recipe asks.
    Attributes:
        model: to be trained.
        heads: the same with all outputs that are supervised.
        optimizer: built for the weights that learn.
        average: of the weights; None where the recipe has none.
        weights: how many (int) trainable ones the whole network has.
        opened: what `run.json` says of those that learn.
        precision: of the arithmetic.
    Raises:
        RecipeError: the network cannot be built, or has no such layers to open.
    """

    def __init__(self, recipe: Recipe, task: Task, strategy: tf.distribute.Strategy, precision: str = "") -> None:
        self._recipe, self._task, self._strategy = recipe, task, strategy
        settings = recipe.training
        asynchronous = isinstance(strategy, tf.distribute.ParameterServerStrategy)
        self.precision = precision or chosen_precision(settings.precision, scaled=not asynchronous)
        self._refuse_unfit(asynchronous)
        with strategy.scope():
            self.model = build_model(recipe, task.num_classes, self.precision)
            if settings.synchronized_normalization and strategy.num_replicas_in_sync > 1:
                synchronize(self.model)
            self.heads = task.heads(self.model)
            self.weights = count_trainable(self.model)  # of the whole network, so before layers close
            self.opened = self._open_layers()
            self.optimizer = make_optimizer(settings, settings.learning_rate, self.precision)
            self.optimizer.build(self.model.trainable_variables)
            self.average = WeightAverage(self.model, settings) if settings.averaging != "off" else None

    def _refuse_unfit(self, asynchronous: bool) -> None:
        settings = self._recipe.training
        for setting, value, there in (
            ("precision", "float16", self.precision),
            ("averaging", "ema", settings.averaging),
        ):
            if asynchronous and there == value:
                raise RecipeError(
                    f"training.{setting}={value}: expected devices that step together, found parameter servers. Choose "
                    "another one, or train with --strategy multi-worker."
                )
        if settings.xla and settings.synchronized_normalization and self._strategy.num_replicas_in_sync > 1:
            raise RecipeError(
                "training.xla: what XLA compiles cannot normalize over several devices. Set training.xla or "
                "training.synchronized_normalization to false."
            )

    @property
    def checkpointed(self) -> dict[str, Any]:
        """What has variables to be kept, by name."""
        kept = {"model": self.model, "optimizer": self.optimizer}
        return kept if self.average is None else {**kept, "average": self.average}

    def make_step(self, accumulation: int) -> Step | ScheduledStep:
        """The compiled step; batches in `accumulation` parts one after the other, or more if the recipe says so."""
        settings = self._recipe.training
        parts = max(accumulation, settings.accumulation)
        step = Step(self.model, self.heads, self._task, settings, self.optimizer, self.average, self._strategy, parts)
        if isinstance(self._strategy, tf.distribute.ParameterServerStrategy):
            return ScheduledStep(step, self._strategy)
        return step

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """A block in which the model has the average for weights, if there is one."""
        return contextlib.nullcontext() if self.average is None else self.average.in_place()

    def said(self) -> list[str]:
        """Lines on which weights learn, where not all of a network that segments do, and on a precision found."""
        lines, blocks = [], self.opened.get("open_layers", "all")
        if blocks != "all":
            lines.append(
                f"{self.opened['open_weights']:,} of {self.weights:,} weights learn: blocks {', '.join(blocks)}"
            )
        if self.precision != self._recipe.training.precision:
            lines.append(f"training.precision=auto: {self.precision} on this machine")
        return lines

    def _open_layers(self) -> dict[str, Any]:
        """Closes what is not to learn; returns what `run.json` says of the rest."""
        if self._recipe.classifies:
            open_layers(self.model, self._recipe.classification.transfer.open_layers)
            return {"open_weights": count_trainable(self.model)}
        which = self._recipe.training.open_layers
        opened = open_segmenter(self.model, which)
        blocks = which if which == "all" else opened_blocks(self.model, opened)
        return {"open_layers": blocks, "open_weights": count_trainable(self.model)}
