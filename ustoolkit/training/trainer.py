"""The training loop: steps under a strategy, validation, checkpoints, history; resumed where it was interrupted."""

import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.data.lesions import LesionFinder, known_lesions
from ustoolkit.data.records import Records
from ustoolkit.errors import RecipeError, RunError, UstoolkitError
from ustoolkit.models import build_model, count_trainable
from ustoolkit.models.cost import multiply_adds
from ustoolkit.progress import progress_bar
from ustoolkit.recipe import Recipe
from ustoolkit.run import Run
from ustoolkit.training.freezing import open_layers, open_segmenter, opened_blocks
from ustoolkit.training.head import train_head
from ustoolkit.training.start import give_first_weights
from ustoolkit.training.state import TrainingState
from ustoolkit.training.strategy import make_strategy
from ustoolkit.training.tasks import SCORES, ClassificationTask, SegmentationTask


def train(
    run: Run,
    records: Records,
    strategy: tf.distribute.Strategy | None = None,
    say: Callable[[str], None] | None = None,
    find: LesionFinder | None = None,
) -> TrainingState:
    """Trains a run's recipe to its end, from its last checkpoint where there is one.

    Args:
        run: the folder with recipe and splits; weights, history and checkpoints go into it.
        records: what to train on.
        strategy: where to run; None for what the recipe asks.
        say: called with each line on the weights that a new run starts from, and on which of them learn where some do
            not; None for silence.
        find: where the lesions to classify are; None for where the data set says.
    Returns:
        the final state.
    Raises:
        RunError: the loss is no longer a number, or no checkpoint can be read.
        RecipeError: there are more devices than images in a batch, or the weights to start from do not fit.
        RecordsError: a part is empty or has images without mask.
    """
    strategy = strategy or make_strategy(run.recipe.training.strategy)
    training = _Training(run, records, strategy, find or known_lesions(run.recipe.classification.region))
    for line in training.begun_with:
        if say is not None:
            say(line)
    return training.fit()


class _Training:
    def __init__(self, run: Run, records: Records, strategy: tf.distribute.Strategy, find: LesionFinder) -> None:
        self.run, self.strategy, self.recipe = run, strategy, run.recipe
        replicas = strategy.num_replicas_in_sync
        fewest = min(self.recipe.training.batch_size, len(run.splits["train"]))
        if fewest < replicas:
            raise RecipeError(
                f"{run.folder}: a batch of {fewest} images cannot be shared by {replicas} devices. Raise "
                "training.batch_size, add images, or train with --strategy one."
            )
        keras.utils.set_random_seed(self.recipe.training.seed)
        classifies = self.recipe.classifies
        try:
            self.task = ClassificationTask(run, records, find) if classifies else SegmentationTask(run, records)
            with strategy.scope():
                self.model = build_model(self.recipe, self.task.num_classes, self.recipe.training.precision)
                self.heads = self.task.heads(self.model)
                self.weights = count_trainable(self.model)  # of the whole network, so before layers close
                self.opened = self._open_layers()
        except UstoolkitError:
            if run.state["status"] == "started":
                run.discard()
            raise
        with strategy.scope():
            self.optimizer = _optimizer(self.recipe)
            self.optimizer.build(self.model.trainable_variables)
        self.state = TrainingState()
        self.state_text = tf.Variable(self.state.to_json(), dtype=tf.string, trainable=False)
        checkpoint = tf.train.Checkpoint(model=self.model, optimizer=self.optimizer, state=self.state_text)
        self.checkpoints = tf.train.CheckpointManager(checkpoint, str(run.checkpoints), max_to_keep=2)
        self.begun_with = [*([] if self._restore() else self._begin()), *self._learning()]

    def fit(self) -> TrainingState:
        settings = self.recipe.training
        writer = tf.summary.create_file_writer(str(self.run.folder / "tensorboard"))
        steps = self._steps
        self.run.update(
            status="training",
            replicas=self.strategy.num_replicas_in_sync,
            trainable_weights=self.weights,
            multiply_adds=multiply_adds(self.model),
            **self.opened,
        )
        with progress_bar(settings.epochs * steps, "training", "step") as bar:
            bar.update(self.state.epoch * steps)
            while not (reason := self.state.stop_reason(settings)):
                row = self._epoch(bar)
                if self.state.finish_epoch(settings, row, row["seconds"], row[self.score]):
                    self.run.forget_tuned()
                    _save_weights(self.model, self.run.best_weights)
                self.state_text.assign(self.state.to_json())
                self.checkpoints.save(self.state.epoch)
                self.run.write_history(self.state.history)
                with writer.as_default():
                    for name, value in row.items():
                        tf.summary.scalar(name, value, step=self.state.epoch)
                writer.flush()
                # Where the clock ends training, fewer steps than those of all epochs are to come.
                bar.total = round(
                    steps * self.state.epoch / self.state.fraction_done(settings, 0.0, self.state.seconds)
                )
                bar.set_postfix_str(f"epoch {self.state.epoch}, {SCORES[self.task.score]} {row[self.score]:.3f}")
        _save_weights(self.model, self.run.last_weights)
        self.run.update(
            status="finished",
            stopped_because=reason,
            epochs=self.state.epoch,
            best_epoch=self.state.best_epoch,
            **{f"best_{self.score}": round(self.state.best_score, 6)},
            training_seconds=round(self.state.seconds, 1),
        )
        return self.state

    def _epoch(self, bar: object) -> dict[str, float]:
        settings, started = self.recipe.training, time.perf_counter()
        total, rate = tf.constant(0.0), 0.0
        first = self.state.epoch * settings.passes
        passes = (self.task.training.epoch(first + number) for number in range(settings.passes))
        batches = chain.from_iterable(map(self.strategy.experimental_distribute_dataset, passes))
        for number, batch in enumerate(batches):
            seconds = self.state.seconds + time.perf_counter() - started
            fraction = self.state.fraction_done(settings, number / self._steps, seconds)
            rate = self.state.learning_rate(settings, fraction)
            self.optimizer.learning_rate = rate
            total += self._step(batch)
            bar.update()
        loss = float(total) / self._steps
        if not np.isfinite(loss):
            raise self._diverged("loss", loss)
        validation_loss, score = self._validate()
        if np.isnan(score):
            raise self._diverged("validation loss", validation_loss)
        return {
            "epoch": self.state.epoch + 1,
            "loss": round(loss, 6),
            "validation_loss": round(validation_loss, 6),
            self.score: round(score, 6),
            "learning_rate": rate,
            "seconds": round(time.perf_counter() - started, 3),
        }

    def _diverged(self, name: str, loss: float) -> RunError:
        return RunError(
            f"{self.run.folder}: the {name} is {loss} in epoch {self.state.epoch + 1}; training cannot go on. Lower "
            f"the rate, such as --set training.learning_rate={self.recipe.training.learning_rate / 10:g}."
        )

    @property
    def _steps(self) -> int:
        """Of an epoch, all its passes through the training part."""
        return self.task.training.steps * self.recipe.training.passes

    @property
    def score(self) -> str:
        """The column of the history that picks the best epoch."""
        return f"validation_{self.task.score}"

    def _validate(self) -> tuple[float, float]:
        batches = self.strategy.experimental_distribute_dataset(self.task.validation.epoch(0))
        outputs = [
            output.numpy()
            for batch in batches
            for output in self.strategy.experimental_local_results(self._validation_step(batch))
        ]
        return self.task.validation_scores(np.concatenate(outputs))

    @tf.function
    def _step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        replicas = self.strategy.num_replicas_in_sync
        decay = self.recipe.training.weight_decay / replicas  # gradients of the replicas are added up

        def replica_step(images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                losses = self.task.training_loss(self.heads(images, training=True), targets)
                loss = tf.reduce_sum(losses) / self.task.training.batch_size
                if self.model.losses:  # penalties on weights, once over all replicas
                    loss += tf.add_n(self.model.losses) / replicas
            weights = self.model.trainable_variables
            gradients = tape.gradient(loss, weights)
            if decay:
                gradients = [gradient + decay * weight for gradient, weight in zip(gradients, weights, strict=True)]
            self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
            return loss

        return self.strategy.reduce("SUM", self.strategy.run(replica_step, batch), axis=None)

    @tf.function
    def _validation_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        def outputs(images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
            return self.task.validation_outputs(self.model(images, training=False), targets)

        def replica_step(images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
            if self.strategy.num_replicas_in_sync == 1:
                return outputs(images, targets)
            # The last batch may leave a replica without images, and convolutions on the CPU refuse to take none.
            none = tf.zeros([0, self.task.outputs], tf.float32)
            return tf.cond(tf.shape(images)[0] > 0, lambda: outputs(images, targets), lambda: none)

        return self.strategy.run(replica_step, batch)

    def _open_layers(self) -> dict[str, Any]:
        """Closes what is not to learn; returns what `run.json` says of the rest."""
        if self.recipe.classifies:
            open_layers(self.model, self.recipe.classification.transfer.open_layers)
            return {"open_weights": count_trainable(self.model)}
        which = self.recipe.training.open_layers
        opened = open_segmenter(self.model, which)
        blocks = which if which == "all" else opened_blocks(self.model, opened)
        return {"open_layers": blocks, "open_weights": count_trainable(self.model)}

    def _learning(self) -> list[str]:
        """A line on what learns; none where all does, or in a network that classifies."""
        blocks = self.opened.get("open_layers", "all")
        if blocks == "all":
            return []
        return [f"{self.opened['open_weights']:,} of {self.weights:,} weights learn: blocks {', '.join(blocks)}"]

    def _begin(self) -> list[str]:
        """Gives a new run its first weights, and keeps them, so that resuming does not need where they came from.

        Where there are none to be had the run is no more, so that the same command can be given better ones.
        """
        try:
            lines = give_first_weights(self.model, self.run)
            if self.recipe.classifies and self.recipe.classification.transfer.head_epochs:
                lines.append(train_head(self.model, self.task, self.run, self.strategy))
        except UstoolkitError:
            self.run.discard()
            raise
        if lines:
            self.checkpoints.save(0)
        return lines

    def _restore(self) -> bool:
        """Takes up the newest checkpoint that can be read; without any, training begins, unless there was a history."""
        found = self.run.checkpoints.glob("ckpt-*.index")
        newest_first = sorted((path.with_suffix("") for path in found), key=_epoch_of, reverse=True)
        problems = []
        for path in newest_first:
            try:
                self.checkpoints.checkpoint.restore(str(path)).assert_existing_objects_matched()
                self.state = TrainingState.from_json(self.state_text.numpy().decode())
            except Exception as problem:  # damage shows as OpError, IndexError, AssertionError, ValueError, …
                problems.append(f"{path.name}: {str(problem)[:120]}")
                continue
            return True
        if problems or self.run.read_history():
            reasons = "; ".join(problems) or "there are none"
            raise RunError(
                f"{self.run.checkpoints}: no checkpoint to resume from can be read ({reasons}). Its best weights are "
                "still good to evaluate; to train on, train into a new folder."
            )
        return False


def _epoch_of(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def _optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    settings = recipe.training
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(settings.learning_rate, momentum=0.9)
    return keras.optimizers.Adam(settings.learning_rate)


def _save_weights(model: keras.Model, path: Path) -> None:
    """Under a temporary name first, so that a file of the final name is whole."""
    temporary = path.with_name(f"unfinished-{path.name}")
    model.save_weights(temporary)
    temporary.replace(path)
