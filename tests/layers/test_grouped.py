"""Grouped convolution: one result, one layout of weights, whichever way it is computed."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.grouped import LOWERINGS, GroupedConvolution, fastest, fitting_group_size

CASES = [(1, 6), (2, 8), (3, 3), (4, 32), (8, 32), (5, 15), (32, 96), (64, 64)]


def by_hand(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Grouped convolution as its definition says, in loops and double precision."""
    rows, columns, size, channels = kernel.shape
    padded = np.pad(image, [(rows // 2,) * 2, (columns // 2,) * 2, (0, 0)])
    outputs = np.zeros((*image.shape[:2], channels))
    for y, x, channel in np.ndindex(outputs.shape):
        first = channel // size * size
        window = padded[y : y + rows, x : x + columns, first : first + size]
        outputs[y, x, channel] = np.sum(window * kernel[..., channel])
    return outputs


def drawn(shape: tuple[int, ...], seed: int, dtype: tf.DType = tf.float32) -> tf.Tensor:
    return tf.cast(tf.random.stateless_normal(shape, [seed, 7]), dtype)


def outputs_and_gradients(function, *arguments) -> list[np.ndarray]:
    """What a function gives, and the gradients of a sum of its sines."""
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        outputs = function(*arguments)
        total = tf.reduce_sum(tf.sin(tf.cast(outputs, tf.float32)))
    return [tf.cast(tensor, tf.float32).numpy() for tensor in (outputs, *tape.gradient(total, arguments))]


def lowerings_of(size: int) -> list[str]:
    return [name for name in LOWERINGS if name != "depthwise" or size == 1]


def make(filters: int, size: int, lowering: str, channels: int, seed: int = 0) -> GroupedConvolution:
    keras.utils.set_random_seed(seed)
    layer = GroupedConvolution(filters, size, lowering=lowering)
    layer.build(tf.TensorShape([None, None, None, channels]))
    for weight in layer.weights:
        weight.assign(drawn(weight.shape, seed + 11))
    return layer


@pytest.mark.parametrize("name", LOWERINGS)
def test_every_lowering_is_the_convolution_of_the_definition(name):
    size = 1 if name == "depthwise" else 3
    image, kernel = drawn((5, 4, 6), 1), drawn((3, 3, size, 6), 2)
    expected = by_hand(image.numpy(), kernel.numpy())
    np.testing.assert_allclose(LOWERINGS[name](image[tf.newaxis], kernel)[0], expected, atol=1e-5)


@pytest.mark.parametrize(("size", "channels"), CASES)
@pytest.mark.parametrize(("kernel_size", "shape"), [(3, (9, 11)), (5, (6, 6)), (1, (4, 7)), (3, (2, 1))])
def test_lowerings_agree_with_their_gradients(size, channels, kernel_size, shape):
    inputs, kernel = drawn((2, *shape, channels), 3), drawn((kernel_size, kernel_size, size, channels), 4)
    names = lowerings_of(size)
    expected = outputs_and_gradients(LOWERINGS[names[0]], inputs, kernel)
    for name in names[1:]:
        for found, wanted in zip(outputs_and_gradients(LOWERINGS[name], inputs, kernel), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max(), err_msg=name)


@pytest.mark.parametrize(("size", "channels", "filters"), [(1, 6, 4), (2, 8, 2), (4, 8, 12), (8, 8, 5), (3, 3, 7)])
def test_the_merged_pair_is_the_pair_with_its_gradients(size, channels, filters):
    inputs = drawn((2, 6, 7, channels), 5)
    found = []
    for lowering in ("native", "merged"):
        layer = make(filters, size, lowering, channels)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = tf.reduce_sum(tf.sin(layer(inputs)))
        found.append([layer(inputs), *tape.gradient(total, [inputs, *layer.trainable_weights])])
    for pair, merged in zip(*found, strict=True):
        np.testing.assert_allclose(merged, pair, atol=2e-5 * np.abs(pair).max())


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
@pytest.mark.parametrize("size", [1, 8])
def test_half_precision_stays_near_single(dtype, size):
    inputs, kernel = drawn((1, 6, 6, 16), 6), drawn((3, 3, size, 16), 7)
    name = fastest(size, 16)
    single = outputs_and_gradients(LOWERINGS[name], inputs, kernel)
    half = outputs_and_gradients(LOWERINGS[name], tf.cast(inputs, dtype), tf.cast(kernel, dtype))
    assert LOWERINGS[name](tf.cast(inputs, dtype), tf.cast(kernel, dtype)).dtype == dtype
    assert np.abs(half[0] - single[0]).max() < 0.02 * np.abs(single[0]).max()
    assert all(np.isfinite(array).all() for array in half)


@pytest.mark.parametrize("filters", [0, 4, 16])
def test_a_checkpoint_moves_between_lowerings(filters, tmp_path):
    inputs = drawn((1, 5, 5, 8), 8)
    merged = ["merged"] if filters else []
    layers = {name: make(filters, 4, name, 8, seed) for seed, name in enumerate(["native", "blocks", "split", *merged])}
    first = layers.pop("native")
    path = tf.train.Checkpoint(layer=first).save(tmp_path / "weights")
    for name, layer in layers.items():
        assert not np.allclose(layer(inputs), first(inputs), atol=1e-3)
        tf.train.Checkpoint(layer=layer).restore(path).assert_consumed()
        np.testing.assert_allclose(layer(inputs), first(inputs), atol=2e-5, err_msg=name)


def test_the_layer_adds_both_biases():
    layer = make(3, 2, "fastest", 4)
    zeros = np.zeros((1, 4, 4, 4), np.float32)
    expected = layer.bias.numpy() @ layer.pointwise_kernel.numpy()[0, 0] + layer.pointwise_bias.numpy()
    np.testing.assert_allclose(layer(zeros).numpy(), np.broadcast_to(expected, (1, 4, 4, 3)), rtol=1e-5)


@pytest.mark.parametrize(
    ("asked", "channels", "taken"),
    [(128, 64, 64), (128, 256, 128), (1, 3, 1), (2, 3, 3), (128, 3, 3), (8, 1, 1), (8, 12, 6), (5, 7, 1), (1, 64, 1)],
)
def test_a_layer_takes_the_group_size_that_fits(asked, channels, taken):
    assert fitting_group_size(asked, channels) == taken


def test_the_cpu_never_takes_the_slow_gradient():
    if tf.config.list_logical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    assert fastest(8, 256) == "blocks"
    assert fastest(1, 256) == "depthwise"
    assert fastest(64, 64) == "native"  # one group is a plain convolution
    assert fastest(64, 128, filters=64) == "merged"
    assert fastest(64, 128, filters=128) == "blocks"


def test_a_model_with_it_saves_and_reloads(tmp_path):
    inputs = keras.layers.Input((8, 8, 6))
    model = keras.Model(inputs, GroupedConvolution(4, 2, kernel_size=5)(inputs))
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(reloaded(drawn((1, 8, 8, 6), 9)), model(drawn((1, 8, 8, 6), 9)))
    assert reloaded.output_shape == (None, 8, 8, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": 4, "group_size": 0}, "group size of at least 1"),
        ({"filters": 4, "group_size": 2, "kernel_size": 4}, "odd kernel"),
        ({"filters": 4, "group_size": 2, "lowering": "quick"}, "'quick'"),
        ({"filters": 0, "group_size": 2, "lowering": "merged"}, "needs filters"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GroupedConvolution(**arguments)


def test_depthwise_of_wider_groups_is_refused():
    with pytest.raises(ValueError, match="group size of 1, found 2"):
        GroupedConvolution(4, 2, lowering="depthwise").build(tf.TensorShape([None, 4, 4, 4]))
