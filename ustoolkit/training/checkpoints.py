"""Everything that resuming needs, kept after each epoch, and within long ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

from ustoolkit.errors import OutputError, RunError
from ustoolkit.run import Run
from ustoolkit.training.state import TrainingState

_KEPT = 2


class Checkpoints:
    """Checkpoints of a run.

    Args:
        run: whose folder holds them.
        objects: what has weights or other variables, by name.
    """

    def __init__(self, run: Run, objects: Mapping[str, Any]) -> None:
        self._run = run
        self._state_text = tf.Variable(TrainingState().to_json(), dtype=tf.string, trainable=False)
        self._checkpoint = tf.train.Checkpoint(**objects, state=self._state_text)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(run.checkpoints), max_to_keep=_KEPT)
        self._number = max(map(_number, self._found()), default=-1)

    def save(self, state: TrainingState) -> None:
        """Keeps all as it is now.

        Raises:
            OutputError: there is no room for it.
        """
        self._state_text.assign(state.to_json())
        self._number += 1  # goes on from what is there, whatever that was numbered by
        try:
            self._manager.save(self._number)
        except tf.errors.ResourceExhaustedError as problem:
            raise OutputError(
                f"{self._run.checkpoints}: a checkpoint cannot be written ({str(problem)[:120]}). Make room there, and "
                "go on with --resume."
            ) from None

    def restore(self) -> TrainingState | None:
        """Takes up the newest checkpoint that can be read.

        Returns:
            the state in it; None where a run is to begin: there are no checkpoints, and no history either.
        Raises:
            RunError: there are some, or a history, and none can be read.
        """
        problems = []
        for path in sorted(self._found(), key=_number, reverse=True):
            try:
                self._checkpoint.restore(str(path)).assert_existing_objects_matched()
                return TrainingState.from_json(self._state_text.numpy().decode())
            except Exception as problem:  # damage shows as OpError, IndexError, AssertionError, ValueError, …
                problems.append(f"{path.name}: {str(problem)[:120]}")
        if problems or self._run.read_history():
            reasons = "; ".join(problems) or "there are none"
            raise RunError(
                f"{self._run.checkpoints}: no checkpoint to resume from can be read ({reasons}). Its best weights are "
                "still good to evaluate; to train on, train into a new folder."
            )
        return None

    def _found(self) -> list[Path]:
        return [path.with_suffix("") for path in self._run.checkpoints.glob("ckpt-*.index")]


def save_weights(model: keras.Model, path: Path) -> None:
    """Saves a model's weights under a temporary name first, so that a file of the final name is whole."""
    temporary = path.with_name(f"unfinished-{path.name}")
    model.save_weights(temporary)
    temporary.replace(path)


def _number(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1
