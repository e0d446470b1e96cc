"""Two networks compared layer by layer."""

import itertools
from functools import cache

import numpy as np
import pytest
import tf_keras as keras

from tests.models.networks import images_of, randomized, small
from ustoolkit.errors import DataError, RunError, ShapeError
from ustoolkit.explain import similarity
from ustoolkit.explain.network import inner_layers, kernel_layers
from ustoolkit.explain.similarity import compare_networks, linear_cka
from ustoolkit.models import build_model

IMAGES = images_of(3, 64, 64, 3)


@cache
def _unet(seed: int | None = None):
    """A small U-net that tests leave as it is; a seed gives it weights of its own."""
    model = randomized(build_model(small("unet"), 2))
    if seed is not None:
        generator = np.random.default_rng(seed)
        for weight in model.trainable_weights:
            weight.assign(generator.normal(0, 0.3, weight.shape))
    return model


def _unet_to_change():
    return randomized(build_model(small("unet"), 2))


def _by_layer(before, after, layers=None, images=IMAGES):
    changes = compare_networks(before, after, layers or kernel_layers(before), images)
    return {change.layer: change for change in changes}


def _dense(width: int, seed: int, outputs: str = "wide"):
    inputs = keras.layers.Input((4, 4, 1), name="image")
    layer = keras.layers.Dense(width, name=outputs)
    model = keras.Model(inputs, layer(keras.layers.Flatten()(inputs)))
    layer.set_weights([np.random.default_rng(seed).normal(size=weight.shape) for weight in layer.get_weights()])
    return model


def _unbiased_by_definition(first: np.ndarray, second: np.ndarray) -> float:
    """Song et al.'s estimate as a mean over all four different examples, one of them after another."""
    total, count = 0.0, 0
    for i, j, q, r in itertools.permutations(range(len(first)), 4):
        total += first[i, j] * (second[i, j] + second[q, r] - 2 * second[i, q])
        count += 1
    return total / count


def test_alignment_is_that_of_the_definition_with_kernels():
    generator = np.random.default_rng(0)
    for filters in (2, 11):  # fewer and more than examples: both ways to sum up
        x, y = generator.normal(2, 1, (7, filters)), generator.normal(-1, 3, (7, 3))
        y[:, 0] += x[:, 0]
        kernels = x @ x.T, y @ y.T
        between, *own = (_unbiased_by_definition(*pair) for pair in (kernels, (kernels[0],) * 2, (kernels[1],) * 2))
        assert linear_cka(x, y) == pytest.approx(between / np.sqrt(own[0] * own[1]), rel=1e-9)


def test_alignment_of_many_examples_nears_that_of_kornblith():
    generator = np.random.default_rng(1)
    x = generator.normal(size=(5000, 3))
    y = x @ generator.normal(size=(3, 4)) + generator.normal(size=(5000, 4))
    x0, y0 = x - x.mean(axis=0), y - y.mean(axis=0)
    norms = [np.linalg.norm(first.T @ second) for first, second in ((x0, y0), (x0, x0), (y0, y0))]
    assert linear_cka(x, y) == pytest.approx(norms[0] ** 2 / norms[1] / norms[2], abs=2e-3)


def test_chance_gives_no_alignment_even_to_many_filters():
    generator = np.random.default_rng(2)
    values = [linear_cka(generator.normal(size=(20, 500)), generator.normal(size=(20, 500))) for _ in range(20)]
    assert abs(np.mean(values)) < 0.02  # where the plain estimate is above 0.9


def test_alignment_is_undefined_where_a_side_does_not_vary():
    varied = np.random.default_rng(3).normal(size=(8, 4))
    constant = np.full((8, 4), 0.1) * np.arange(4)
    assert np.isnan(linear_cka(varied, constant)) and np.isnan(linear_cka(constant, varied))
    assert np.isnan(linear_cka(varied[:3], varied[:3]))
    assert np.isnan(linear_cka(varied, np.where(varied > 1, np.inf, varied)))
    with pytest.raises(ShapeError, match=r"\(8, 4\) and \(7, 4\)"):
        linear_cka(varied, varied[:7])


def test_a_network_equals_itself():
    model = _unet()
    for change in compare_networks(model, _unet_to_change(), kernel_layers(model), IMAGES):
        assert change.weight_distance == 0
        assert change.cosine == pytest.approx(1) and change.cka == pytest.approx(1)


def test_one_layer_changed():
    before, after = _unet(), _unet_to_change()
    changed = inner_layers(after)["encoder1_conv2"]
    kernel = changed.kernel.numpy()
    changed.kernel.assign(np.random.default_rng(0).normal(0, kernel.std(), kernel.shape))
    changes = _by_layer(before, after)
    moved = [name for name, change in changes.items() if change.weight_distance > 0]
    assert moved == ["encoder1_conv2"]
    names = list(changes)
    below, above = names[: names.index(moved[0])], names[names.index(moved[0]) :]
    assert below and [changes[name].cka for name in below] == [pytest.approx(1)] * len(below)
    assert all(changes[name].cka < 0.99 for name in above)


def test_rotated_and_scaled_filters_stay_aligned():
    before, after = _unet(), _unet_to_change()
    layer = inner_layers(after)["encoder1_conv2"]
    filters = layer.kernel.shape[-1]
    rotation, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(filters, filters)))
    layer.kernel.assign(3 * layer.kernel.numpy() @ rotation)
    if layer.use_bias:
        layer.bias.assign(layer.bias.numpy() + 7)
    change = _by_layer(before, after, ["encoder1_conv2"])["encoder1_conv2"]
    assert change.cka == pytest.approx(1, abs=1e-5) and change.weight_distance > 1 and change.cosine < 0.9


def test_networks_of_their_own_are_less_aligned_than_one_with_itself():
    changes = _by_layer(_unet(1), _unet(2))
    assert np.mean([change.cka for change in changes.values()]) < 0.6
    assert abs(np.mean([change.cosine for change in changes.values()])) < 0.3


def test_weights_of_a_layer_count_together_by_hand():
    before, after = _dense(2, 0), _dense(2, 0)
    for model, bias in ((before, [3, 0]), (after, [0, 4])):
        model.get_layer("wide").set_weights([np.zeros((16, 2)), np.array(bias, float)])
    change = _by_layer(before, after, ["wide", "image"], images_of(5, 4, 4, 1))
    assert change["wide"].weight_distance == pytest.approx(5 / 3) and change["wide"].cosine == 0
    assert np.isnan(change["wide"].cka)  # each output is a constant
    assert np.isnan(change["image"].weight_distance) and np.isnan(change["image"].cosine)
    assert change["image"].cka == pytest.approx(1)
    after.get_layer("wide").trainable = False
    assert _by_layer(before, after, ["wide"], images_of(5, 4, 4, 1))["wide"].weight_distance == pytest.approx(5 / 3)
    zero = _by_layer(after, before, ["wide"], images_of(5, 4, 4, 1))["wide"]
    assert zero.weight_distance == pytest.approx(5 / 4)
    before.get_layer("wide").set_weights([np.zeros((16, 2)), np.zeros(2)])
    zero = _by_layer(before, after, ["wide"], images_of(5, 4, 4, 1))["wide"]
    assert np.isnan(zero.weight_distance) and np.isnan(zero.cosine)


def test_every_so_many_positions_are_the_same_however_they_are_batched(monkeypatch):
    before, after = _unet(1), _unet(2)
    names = ["encoder0_conv1", "encoder2_conv2"]
    whole = _by_layer(before, after, names)
    monkeypatch.setattr(similarity, "MOST_EXAMPLES", 500)
    some = _by_layer(before, after, names)
    monkeypatch.setattr(similarity, "_BATCH_VALUES", 1)
    monkeypatch.setattr(similarity, "_MOST_KEPT", 1)
    one_by_one = _by_layer(before, after, names)
    for name in names:
        assert one_by_one[name].cka == pytest.approx(some[name].cka, abs=1e-6)
        assert some[name].cka == pytest.approx(whole[name].cka, abs=0.1)


def test_examples_kept_are_evenly_spread_over_columns(monkeypatch):
    monkeypatch.setattr(similarity, "MOST_EXAMPLES", 300)
    inputs = keras.layers.Input((64, 64, 1), name="image")
    copy = keras.Model(inputs, keras.layers.Conv2D(1, 1, name="one")(inputs))
    columns = np.broadcast_to(np.arange(64, dtype=np.float32)[:, np.newaxis], (2, 64, 64, 1))
    sampling = similarity.sampling_of(copy, "image", 2)
    (kept,) = similarity.examples_of(copy, {"image": sampling}, columns)
    assert kept.shape == (sampling.kept, 1) and 280 <= len(kept) <= 300
    assert len(np.unique(kept)) == 64


def test_networks_that_differ_are_refused():
    before = _unet()
    wider = build_model(small("unet", widths=(4, 8, 16)), 2)
    with pytest.raises(RunError, match=r"'encoder2_conv1'.*\(16, 16, 8\).*\(16, 16, 16\)"):
        compare_networks(before, wider, ["encoder0_conv1", "encoder2_conv1"], IMAGES)
    shallow = build_model(small("unet", widths=(4, 8)), 2)
    with pytest.raises(RunError, match=r"'encoder2_conv1'.*network after has none"):
        compare_networks(before, shallow, ["encoder2_conv1"], IMAGES)
    with pytest.raises(RunError, match="encoder2_conv1"):
        compare_networks(before, _unet(), ["encoder2_conv"], IMAGES)
    with pytest.raises(ShapeError, match=r"\(3, 64, 64\)"):
        compare_networks(before, before, ["encoder2_conv1"], IMAGES[..., 0])
    with pytest.raises(ShapeError, match=r"\(3, 32, 64, 3\)"):
        compare_networks(before, before, ["encoder2_conv1"], IMAGES[:, :32])
    with pytest.raises(DataError, match="no input"):
        compare_networks(before, before, ["encoder2_conv1"], IMAGES[:0])
    assert compare_networks(before, before, [], IMAGES) == []


@pytest.mark.parametrize("name", [pytest.param("deeplab_v3_plus", marks=pytest.mark.slow), "backbone_fcn"])
def test_nested_and_normalised_networks(name):
    model = randomized(build_model(small(name), 2))
    changes = _by_layer(model, model, kernel_layers(model)[::6])
    assert all(change.weight_distance == 0 for change in changes.values())
    values = np.array([change.cka for change in changes.values()])
    assert np.all(np.isnan(values) | (np.abs(values - 1) < 1e-6)) and np.isfinite(values).mean() > 0.7
