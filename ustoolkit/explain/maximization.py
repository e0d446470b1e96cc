"""Activation maximization: the pictures that excite the filters of a layer most, all filters at once."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.errors import RecipeError, RunError, ShapeError
from ustoolkit.explain.excitation import Excitation
from ustoolkit.explain.objective import Objective, objective_losses
from ustoolkit.explain.parametrization import PARAMETRIZATIONS, Parametrization, State
from ustoolkit.processes import available_cores

# For the activations of the pictures that are worked on at a time. More is no faster: on a processor smaller batches,
# nearer to what its caches hold, are as quick as large ones.
_MEMORY_BYTES = 2e9
_READABLE_DEVIATION = 0.1  # of a picture's range, as keras-vis shows it
_EPSILON = 1e-7


@dataclass(frozen=True)
class MaximizationSettings:
    """How pictures are found.

    Args:
        steps: of gradient descent; 0 leaves the start as it is.
        parametrization: 'pixels' moves pixels as keras-vis 0.4.1 does; 'fourier' moves the spectrum, for smoother and
            larger shapes (Olah et al., Feature Visualization, Distill 2017).
        scales: sizes that are gone through, each twice as large as the one before and started from it, with the steps
            divided between them; sizes that the network does not take are left out.
        jitter: the picture is shifted before each step, by up to this share of its side, and wrapped around.
        image_size: height and width, pixels; None for the network's own.
        chunk: pictures worked on together; several chunks are, at a time, on a processor with several cores. 0 for a
            share of all for each core, as far as all chunks at a time need no more than some 2 GB.
        seed: of the start and the shifts.
        precision: of the network's arithmetic; 'bfloat16' is up to twice as fast where the processor knows it, and
            its gradients are coarser. The activations and losses given at the end are of the network's own precision.
        objective: what is minimised.
        input_range: smallest and largest value of what the network takes.
    Raises:
        RecipeError: a setting is out of its range.
    """

    steps: int = 200
    parametrization: Literal["pixels", "fourier"] = "pixels"
    scales: int = 1
    jitter: float = 0.0
    image_size: tuple[int, int] | None = None
    chunk: int = 0
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    objective: Objective = field(default_factory=Objective)
    input_range: tuple[float, float] = (0.0, 255.0)

    def __post_init__(self) -> None:
        expected = {
            "steps": ("at least 0", self.steps >= 0),
            "parametrization": ("'pixels' or 'fourier'", self.parametrization in PARAMETRIZATIONS),
            "scales": ("at least 1", self.scales >= 1),
            "jitter": ("at least 0 and below 1", 0 <= self.jitter < 1),
            "image_size": ("a height and a width above 0", self.image_size is None or min(self.image_size) > 0),
            "chunk": ("at least 0", self.chunk >= 0),
            "precision": ("'float32' or 'bfloat16'", self.precision in ("float32", "bfloat16")),
            "seed": ("0 to 2147483647", 0 <= self.seed < 2**31),
            "input_range": ("a smaller and a larger number", self.input_range[0] < self.input_range[1]),
        }
        for name, (what, valid) in expected.items():
            if not valid:
                raise RecipeError(f"maximization, {name}: expected {what}, found {getattr(self, name)!r}. Change it.")


@dataclass(frozen=True, eq=False)
class Maximization:
    """Pictures that excite filters of a layer.

    Args:
        layer: whose filters.
        filters: int64 (n,), their numbers.
        images: float32 (n, height, width, channels), as reached: those of the lowest loss on the way. Those of
            'pixels' may lie outside the range of a picture.
        activations: float32 (n,), the filter's mean output for its image.
        losses: float32 (n,); infinite where the loss never was a number.
    """

    layer: str
    filters: np.ndarray
    images: np.ndarray
    activations: np.ndarray
    losses: np.ndarray

    def pictures(self) -> np.ndarray:
        """The images made readable as by `deprocess_input` of keras-vis: uint8 (n, height, width, channels).

        Each is centred on grey, a tenth of the range its standard deviation, and cut off at black and white.
        """
        axes = (1, 2, 3)
        shown = self.images - self.images.mean(axes, keepdims=True)
        shown = shown / (shown.std(axes, keepdims=True) + _EPSILON) * _READABLE_DEVIATION + 0.5
        return (np.clip(shown, 0, 1) * 255).astype(np.uint8)


def maximize(
    model: keras.Model,
    layer: str,
    filters: Sequence[int] | np.ndarray | None = None,
    settings: MaximizationSettings | None = None,
    initial: np.ndarray | None = None,
) -> Maximization:
    """Finds for each filter of a layer a picture that excites it, after Erhan et al., 2009, and Simonyan et al., 2014.

    With the default settings the loss and the steps are those of keras-vis 0.4.1 for one filter after another, but that
    the picture kept is the one whose loss was lowest, where keras-vis keeps the one a step further. A start is noise
    that depends on the seed and the filter alone, so neither the other filters nor `chunk` change a picture.

    Args:
        model: a functional network with one input, of pixel values.
        layer: its layer, by the name of `network.inner_layers`; filters are along the last axis of its output.
        filters: their numbers; None for all.
        settings: how; None for the defaults.
        initial: float (height, width, channels) to start all from, or (n, height, width, channels), one a filter; at
            any size where `scales` is more than 1, else of the size asked for. None for noise.
    Returns:
        one picture a filter, in their order.
    Raises:
        RunError: there is no such layer or filter, or the network does not take the size.
        ShapeError: `initial` has another shape.
    """
    settings = settings or MaximizationSettings()
    stages = stages_of(model, layer, settings)
    last = stages[-1]
    chosen = _checked_filters(filters, layer, last.excitation.filters)
    starts = None if initial is None else _checked_initial(initial, len(chosen), last.excitation, settings.scales > 1)
    parts = _parts(len(chosen), settings.chunk, last.excitation.bytes_an_image)
    for stage in stages:
        stage.compile()
    images = np.empty((len(chosen), *last.excitation.image_size, last.excitation.channels), np.float32)
    means, losses = np.empty(len(chosen), np.float32), np.empty(len(chosen), np.float32)

    def climb(part: np.ndarray) -> None:
        reached = None if starts is None else starts[part]
        for number, stage in enumerate(stages):
            steps = settings.steps * (number + 1) // len(stages) - settings.steps * number // len(stages)
            reached, means[part], losses[part] = stage.run(chosen[part], reached, steps)
        images[part] = reached

    pool = ThreadPoolExecutor(_threads())
    try:
        list(pool.map(climb, parts))
    finally:
        pool.shutdown(cancel_futures=True)
    return Maximization(layer, chosen, images, means, losses)


class _Stage:
    """The descent at one size of picture, compiled once for chunks of any size."""

    def __init__(self, excitation: Excitation, settings: MaximizationSettings) -> None:
        self.excitation, self._settings = excitation, settings
        size, channels = excitation.image_size, excitation.channels
        self._way: Parametrization = PARAMETRIZATIONS[settings.parametrization](size, channels, settings.input_range)
        self._shifts = [int(settings.jitter * side) for side in size]
        self._descend: Callable[..., State] = self._descent
        self._measure: Callable[..., State] | None = None

    def run(self, filters: np.ndarray, images: np.ndarray | None, steps: int) -> tuple[np.ndarray, ...]:
        """Images, mean activations and losses of filters, from noise or from images of any size."""
        if images is None:
            state = self._way.drawn(self._settings.seed, filters)
        else:
            state = self._way.of_images(_resized(images, self.excitation.image_size))
        numbers = tf.constant(filters, tf.int32)
        weights = self.excitation.weights(numbers)
        found = self._descend(state, numbers, weights, tf.constant(steps))
        if self._measure is not None:
            found = (found[0], *self._measure(found[0], numbers, weights))
        return tuple(value.numpy() for value in found)

    def compile(self) -> None:
        """Traces the descent; to be called before the first `run`, which several threads may call at once."""
        numbers = tf.constant([0])
        state, weights = self._way.drawn(0, np.array([0])), self.excitation.weights(numbers)
        self._descend = _compiled(self._descent, state, numbers, weights, tf.constant(0))
        if self._settings.precision != "float32":
            self._measure = _compiled(self._measured, self._way.images(state[0]), numbers, weights)

    def _descent(self, state: State, filters: tf.Tensor, weights: State, steps: tf.Tensor) -> State:
        start = self._way.images(state[0])
        unknown = tf.fill(tf.shape(filters), math.nan)
        best = (start, unknown, tf.fill(tf.shape(filters), math.inf))

        def step(number: tf.Tensor, state: State, best: State) -> tuple[tf.Tensor, State, State]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(state[0])
                images = self._shifted(self._way.images(state[0]), number)
                means = self.excitation.means(images, filters, weights)
                losses = self._losses(images, means)
            gradients = tape.gradient(losses, state[0], unconnected_gradients=tf.UnconnectedGradients.ZERO)
            lower = losses < best[2]
            images = tf.where(lower[:, None, None, None], images, best[0])
            kept = (images, tf.where(lower, means, best[1]), tf.where(lower, losses, best[2]))
            return number + 1, self._way.step(state, gradients, number), kept

        # One more than the steps, to know the loss that the last one reached; what it goes on to is dropped.
        loop = (tf.constant(0), state, best)
        return tf.while_loop(lambda number, *_: number <= steps, step, loop, parallel_iterations=1)[2]

    def _measured(self, images: tf.Tensor, filters: tf.Tensor, weights: State) -> tuple[tf.Tensor, tf.Tensor]:
        means = self.excitation.means(images, filters, weights, exact=True)
        return means, self._losses(images, means)

    def _losses(self, images: tf.Tensor, means: tf.Tensor) -> tf.Tensor:
        only = means[:, None]
        return objective_losses(self._settings.objective, images, only, tf.zeros_like(means, tf.int32))

    def _shifted(self, images: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        if not any(self._shifts):
            return images
        # The same for all pictures of a step, so that chunks make no difference.
        share = tf.random.stateless_uniform((2,), tf.stack([self._settings.seed, number]))
        most = tf.constant(self._shifts, tf.float32)
        shift = tf.cast(tf.floor(share * (2 * most + 1)) - most, tf.int32)
        return tf.roll(images, shift, axis=(1, 2))


def _threads() -> int:
    """Chunks that are worked on at a time: the processor's cores are kept busier by several small ones."""
    return 1 if tf.config.list_logical_devices("GPU") else available_cores()


def _parts(count: int, chunk: int, bytes_an_image: int) -> list[np.ndarray]:
    """Places of the filters in chunks of nearly one size, as many as all threads are busy with to the end."""
    if not count:
        return []
    threads = _threads()
    most = chunk or max(1, int(_MEMORY_BYTES / threads / bytes_an_image))
    turns = math.ceil(count / (most * threads))
    return np.array_split(np.arange(count), math.ceil(count / chunk) if chunk else min(count, turns * threads))


def _compiled(function: Callable, *arguments: Any) -> Callable:
    """The function, traced once for tensors as these, however many pictures there are."""

    def specification(tensor: tf.Tensor) -> tf.TensorSpec:
        return tf.TensorSpec((None, *tensor.shape[1:]) if tensor.shape.rank else (), tensor.dtype)

    specifications = tf.nest.map_structure(specification, arguments)
    return tf.function(function, autograph=False).get_concrete_function(*specifications)


def stages_of(model: keras.Model, layer: str, settings: MaximizationSettings) -> list[_Stage]:
    """One for each size that the network takes, the smallest first."""
    full = Excitation(model, layer, settings.image_size, settings.precision)
    stages = [_Stage(full, settings)]
    strides = full.coarsest_strides()
    for halvings in range(1, settings.scales):
        size = tuple(
            round(side / 2**halvings / stride) * stride for side, stride in zip(full.image_size, strides, strict=True)
        )
        if min(size) == 0 or size == stages[0].excitation.image_size:
            break
        try:
            stages.insert(0, _Stage(Excitation(model, layer, size, settings.precision), settings))
        except RunError:
            break
    return stages


def _resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return images if images.shape[1:3] == size else tf.image.resize(images, size, "bilinear").numpy()


def _checked_filters(filters: Sequence[int] | np.ndarray | None, layer: str, count: int) -> np.ndarray:
    if filters is None:
        return np.arange(count)
    chosen = np.asarray(filters)
    if chosen.ndim != 1 or (chosen.size and not np.issubdtype(chosen.dtype, np.integer)):
        raise RunError(f"layer '{layer}', filters: expected a list of whole numbers, found {filters!r}. Give one.")
    wrong = [int(number) for number in chosen if not 0 <= number < count]
    if wrong:
        raise RunError(
            f"layer '{layer}', filters: expected numbers from 0 to {count - 1}, found {wrong[0]}. Leave it out."
        )
    return chosen.astype(np.int64)


def _checked_initial(initial: np.ndarray, count: int, excitation: Excitation, any_size: bool) -> np.ndarray:
    initial = np.asarray(initial, np.float32)
    images = np.broadcast_to(initial, (count, *initial.shape)) if initial.ndim == 3 else initial
    shape = (*excitation.image_size, excitation.channels)
    size_fits = any_size or images.shape[1:3] == shape[:2]
    if images.ndim != 4 or len(images) != count or images.shape[-1] != shape[-1] or not size_fits:
        raise ShapeError(f"initial: expected {shape} or {(count, *shape)}, found {initial.shape}. Resize it.")
    return images
