"""Figures of layers: counted by hand on small networks, and within their bounds on real ones."""

import math

import numpy as np
import pytest
import tf_keras as keras

from tests.models.networks import images_of, randomized, small
from ustoolkit.errors import RunError, ShapeError
from ustoolkit.explain import statistics
from ustoolkit.explain.network import kernel_layers
from ustoolkit.explain.statistics import layer_statistics
from ustoolkit.models import build_model

layers = keras.layers


def network(*parts: layers.Layer, shape: tuple[int, ...] = (8, 6, 1)) -> keras.Model:
    inputs = current = layers.Input(shape)
    for part in parts:
        current = part(current)
    return keras.Model(inputs, current)


def copying(weights: list[float], bias: list[float], **settings) -> keras.Model:
    """A 1 × 1 convolution named 'conv' that multiplies the one channel, then adds, and what follows it."""
    model = network(layers.Conv2D(len(weights), 1, name="conv"), *settings.get("behind", ()))
    model.get_layer("conv").set_weights([np.reshape(weights, (1, 1, 1, -1)), np.array(bias)])
    return model


def test_dead_filters_and_zeros_behind_a_relu():
    # Of pixels -1, 1 and 3 the first filter passes on 0, 1 and 3, the second nothing, the third the same everywhere.
    model = copying([1, 1, 0], [0, -9, 2], behind=(layers.BatchNormalization(epsilon=0.0), layers.ReLU()))
    images = np.full((2, 8, 6, 1), 3, np.float32)
    images[0, :4], images[1, :4] = -1, 1
    (found,) = layer_statistics(model, ["conv"], images)
    assert (found.layer, found.filters, found.weights) == ("conv", 3, 6)
    assert found.dead == (1, 2)
    assert found.sparsity == pytest.approx((1 / 4 + 1 + 0) / 3)
    first = np.array([-1, 1, 3, 3])
    own = np.concatenate([first, first - 9, np.full(4, 2)])
    assert found.mean == pytest.approx(own.mean()) and found.deviation == pytest.approx(own.std())


def test_without_an_activation_nothing_is_silenced():
    images = images_of(2, 8, 6, 1)
    (found,) = layer_statistics(copying([-1, 0], [0, 0]), ["conv"], images)
    assert math.isnan(found.sparsity) and found.dead == (1,)
    (found,) = layer_statistics(copying([0, 0], [0, 0]), ["conv"], images)
    assert found.sparsity == 1 and found.dead == (0, 1)


def test_of_a_single_value_no_filter_is_called_dead():
    model = network(layers.GlobalMaxPool2D(), layers.Dense(3, name="last"))
    (found,) = layer_statistics(model, ["last"], images_of(1, 8, 6, 1))
    assert found.dead == () and math.isnan(found.effective_receptive_field)
    assert math.isinf(found.receptive_field.height)
    (found,) = layer_statistics(model, ["last"], np.repeat(images_of(1, 8, 6, 1), 2, axis=0))
    assert found.dead == (0, 1, 2)


def test_batches_make_no_difference(monkeypatch):
    model, images = randomized(build_model(small("unet"), 2)), images_of(3, 64, 64, 3)
    names = kernel_layers(model)[::5]
    whole = layer_statistics(model, names, images)
    monkeypatch.setattr(statistics, "_BATCH_BYTES", 1)
    for one, other in zip(layer_statistics(model, names, images), whole, strict=True):
        assert one.dead == other.dead and one.receptive_field == other.receptive_field
        assert one.sparsity == pytest.approx(other.sparsity, abs=1e-4, nan_ok=True)
        assert one.mean == pytest.approx(other.mean, rel=1e-3, abs=1e-4)
        assert one.deviation == pytest.approx(other.deviation, rel=1e-3)
        assert one.effective_receptive_field == pytest.approx(other.effective_receptive_field, rel=0.02)


def equal(side: int, padding: str = "same", **settings) -> layers.Layer:
    return layers.Conv2D(1, side, padding=padding, kernel_initializer="ones", **settings)


def test_the_effective_field_of_equal_weights():
    images = images_of(1, 41, 41, 1)
    model = network(equal(3, name="first"), equal(3, name="second"), shape=(41, 41, 1))
    first, second = layer_statistics(model, ["first", "second"], images)
    assert first.effective_receptive_field == 3
    # 1 2 3 2 1 down and across: the corners, 1 of 9, are above 4.55 %.
    assert second.effective_receptive_field == 5
    assert (first.receptive_field.height, second.receptive_field.height) == (3, 5)


def test_the_effective_field_grows_as_the_root_of_the_depth():
    """Luo et al., 2016: the theoretical field of n layers grows with n, the effective one with its root."""
    depths = (4, 16)
    model = network(*(equal(3, name=f"conv{n}") for n in range(1, 17)), shape=(65, 65, 1))
    shallow, deep = layer_statistics(model, [f"conv{depth}" for depth in depths], images_of(1, 65, 65, 1))
    assert deep.receptive_field.height == 33 and shallow.receptive_field.height == 9
    assert deep.effective_receptive_field / shallow.effective_receptive_field == pytest.approx(2, rel=0.15)


def test_where_no_gradient_reaches_the_image_there_is_no_effective_field():
    model = network(layers.Conv2D(2, 3, activation="relu", bias_initializer="ones", name="conv"))
    model.get_layer("conv").set_weights([np.zeros((3, 3, 1, 2)), np.ones(2)])
    (found,) = layer_statistics(model, ["conv"], images_of(2, 8, 6, 1))
    assert math.isnan(found.effective_receptive_field) and found.dead == (0, 1)


@pytest.mark.parametrize(
    "name",
    [
        "unet",
        "lighter_unet",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("backbone_fcn", "fcn_8s_fc", "deeplab_v3_plus", "vgg16", "resnet50_v2", "efficientnet_b0")
        ),
    ],
)
def test_the_effective_field_is_never_larger_than_the_theoretical(name):
    model = randomized(build_model(small(name), 2))
    names = kernel_layers(model)
    names = names[:: max(1, len(names) // 6)]
    found = layer_statistics(model, names, images_of(2, 64, 64, 3))
    assert [each.layer for each in found] == names
    for each in found:
        field = each.receptive_field
        assert not each.effective_receptive_field > math.sqrt(field.height * field.width) + 1e-9
        assert math.isnan(each.sparsity) or 0 <= each.sparsity <= 1
        assert all(0 <= number < each.filters for number in each.dead)
        assert math.isfinite(each.mean) and each.deviation >= 0 and each.weights > 0
    assert any(each.effective_receptive_field > 1 for each in found)


def test_the_weights_of_a_model_are_left_as_they_were():
    model = randomized(build_model(small("unet"), 2))
    before = [weight.numpy() for weight in model.weights]
    layer_statistics(model, ["encoder0_conv1"], images_of(1, 64, 64, 3))
    assert all(np.array_equal(weight, old) for weight, old in zip(model.weights, before, strict=True))


def test_inputs_and_names_that_do_not_fit_are_refused():
    model = build_model(small("unet"), 2)
    for wrong in (images_of(1, 32, 64, 3), images_of(1, 64, 64, 1), images_of(64, 64, 3), images_of(0, 64, 64, 3)):
        with pytest.raises(ShapeError, match="64 × 64 × 3"):
            layer_statistics(model, ["encoder0_conv1"], wrong)
    with pytest.raises(RunError, match="encoder0_conv1"):
        layer_statistics(model, ["encoder0_conv"], images_of(1, 64, 64, 3))
    assert layer_statistics(model, [], images_of(1, 64, 64, 3)) == []
