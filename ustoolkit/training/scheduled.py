"""Steps that workers of parameter servers take each on their own, as the chief sends them batches."""

from collections import deque
from typing import Any

import tensorflow as tf

from ustoolkit.training.step import Step

_AHEAD = 2  # batches that wait at each worker


class ScheduledStep:
    """A step with the face of `Step`, taken by whichever worker is free.

    The gradients of a batch are those of the weights when a worker began it, and are added to the weights when it is
    done; so the result depends on the workers' speed. The step of a worker that dies is given to another.

    Args:
        step: made under the strategy.
        strategy: of parameter servers.
    """

    def __init__(self, step: Step, strategy: tf.distribute.ParameterServerStrategy) -> None:
        self._step = step
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        workers = [device for device in tf.config.list_logical_devices("CPU") if "/job:worker/" in device.name]
        self._most = _AHEAD * max(1, len(workers))
        self._under_way: deque[Any] = deque()
        self._validating: deque[Any] = deque()

    @property
    def accumulation(self) -> int:
        """Parts one after the other, as of `Step`."""
        return self._step.accumulation

    def train(self, batch: tuple[tf.Tensor, tf.Tensor]) -> float:
        """Sends a batch; the sum of the losses of steps that ended meanwhile."""
        self._under_way.append(self._coordinator.schedule(self._step.train, args=(batch,)))
        return self._ended(self._most)

    def finish(self) -> float:
        """Waits for all steps; the sum of the losses of those that ended meanwhile."""
        return self._ended(0)

    def validate(self, batch: tuple[tf.Tensor, tf.Tensor]) -> Any:
        """Sends a batch to validate; what is kept of each image, to `fetch` when it is asked for."""
        if len(self._validating) >= self._most:  # so that no more batches wait in memory than workers need
            self._validating.popleft().fetch()
        self._validating.append(self._coordinator.schedule(self._step.validate_whole, args=(batch,)))
        return self._validating[-1]

    def _ended(self, left: int) -> float:
        total = 0.0
        while len(self._under_way) > left:
            total += float(self._under_way.popleft().fetch())
        return total
