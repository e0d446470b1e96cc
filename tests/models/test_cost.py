"""What a network costs: counted by hand for single layers, and the same however layers are nested."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.grouped import GroupedConvolution
from ustoolkit.models import build_model
from ustoolkit.models.cost import activation_bytes, measure, multiply_adds
from ustoolkit.models.heads import supervised
from ustoolkit.recipe import load_recipe
from ustoolkit.recipe.networks import UnetSettings

layers = keras.layers


def network(*parts: layers.Layer, shape: tuple[int, ...] = (8, 6, 4)) -> keras.Model:
    """Layers in a row on an input of 8 × 6 pixels and 4 channels."""
    inputs = current = layers.Input(shape)
    for part in parts:
        current = part(current)
    return keras.Model(inputs, current)


class Twice(layers.Layer):
    """Runs its inner layer two times; it holds the layer in a list, as networks of others do."""

    def __init__(self, inner: layers.Layer):
        super().__init__()
        self.parts = [inner]

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.parts[0](self.parts[0](inputs))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.Conv2D(5, 3, padding="same"), 8 * 6 * 3 * 3 * 4 * 5),
        (layers.Conv2D(5, 3, padding="valid"), 6 * 4 * 3 * 3 * 4 * 5),
        (layers.Conv2D(5, (1, 3), strides=2, padding="same", use_bias=False), 4 * 3 * 1 * 3 * 4 * 5),
        (layers.Conv2D(6, 3, groups=2, padding="same"), 8 * 6 * 3 * 3 * 2 * 6),
        (layers.Conv2D(5, 3, dilation_rate=2, padding="same"), 8 * 6 * 3 * 3 * 4 * 5),
        (layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), 8 * 6 * 3 * 3 * 4 * 2),
        (layers.Conv2DTranspose(5, 2, strides=2), 8 * 6 * 2 * 2 * 4 * 5),
        (layers.Dense(7), 8 * 6 * 4 * 7),
        (GroupedConvolution(0, 2), 8 * 6 * 3 * 3 * 2 * 4),
        (GroupedConvolution(0, 1), 8 * 6 * 3 * 3 * 1 * 4),
        (GroupedConvolution(7, 2), 8 * 6 * (3 * 3 * 2 * 4 + 4 * 7)),
        (GroupedConvolution(7, 4, lowering="merged"), 8 * 6 * (3 * 3 * 4 * 4 + 4 * 7)),
        (layers.BatchNormalization(), 0),
        (layers.UpSampling2D(interpolation="bilinear"), 0),
    ],
)
def test_a_layer_counts_as_by_hand(layer, expected):
    assert multiply_adds(network(layer)) == expected


def test_a_matrix_product_of_a_vector():
    assert multiply_adds(network(layers.Flatten(), layers.Dense(10), layers.Dense(3))) == 8 * 6 * 4 * 10 + 10 * 3


def test_layers_in_a_row_add_up():
    row = (layers.Conv2D(8, 3, padding="same"), layers.MaxPool2D(), layers.ReLU(), layers.Conv2D(2, 1))
    assert multiply_adds(network(*row)) == 8 * 6 * 9 * 4 * 8 + 4 * 3 * 8 * 2


def test_a_shared_layer_counts_each_time():
    shared = layers.Conv2D(4, 3, padding="same")
    assert multiply_adds(network(shared, layers.MaxPool2D(), shared)) == (8 * 6 + 4 * 3) * 9 * 4 * 4


def test_layers_within_layers_count_as_they_do_alone():
    once = multiply_adds(network(layers.Conv2D(4, 3, padding="same")))
    nested = Twice(keras.Sequential([Twice(layers.Conv2D(4, 3, padding="same")), layers.ReLU()]))
    assert multiply_adds(network(nested)) == 4 * once


def test_a_model_within_a_model_counts_at_the_size_it_is_used_at():
    inner = network(layers.Conv2D(4, 3, padding="same"), shape=(None, None, 4))
    assert multiply_adds(network(layers.MaxPool2D(), inner)) == 4 * 3 * 9 * 4 * 4


def test_several_inputs():
    first, second = layers.Input((8, 6, 1)), layers.Input((8, 6, 2))
    joined = layers.Concatenate()([layers.Conv2D(2, 1)(first), layers.Conv2D(3, 1)(second)])
    assert multiply_adds(keras.Model([first, second], joined)) == 8 * 6 * (1 * 2 + 2 * 3)


def test_a_kernel_that_cannot_be_counted_is_refused():
    with pytest.raises(TypeError, match=r"kernel.*models/cost\.py"):
        multiply_adds(network(layers.Reshape((48, 4)), layers.LSTM(3)))


def test_multiply_adds_grow_with_the_area_and_weights_do_not_matter():
    small, large = (
        multiply_adds(build_model(load_recipe("demo", [f"data.image_size=[{side},{side}]"]), 2)) for side in (32, 64)
    )
    assert large == 4 * small


def test_counting_leaves_the_model_as_it_was():
    model = build_model(load_recipe("demo", ["data.image_size=[32,32]"]), 2)
    images = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 1)).astype(np.float32)
    before = model(images)
    weights = [weight.numpy().copy() for weight in model.weights]
    assert multiply_adds(model) == multiply_adds(model) and activation_bytes(model) == activation_bytes(model)
    np.testing.assert_array_equal(model(images), before)
    for weight, old in zip(model.weights, weights, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert not any("call" in vars(layer) for layer in model.layers)


def test_bare_operations_between_layers_put_out_too_and_still_work_afterwards():
    inputs = layers.Input((8, 6, 4))
    model = keras.Model(inputs, tf.nn.relu(layers.Conv2D(2, 1)(inputs)) * 2.0)
    assert multiply_adds(model) == 8 * 6 * 4 * 2
    assert activation_bytes(model) == 3 * 4 * 8 * 6 * 2
    assert model(np.ones((1, 8, 6, 4), np.float32)).shape == (1, 8, 6, 2)


def test_activations_are_the_outputs_of_all_layers():
    row = (layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization(), layers.MaxPool2D(), layers.Dropout(0.5))
    assert activation_bytes(network(*row)) == 4 * (8 * 6 * 8 + 8 * 6 * 8 + 4 * 3 * 8 + 4 * 3 * 8)


@pytest.mark.parametrize(("lowering", "channels"), [("native", 4 + 7), ("merged", 7)])
def test_activations_between_grouped_and_pointwise_count_unless_they_are_merged(lowering, channels):
    assert activation_bytes(network(GroupedConvolution(7, 2, lowering=lowering))) == 4 * 8 * 6 * channels


def test_activations_are_counted_in_their_type():
    row = (layers.Conv2D(8, 1, dtype="mixed_bfloat16"), layers.Activation("linear", dtype="float32"))
    assert activation_bytes(network(*row)) == 2 * 8 * 6 * 8 + 4 * 8 * 6 * 8


def test_activations_of_inner_layers_count_and_the_outer_does_not_again():
    assert activation_bytes(network(Twice(layers.ReLU()))) == 2 * 4 * 8 * 6 * 4


def test_measuring_gives_times_and_memory_of_one_image():
    recipe = load_recipe("demo", ["data.image_size=[64,64]", "model.widths=[8,8]"])
    measured = measure(recipe)
    # A step goes forward and backward, so it takes longer; shared cores make times unsteady, hence no factor.
    assert measured.training_milliseconds > 0 and measured.inference_milliseconds > 0
    assert measured.activation_mebibytes == pytest.approx(activation_bytes(build_model(recipe, 2)) / 2**20, abs=0.01)


def test_measuring_takes_a_network_of_two_heads():
    recipe = load_recipe("demo", ["data.image_size=[32,32]"])
    two = recipe.model_copy(update={"model": UnetSettings(widths=(4, 4), scales=2)})
    assert len(supervised(build_model(two, 2)).outputs) == 2
    assert measure(two).training_milliseconds > 0
