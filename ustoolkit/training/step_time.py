"""How long a step of a network takes on this machine: a few real ones, or an estimate by those of another network."""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence

import tf_keras as keras

from ustoolkit.data.image_cache import cache_kind
from ustoolkit.data.reading import Readers
from ustoolkit.data.records import Records
from ustoolkit.models.cost import activation_bytes
from ustoolkit.recipe import Recipe
from ustoolkit.training.learner import Learner
from ustoolkit.training.machine import Machine
from ustoolkit.training.network_choice import Cost
from ustoolkit.training.network_size import NetworkSize
from ustoolkit.training.precision import share_cores
from ustoolkit.training.strategy import make_strategy
from ustoolkit.training.tasks import SegmentationTask, Trial

_BATCHES = 4  # of images, that are gone through again and again
_UNTIMED, _FEWEST_STEPS, _MOST_STEPS = 2, 5, 40
_PATIENCE_SECONDS = 8.0
_START_SECONDS = 12.0  # to build and compile a U-net, where none was measured
_PASSES = 20_000  # of a training, where it matters that there are many

# Where none was measured: seconds of a multiply-add in a training step, of the usual U-net on one core of 2023 in
# float32; in bfloat16 or float16 half as many; on a GPU far fewer, but not fewer than a step needs to be given out.
_CORE_SECONDS, _GPU_SECONDS = 7.5e-11, 5e-13
_IMAGE_SECONDS = 2e-3  # on one core, to read and augment an image
_LAYERS = 28  # whose outputs are kept, in sizes of the first level's


def measure_steps(recipe: Recipe, records: Records, source_ids: Sequence[str], patience: float) -> Cost:
    """Builds a recipe's network and trains it for some steps, as training does, on images of the data set.

    Threads are shared among branches as training does, so that the first recipe of a process says how. Nothing is kept.

    Args:
        recipe: of a network that segments.
        records: where the images are.
        source_ids: of the training part.
        patience: seconds after which no further step is timed, compilation left out.
    Returns:
        the median time of an image, over some tens of steps at most.
    """
    share_cores(recipe.training)
    keras.backend.clear_session()
    started = time.perf_counter()
    batch = min(recipe.training.batch_size, len(source_ids))
    few = list(source_ids[: _BATCHES * batch])
    trained = _as_trained(recipe, len(source_ids), len(few))
    task = SegmentationTask(Trial(trained, {"train": few, "validation": few}), records, trained, Readers())
    strategy = make_strategy(recipe.training.strategy)
    learner = Learner(recipe, task, strategy)
    step = learner.make_step(0)
    epochs = (strategy.experimental_distribute_dataset(task.training.epoch(number)) for number in itertools.count())
    batches = itertools.chain.from_iterable(epochs)
    float(step.train(next(batches)))
    start_seconds = time.perf_counter() - started
    taken: list[float] = []
    while len(taken) < _FEWEST_STEPS or (len(taken) < _MOST_STEPS and sum(taken) < patience):
        began = time.perf_counter()
        float(step.train(next(batches)))  # its result is waited for
        taken.append(time.perf_counter() - began)
    kept = activation_bytes(learner.model)
    task.training.close()
    task.validation.close()
    keras.backend.clear_session()
    # The first find batches that are ready; and what else a machine does now and then is not to count for all.
    return Cost(statistics.median(taken[_UNTIMED:]) / task.training.batch_size, kept, start_seconds)


class Costs:
    """What networks cost: measured where there is time for that, else estimated by the nearest that was measured.

    Args:
        recipe_of: the recipe that a network would be trained by.
        records: where the images are.
        source_ids: of the training part.
        machine: for what cannot be measured.
        seconds: that measuring may take in all; what has begun is brought to its end.
    """

    def __init__(
        self,
        recipe_of: Callable[[NetworkSize], Recipe],
        records: Records,
        source_ids: Sequence[str],
        machine: Machine,
        seconds: float,
    ) -> None:
        self._recipe_of, self._records, self._source_ids = recipe_of, records, source_ids
        self._machine, self._left, self._last = machine, seconds, _START_SECONDS
        self._known: dict[NetworkSize, Cost] = {}

    def __call__(self, network: NetworkSize) -> Cost:
        """The cost of a network; the same whenever it is asked for."""
        if network not in self._known:
            self._known[network] = self._measured(network) if self._left >= self._last else self._estimated(network)
        return self._known[network]

    def _measured(self, network: NetworkSize) -> Cost:
        began = time.perf_counter()
        cost = measure_steps(
            self._recipe_of(network), self._records, self._source_ids, min(_PATIENCE_SECONDS, self._left / 2)
        )
        self._last = time.perf_counter() - began
        self._left -= self._last
        return cost

    def _estimated(self, network: NetworkSize) -> Cost:
        measured = {size: cost for size, cost in self._known.items() if cost.measured}
        if not measured:
            return assumed_cost(network, self._machine)
        nearest = min(measured, key=lambda size: abs(size.multiply_adds - network.multiply_adds))
        known = measured[nearest]
        assumed = [assumed_cost(size, self._machine).seconds for size in (network, nearest)]
        return Cost(
            known.seconds * assumed[0] / assumed[1],
            known.activation_bytes * network.activations / nearest.activations,
            known.start_seconds,
            measured=False,
        )


def assumed_cost(network: NetworkSize, machine: Machine) -> Cost:
    """What a network costs where nothing was measured, by its multiply-adds and typical speeds.

    Args:
        network: its size.
        machine: cores or GPUs, and the arithmetic that they are good at.
    """
    halved = 1 if machine.precision == "float32" else 2
    if machine.gpu_bytes:
        seconds = network.multiply_adds * _GPU_SECONDS * (2 / halved) / len(machine.gpu_bytes)
    else:
        seconds = network.multiply_adds * _CORE_SECONDS / halved / machine.cores
    kept = _LAYERS * network.activations * 4 / halved
    return Cost(seconds + _IMAGE_SECONDS / machine.cores, kept, _START_SECONDS, measured=False)


def _as_trained(recipe: Recipe, count: int, few: int) -> Recipe:
    """The recipe with few images read and augmented as all of them would be."""
    data = recipe.data.model_copy(update={"cache": cache_kind(recipe.data, count)})
    training = recipe.training.model_copy(update={"passes": 1, "epochs": max(1, _PASSES // few), "images": 0})
    return recipe.model_copy(update={"data": data, "training": training})
