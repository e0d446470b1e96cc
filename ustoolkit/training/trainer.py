"""The training loop: steps under a strategy, validation, checkpoints, history; resumed where it was interrupted."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.data.lesions import LesionFinder, known_lesions
from ustoolkit.data.python_call import told_by
from ustoolkit.data.records import Records
from ustoolkit.errors import RunError, UstoolkitError
from ustoolkit.models.cost import multiply_adds
from ustoolkit.progress import progress_bar
from ustoolkit.run import Run
from ustoolkit.training.batch_sizes import batch_sizes
from ustoolkit.training.checkpoints import Checkpoints, save_weights
from ustoolkit.training.cluster import Cluster
from ustoolkit.training.head import train_head
from ustoolkit.training.learner import Learner
from ustoolkit.training.placement import GONE, Placement
from ustoolkit.training.precision import share_cores
from ustoolkit.training.start import give_first_weights
from ustoolkit.training.state import TrainingState
from ustoolkit.training.strategy import make_strategy
from ustoolkit.training.tasks import SCORES, ClassificationTask, SegmentationTask, Task
from ustoolkit.training.waiting import WaitingTime


def train(
    run: Run,
    records: Records,
    strategy: tf.distribute.Strategy | None = None,
    say: Callable[[str], None] | None = None,
    find: LesionFinder | None = None,
    cluster: Cluster | None = None,
) -> TrainingState:
    """Trains a run's recipe to its end, from its last checkpoint where there is one.

    Args:
        run: the folder with recipe and splits; weights, history and checkpoints go into it.
        records: what to train on.
        strategy: where to run; None for what the recipe asks.
        say: called with each line on the weights that a new run starts from, and on which of them learn where some do
            not; None for silence.
        find: where the lesions to classify are; None for where the data set says.
        cluster: of the processes that train together; None for this one alone.
    Returns:
        the final state.
    Raises:
        RunError: the loss is no longer a number, no checkpoint can be read, or another process of the cluster is gone.
        RecipeError: there are more devices than images in a batch, or the weights to start from do not fit.
        RecordsError: a part is empty or has images without mask.
    """
    share_cores(run.recipe.training)
    strategy = strategy or make_strategy(run.recipe.training.strategy, cluster)
    try:
        training = Training(run, records, strategy, find, say, cluster)
        for line in training.begun_with:
            training.say(line)
        with contextlib.closing(training), told_by(training.task.training, training.task.validation):
            return training.fit()
    except GONE as problem:
        if cluster is None:
            raise
        raise RunError(
            f"{run.folder}: another process of the cluster is gone ({str(problem)[:120]}). Start all of them again, "
            "with --resume."
        ) from None


class Training:
    """A run's training, from its last checkpoint where there is one.

    Arguments and errors are those of `train`.

    Attributes:
        state: how far it has come.
        step: what is done with a batch.
        task: batches and losses.
        begun_with: lines on the weights that a new run starts from, on which of them learn, and how.
    """

    def __init__(
        self,
        run: Run,
        records: Records,
        strategy: tf.distribute.Strategy,
        find: LesionFinder | None = None,
        say: Callable[[str], None] | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self.run, self.strategy, self.recipe = run, strategy, run.recipe
        self.place = place = Placement(strategy, cluster)
        self.say = say if say and place.writes else (lambda line: None)
        find = find or known_lesions(self.recipe.classification.region)
        settings = self.recipe.training
        keras.utils.set_random_seed(settings.seed)
        if settings.deterministic:
            tf.config.experimental.enable_op_determinism()
        try:
            self.batches = batch_sizes(settings, place.replicas, len(run.splits["train"]), place.workers)
            sized = self.recipe.model_copy(
                update={"training": settings.model_copy(update={"batch_size": self.batches.images})}
            )
            if sized.classifies:
                self.task: Task = ClassificationTask(run, records, find, sized)
            else:
                self.task = SegmentationTask(run, records, sized, place.readers(sized.data))
            self.learner = Learner(self.recipe, self.task, self.strategy, run.state.get("precision", ""))
        except UstoolkitError:
            if run.state["status"] == "started":
                run.discard()
            raise
        self.checkpoints = Checkpoints(run, self.learner.checkpointed)
        restored = self.checkpoints.restore()
        self.state = restored or TrainingState()
        if self.state.epoch_steps != self._steps:
            self.state.begin_epoch()
        self.begun_with = [*([] if restored else self._begin()), *self.learner.said(), *self.batches.lines]
        self.step = self.learner.make_step(min(self.state.accumulation, self._most_parts))

    def fit(self) -> TrainingState:
        """Trains to the end, and returns the final state."""
        settings = self.recipe.training
        writer = tf.summary.create_file_writer(str(self.run.folder / "tensorboard"))
        self.run.update(
            status="training",
            replicas=self.place.replicas,
            precision=self.learner.precision,
            trainable_weights=self.learner.weights,
            multiply_adds=multiply_adds(self.learner.model),
            **self.learner.opened,
        )
        with progress_bar(settings.epochs * self._steps, "training", "step") as bar:
            bar.update(self._taken)
            while not (reason := self.state.stop_reason(settings)):
                try:
                    row = self._epoch(bar)
                except tf.errors.ResourceExhaustedError as problem:
                    self._make_room(problem)
                    bar.update(self._taken - bar.n)
                    continue
                self._finish_epoch(row)
                with writer.as_default():
                    for name, value in row.items():
                        tf.summary.scalar(name, value, step=self.state.epoch)
                writer.flush()
                # Where the clock ends training, fewer steps than those of all epochs are to come.
                bar.total = round(self._taken / self.state.fraction_done(settings, 0.0, self.state.seconds))
                bar.set_postfix_str(f"epoch {self.state.epoch}, {SCORES[self.task.score]} {row[self.score]:.3f}")
        with self.learner.averaged():
            save_weights(self.learner.model, self.run.last_weights)
        self.run.update(
            status="finished",
            stopped_because=reason,
            epochs=self.state.epoch,
            best_epoch=self.state.best_epoch,
            **{f"best_{self.score}": round(self.state.best_score, 6)},
            training_seconds=round(self.state.seconds, 1),
            waited_share=round(self.state.waited_share, 4),
        )
        return self.state

    def close(self) -> None:
        """Lets go of the processes that augment and of the files that cache; there is no training afterwards."""
        self.task.training.close()
        self.task.validation.close()

    def _epoch(self, bar: Any) -> dict[str, float]:
        """Takes the steps of an epoch that are left of it; returns its row of the history."""
        settings, state = self.recipe.training, self.state
        before, started = state.epoch_seconds, time.perf_counter()
        kept = before
        total, state.epoch_steps = tf.constant(state.loss_sum), self._steps
        batches = WaitingTime(self._batches(state.step))
        for batch in batches:
            if state.step % self.place.steps_between_clocks == 0:
                state.epoch_seconds = self.place.agreed(before + time.perf_counter() - started)
            fraction = state.fraction_done(settings, state.step / self._steps, state.seconds + state.epoch_seconds)
            state.rate = state.learning_rate(settings, fraction, self.batches.learning_rate)
            self.learner.optimizer.learning_rate = state.rate
            total += self.step.train(batch)
            state.step += 1
            bar.update()
            if settings.checkpoint_minutes and state.epoch_seconds - kept > 60.0 * settings.checkpoint_minutes:
                total += self.step.finish()
                state.loss_sum, kept = float(total), state.epoch_seconds
                self.checkpoints.save(state)
        total += self.step.finish()
        loss = float(total) / self._steps
        if not np.isfinite(loss):
            raise self._diverged("loss", loss)
        if self.learner.average is not None:
            self.learner.average.after_epoch(state.fraction_done(settings, 1.0, state.seconds + state.epoch_seconds))
        with self.learner.averaged():
            validation_loss, score = self._validate()
        if np.isnan(score):
            raise self._diverged("validation loss", validation_loss)
        seconds = self.place.agreed(before + time.perf_counter() - started)
        return {
            "epoch": state.epoch + 1,
            "loss": round(loss, 6),
            "validation_loss": round(validation_loss, 6),
            self.score: round(score, 6),
            "learning_rate": state.rate,
            "seconds": round(seconds, 3),
            "waited_seconds": round(batches.seconds, 3),
        }

    def _finish_epoch(self, row: dict[str, float]) -> None:
        """Keeps what an epoch brought."""
        if self.state.finish_epoch(self.recipe.training, row, row["seconds"], row[self.score]):
            self.run.forget_tuned()
            with self.learner.averaged():
                save_weights(self.learner.model, self.run.best_weights)
        self.checkpoints.save(self.state)
        self.run.write_history(self.state.history)

    def _batches(self, skipped: int) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """The batches of the running epoch, all its passes, without the first ones."""
        settings = self.recipe.training
        first = self.state.epoch * settings.passes
        for number in range(skipped // self.task.training.steps, settings.passes):
            batches = self.task.training.epoch(first + number).skip(skipped % self.task.training.steps)
            skipped = 0
            yield from self.place.distribute(batches, self.task.training.batch_size)

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
    def _most_parts(self) -> int:
        """In which the branches of a device can take a batch in turn, an image each."""
        return self.task.training.batch_size // (self.place.replicas * self.recipe.training.branches)

    @property
    def _taken(self) -> int:
        """Steps since training began."""
        return self.state.epoch * self._steps + self.state.step

    @property
    def score(self) -> str:
        """The column of the history that picks the best epoch."""
        return f"validation_{self.task.score}"

    def _validate(self) -> tuple[float, float]:
        batches = self.place.distribute(self.task.validation.epoch(0), self.task.validation.batch_size)
        outputs = self.place.rows([self.step.validate(batch) for batch in batches])
        return self.task.validation_scores(outputs)

    def _make_room(self, problem: Exception) -> None:
        """Goes back to the last checkpoint, to take batches in more parts, one after the other."""
        tried = self.step.accumulation
        if self.place.cluster is not None:
            raise RunError(
                f"{self.run.folder}: the memory of a worker does not suffice ({str(problem)[:120]}). "
                f"Go on with --resume and training.accumulation={2 * tried} in the run's recipe.toml."
            ) from None
        if tried >= self._most_parts:
            raise RunError(
                f"{self.run.folder}: the memory does not suffice for one image at a time. Lower data.image_size, "
                "model.widths or training.branches."
            ) from problem
        self.state = self.checkpoints.restore() or TrainingState()
        self.state.accumulation = min(2 * tried, self._most_parts)
        self.step = self.learner.make_step(self.state.accumulation)
        self.run.update(accumulation=self.state.accumulation)
        self.say(
            f"out of memory: batches go through the network in {self.state.accumulation} parts from now on, with the "
            "same gradients but for batch normalization"
        )

    def _begin(self) -> list[str]:
        """Gives a new run its first weights, and keeps them, so that resuming does not need where they came from.

        Where there are none to be had the run is no more, so that the same command can be given better ones.
        """
        try:
            lines = give_first_weights(self.learner.model, self.run)
            if isinstance(self.task, ClassificationTask) and self.recipe.classification.transfer.head_epochs:
                lines.append(train_head(self.learner.model, self.task, self.run, self.strategy))
        except UstoolkitError:
            self.run.discard()
            raise
        if self.learner.average is not None:
            self.learner.average.begin()
        self.checkpoints.save(self.state)
        return lines
