"""What a network costs: multiply-adds, memory while training, and time on this machine."""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.grouped import GroupedConvolution
from ustoolkit.models.heads import supervised
from ustoolkit.models.network_builders import build_model
from ustoolkit.processes import available_cores
from ustoolkit.recipe import Recipe

# Every number of these layers' kernels is used once for each output position (a transposed one's: input position).
_TRANSPOSED = (keras.layers.Conv2DTranspose,)
_COUNTED = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dense,
    GroupedConvolution,
    *_TRANSPOSED,
)
_WARM_UP, _FEWEST, _MOST = 2, 3, 9  # runs
_PATIENCE_SECONDS = 6.0
_MOST_PATIENCE_SECONDS = 30.0  # for the first run, which also compiles


@dataclass(frozen=True)
class Measured:
    """What one network took on this machine.

    Attributes:
        training_milliseconds: of one training step, per image: forward, loss, backward and Adam, on a batch of 2.
        inference_milliseconds: of one image, from raw pixel values to logits.
        activation_mebibytes: see `activation_bytes`.
    """

    training_milliseconds: float
    inference_milliseconds: float
    activation_mebibytes: float


def multiply_adds(model: keras.Model) -> int:
    """Multiplications, each with its addition, of one image on its way through a model.

    Convolutions (plain, grouped, depthwise, transposed) and matrix products are counted: output positions × kernel ×
    input channels a group × filters, for a transposed convolution input positions. Zeros that pad a border count as
    pixels do. Left out are biases, normalisation, activations, pooling, resizing, and dropout. A layer that is used
    twice counts twice, and layers within layers count as they do alone. `GroupedConvolution` counts as it is defined,
    within groups and then 1 × 1, also where it computes the same with more or fewer multiply-adds.

    Args:
        model: with one or several inputs of a fixed size.
    Returns:
        int, at least 0.
    Raises:
        TypeError: a matrix of weights belongs to no layer that can be counted, or to one that the model does not call.
    """
    total = 0
    counted: set[Any] = set()
    for call in _calls(model):
        if isinstance(call.layer, _COUNTED):
            kernels = [weight for weight in call.layer.weights if len(weight.shape) > 1]
            side = call.inputs if isinstance(call.layer, _TRANSPOSED) else call.outputs
            positions = int(np.prod(side[0].shape[:-1]))
            total += positions * sum(int(np.prod(kernel.shape)) for kernel in kernels)
            counted.update(kernel.ref() for kernel in kernels)
    left = [weight.name for weight in model.weights if len(weight.shape) > 1 and weight.ref() not in counted]
    if left:
        raise TypeError(
            f"{model.name}: multiply-adds of {', '.join(left)} cannot be counted. Add the layer's class in "
            "models/cost.py, or take the layer out if the model does not call it."
        )
    return total


def activation_bytes(model: keras.Model) -> int:
    """Size of what the layers put out for one image while training, an estimate of what the backward pass needs.

    Counted are the outputs of every call of every layer, in bytes of their type, normalisation, activations, dropout,
    joins and resizing included; of a layer that holds layers, those of the inner ones; of `GroupedConvolution` also
    what lies between its two convolutions, where it does not merge them. Left out are the input image, other
    intermediate results within a layer, weights, gradients, and the optimiser's state. A runtime that drops or
    recomputes some of the outputs needs less.

    Args:
        model: with one or several inputs of a fixed size.
    Returns:
        int, at least 0; double it for a batch of two.
    """
    kept = [tensor for call in _calls(model) for tensor in (*call.outputs, *_between(call))]
    return sum(int(np.prod(tensor.shape)) * tensor.dtype.size for tensor in kept)


def measure(recipe: Recipe) -> Measured:
    """Builds a recipe's network for two classes and times it, in float32, on random pixels of the recipe's size.

    The loss is cross-entropy at each head. Times are medians of 3 to 9 runs after 2 to warm up, of compiled graphs, on
    the device that TensorFlow chooses: to compare networks on one machine, with nothing else running there. Of a
    network whose runs take many seconds there are fewer, at least one of each. What
    Keras keeps globally of earlier models is dropped before and afterwards.

    Args:
        recipe: its `model` and `data` tables are used, not its loss, optimiser or batch size.
    Returns:
        times of one image, rounded to 0.01 ms and MiB.
    """
    keras.backend.clear_session()
    model = build_model(recipe, num_classes=2)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *recipe.data.image_size, model.input_shape[-1]))
    images = tf.constant(pixels, tf.float32)
    mebibytes = activation_bytes(model) / 2**20
    inference = _median_milliseconds(_inference(model), images[:1])
    training = _median_milliseconds(_training_step(model), images) / len(images)
    del model
    keras.backend.clear_session()
    return Measured(round(training, 2), round(inference, 2), round(mebibytes, 2))


def machine() -> str:
    """The cores that this process may use, and the GPUs that TensorFlow sees, in words."""
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "a GPU") for gpu in gpus]
    return ", ".join([f"{available_cores()} cores", *(names or ["no GPU"])])


def _inference(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.function
    def infer(images: tf.Tensor) -> tf.Tensor:
        return model(images, training=False)

    return infer


def _training_step(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    heads = supervised(model)
    optimizer = keras.optimizers.Adam()
    optimizer.build(heads.trainable_variables)

    @tf.function
    def step(images: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = tf.nest.flatten(heads(images, training=True))
            terms = [tf.nn.sigmoid_cross_entropy_with_logits(tf.zeros_like(head), head) for head in logits]
            loss = tf.add_n([tf.reduce_mean(term) for term in terms])
        gradients = tape.gradient(loss, heads.trainable_variables)
        optimizer.apply_gradients(zip(gradients, heads.trainable_variables, strict=True))
        return loss

    return step


def _median_milliseconds(run: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor) -> float:
    warm_up = _seconds(run, images)
    taken: list[float] = []
    fewest = 1 if warm_up > _MOST_PATIENCE_SECONDS else _FEWEST
    for _ in range(_WARM_UP - 1 if fewest > 1 else 0):
        _seconds(run, images)
    while len(taken) < fewest or (len(taken) < _MOST and sum(taken) < _PATIENCE_SECONDS):
        taken.append(_seconds(run, images))
    return 1000 * statistics.median(taken)


def _seconds(run: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor) -> float:
    started = time.perf_counter()
    run(images).numpy()  # a GPU's result is waited for
    return time.perf_counter() - started


def _between(call: "_Call") -> list[tf.TensorSpec]:
    """What lies between the two convolutions of a grouped one, which has the shape of its input."""
    layer = call.layer
    pair = isinstance(layer, GroupedConvolution) and layer.filters and layer.chosen != "merged"
    return call.inputs[:1] if pair else []


@dataclass(frozen=True)
class _Call:
    """One use of a layer that holds no others, with what went in and came out, for a batch of one image."""

    layer: keras.layers.Layer
    inputs: list[tf.TensorSpec]
    outputs: list[tf.TensorSpec]


def _calls(model: keras.Model) -> list[_Call]:
    """The uses of a model's innermost layers in one training step, in order.

    The model is traced, not computed. Shapes that layers keep of their own would not do: layers within layers have
    none.
    """
    calls: list[_Call] = []
    innermost = [layer for layer in _layers_in(model) if not _layers_in(layer)]

    @tf.function
    def trace(*images: tf.Tensor) -> Any:
        calls.clear()  # a function is traced again where its first trace made variables
        return model(images[0] if len(images) == 1 else list(images), training=True)

    with ExitStack() as stack:
        for layer in innermost:
            stack.callback(_record(layer, calls))
        trace.get_concrete_function(*[tf.TensorSpec((1, *image.shape[1:]), image.dtype) for image in model.inputs])
    return calls


def _layers_in(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    return [part for part in layer.submodules if isinstance(part, keras.layers.Layer)]


def _record(layer: keras.layers.Layer, calls: list[_Call]) -> Callable[[], None]:
    """Has a layer note its calls; returns what ends that."""
    original, own = layer.call, "call" in vars(layer)  # Keras's layers of bare operations have a call of their own

    def noting(*arguments: Any, **named: Any) -> Any:
        results = original(*arguments, **named)
        calls.append(_Call(layer, _specs((arguments, named)), _specs(results)))
        return results

    layer.call = noting
    return lambda: setattr(layer, "call", original) if own else delattr(layer, "call")


def _specs(values: Any) -> list[tf.TensorSpec]:
    return [tf.TensorSpec(value.shape, value.dtype) for value in tf.nest.flatten(values) if tf.is_tensor(value)]
