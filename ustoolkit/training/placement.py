"""What the training loop needs to know of where it runs: who writes, who reads what, what all agree on."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from ustoolkit.data.reading import Readers
from ustoolkit.errors import RunError
from ustoolkit.recipe.settings import DataSettings
from ustoolkit.training.cluster import Cluster
from ustoolkit.training.strategy import make_strategy

# What TensorFlow says where a process is gone, has come back as another one, or closed its connection.
GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.FailedPreconditionError,
    tf.errors.CancelledError,
    tf.errors.InternalError,
)
_STEPS_BETWEEN_CLOCKS = 10


@dataclass(frozen=True)
class Placement:
    """A strategy, and the place of this process in it.

    Attributes:
        strategy: that the model is made and stepped under.
        cluster: the processes that train together; None where it is this one alone.
    """

    strategy: tf.distribute.Strategy
    cluster: Cluster | None = None

    @classmethod
    def of(cls, name: str, cluster: Cluster | None = None) -> "Placement":
        """The placement that `training.strategy` asks for, in the cluster that `wanted_cluster` found."""
        return cls(make_strategy(name, cluster), cluster)

    @property
    def asynchronous(self) -> bool:
        """Whether workers step on their own and weights are on parameter servers."""
        return self.cluster is not None and self.cluster.has_parameter_servers

    @property
    def workers(self) -> int:
        """Processes that step together; 1 where a chief sends batches to others."""
        return 1 if self.cluster is None or self.asynchronous else self.cluster.workers

    @property
    def worker(self) -> int:
        """The number of this process among them, from 0."""
        return 0 if self.cluster is None or self.asynchronous else self.cluster.worker

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes the run folder."""
        return self.worker == 0

    @property
    def replicas(self) -> int:
        """Devices that share a step, those of all workers."""
        return self.strategy.num_replicas_in_sync

    @property
    def steps_between_clocks(self) -> int:
        """How often the workers ask for the first one's clock, which has them wait for each other."""
        return _STEPS_BETWEEN_CLOCKS if self.workers > 1 else 1

    def readers(self, settings: DataSettings) -> Readers:
        """The readers of this process."""
        return Readers.of(settings, self.workers, self.worker)

    def distribute(self, batches: tf.data.Dataset, images: int) -> Iterator[Any]:
        """Iterates over batches of this process as batches of all processes.

        Args:
            batches: (image, target), this worker's part of each; workers may have fewer of them at the end.
            images: of a full one of all workers.
        """
        if self.asynchronous or (self.replicas == 1 and not tf.config.list_logical_devices("GPU")):
            yield from batches
            return
        if self.workers == 1:
            distributed = self.strategy.experimental_distribute_dataset(batches)
        else:
            each = -(-images // self.replicas)
            distributed = self.strategy.distribute_datasets_from_function(lambda context: batches.rebatch(each))
        held = [iter(distributed)]
        try:
            yield from held[0]
        finally:
            # It ends when a thread of tf.data wakes up, within a minute, and training goes on meanwhile.
            threading.Thread(target=held.clear).start()

    def rows(self, outputs: Sequence[Any]) -> np.ndarray:
        """Rows that steps gave for each device, of all processes, in the order of the images.

        Args:
            outputs: of each step, float32 (images, k) a device, or what a scheduled step is to give.
        """
        if self.asynchronous:
            return np.concatenate([output.fetch() for output in outputs])
        local = [each.numpy() for output in outputs for each in self.strategy.experimental_local_results(output)]
        return self.gather(np.concatenate(local))

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Rows of all processes, exactly, those of the first worker first.

        Args:
            values: float32 (rows, columns), as many rows as this process has, also none.
        Returns:
            the rows of all workers; the same in each of them.
        """
        if self.workers == 1:
            return values
        # A first row with the number of the others, since TensorFlow cannot gather where no process has any.
        header = np.full((1, values.shape[1]), len(values), np.float32)
        gathered = self._gathered(tf.constant(np.concatenate([header, values]))).numpy()
        found, place = [], 0
        for _ in range(self.workers):
            count = int(gathered[place, 0])
            found.append(gathered[place + 1 : place + 1 + count])
            place += 1 + count
        return np.concatenate(found)

    def wait(self) -> None:
        """Waits until all processes are here."""
        self.gather(np.zeros((0, 1), np.float32))

    def agreed(self, seconds: float) -> float:
        """What the first worker measured, so that all decide alike.

        Args:
            seconds: that this process measured.
        """
        if self.workers == 1:
            return seconds
        # As two halves, since float32 holds a day to 8 ms only.
        high = np.float32(seconds)
        halves = self._of_first(tf.constant([high, np.float32(seconds - float(high))])).numpy()
        return float(halves[0]) + float(halves[1])

    def first_alone(self, act: Callable[[], Any]) -> Any:
        """Does in the first worker what the others wait for, such as making a run folder.

        Args:
            act: what is done there.
        Returns:
            what `act` returns; None in the other workers.
        Raises:
            RunError: in the others, that it could not be done.
        """
        if self.workers == 1:
            return act()
        result, problem = None, None
        if self.writes:
            try:
                result = act()
            except BaseException as raised:  # the others are told of an interruption too
                problem = raised
        done = self.gather(np.array([[float(problem is None)]], np.float32))
        if problem is not None:
            raise problem
        if not done[0, 0]:
            raise RunError(f"worker {self.worker}: the first worker could not begin; its message says why.")
        return result

    @cached_property
    def _gathered(self) -> Callable[[tf.Tensor], tf.Tensor]:
        devices = self.replicas // self.workers  # of this process; the first of them speaks for all

        def replica(values: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            speaks = tf.equal(context.replica_id_in_sync_group % devices, 0)
            return context.all_gather(values[: tf.where(speaks, tf.shape(values)[0], 0)], axis=0)

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32)])
        def gathered(values: tf.Tensor) -> tf.Tensor:
            return self.strategy.experimental_local_results(self.strategy.run(replica, (values,)))[0]

        return gathered

    @cached_property
    def _of_first(self) -> Callable[[tf.Tensor], tf.Tensor]:
        def replica(values: tf.Tensor) -> tf.Tensor:
            speaks = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
            return tf.where(speaks, values, tf.zeros_like(values))

        @tf.function(input_signature=[tf.TensorSpec([2], tf.float32)])
        def of_first(values: tf.Tensor) -> tf.Tensor:
            return self.strategy.reduce("SUM", self.strategy.run(replica, (values,)), axis=None)

        return of_first
