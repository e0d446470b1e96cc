"""A check of explanations: it must tell those that look at the network from those that do not."""

import numpy as np
import pytest
import tf_keras as keras
from scipy.ndimage import gaussian_filter, sobel

from tests.models.networks import randomized, small
from ustoolkit.errors import RecipeError, ShapeError
from ustoolkit.explain.attribution import grad_cam, integrated_gradients
from ustoolkit.explain.network import kernel_layers
from ustoolkit.explain.sanity import sanity_check
from ustoolkit.explain.target import LabelTarget, RegionTarget
from ustoolkit.models import build_model


def _images(count: int, side: int = 64) -> np.ndarray:
    values = gaussian_filter(np.random.default_rng(2).normal(size=(count, side, side, 3)), (0, 3, 3, 0))
    return ((values - values.min()) / np.ptp(values) * 255).astype(np.float32)


@pytest.fixture(scope="module")
def unet() -> keras.Model:
    return randomized(build_model(small("unet"), 2))


def _presented(*maps: np.ndarray):
    """An explanation that gives one map after another, whatever the network."""
    given = iter(maps)
    return lambda network: next(given)


_RAMP = np.arange(64.0).reshape(1, 8, 8) + 1


def test_an_edge_detector_does_not_pass(unet):
    images = _images(2).mean(axis=-1)
    result = sanity_check(unet, lambda network: np.hypot(sobel(images, 1), sobel(images, 2)))
    assert not result.passed and "hardly" in result.message
    assert [(row.correlation, row.constant) for row in result.rows] == [(pytest.approx(1), 0)] * len(result.rows)
    assert [row.similarity for row in result.rows] == [pytest.approx(1)] * len(result.rows)


def test_grad_cam_passes(unet):
    images = _images(4)
    result = sanity_check(unet, lambda network: grad_cam(network, images, RegionTarget(0)), fractions=(1,))
    assert result.passed and "depend on the weights" in result.message
    assert abs(result.rows[-1].correlation) < 0.4


@pytest.mark.slow
def test_methods_pass_on_a_classifier():
    images = _images(4)
    model = randomized(build_model(small("densenet161"), 2))
    for explain in (
        lambda network: grad_cam(network, images, LabelTarget()),
        lambda network: integrated_gradients(network, images, LabelTarget(), 16).attributions,
    ):
        result = sanity_check(model, explain, draws=6, fractions=(0.5,))
        assert result.passed, result.message


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_b0", "deeplab_v3_plus", "resnet50"])
def test_deep_networks_stay_in_range_when_random(name):
    images, outputs = _images(1), []

    def explain(network):
        outputs.append(network(images, training=False).numpy())
        return np.broadcast_to(outputs[-1].reshape(1, 1, -1), (1, 8, outputs[-1].size))

    sanity_check(randomized(build_model(small(name), 3)), explain, draws=2)
    sizes = np.array([np.abs(values).max() for values in outputs])
    assert np.isfinite(sizes).all() and sizes.min() > 1e-6


def test_layers_become_random_from_the_output_to_the_input(unet):
    before = {layer.name: layer.get_weights() for layer in unet.layers}
    changed, last = [], {}

    def explain(network):
        changed.append(
            {
                name
                for name in kernel_layers(network)
                if not all(map(np.array_equal, network.get_layer(name).get_weights(), before[name]))
            }
        )
        last.update({layer.name: layer.get_weights() for layer in network.layers})
        return _RAMP

    result = sanity_check(unet, explain, fractions=(0.25, 0.5), draws=1)
    names = kernel_layers(unet)[::-1]
    assert [row.layers for row in result.rows] == [3, 6, 11]
    assert [row.layer for row in result.rows] == [names[2], names[5], names[10]]
    assert changed == [set(), set(names[:3]), set(names[:6]), set(names)]
    kernel, bias = last["encoder2_conv2"]
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / 72), rel=0.1) and not bias.any()
    norms = [name for name in last if "_norm" in name]
    assert norms
    for name in norms:
        np.testing.assert_array_equal(last[name], np.array([1, 0, 0, 1])[:, np.newaxis] * np.ones_like(last[name]))
    for layer in unet.layers:
        for old, new in zip(before[layer.name], layer.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def test_a_normalisation_stays_as_it_is_while_the_layer_before_it_does(unet):
    seen = []

    def explain(network):
        seen.append([network.get_layer(f"encoder{level}_norm1").get_weights()[0] for level in (0, 2)])
        return _RAMP

    sanity_check(unet, explain, fractions=(0.7,), draws=1)
    trained, partly, wholly = seen
    np.testing.assert_array_equal(partly[0], trained[0])
    assert (partly[1] == 1).all() and (trained[1] != 1).any() and (wholly[0] == 1).all()


def test_each_draw_begins_with_what_was_learned_and_draws_other_weights(unet):
    seen = []

    def explain(network):
        seen.append([network.get_layer(name).get_weights()[0] for name in ("encoder0_conv1", "logits_conv")])
        return _RAMP

    sanity_check(unet, explain, fractions=(0.1,), draws=2)
    trained, first, _, second, _ = seen
    np.testing.assert_array_equal(second[0], trained[0])
    assert not np.array_equal(first[1], second[1])


def test_the_same_seed_gives_the_same_whatever_was_drawn_before(unet):
    images = _images(1)

    def explain(network):
        return network(images, training=False).numpy()[..., 0]

    first, again, other = (sanity_check(unet, explain, seed, (1,)) for seed in (1, 1, 2))
    assert first == again != other


def test_ranks_are_compared_and_the_mean_is_taken_over_images_and_draws(unet):
    both = np.concatenate([_RAMP, _RAMP])
    turned = np.concatenate([_RAMP, -_RAMP.max() / _RAMP])  # absolute values run the other way
    result = sanity_check(unet, _presented(both, both**3, turned), fractions=(1,), draws=2)
    assert result.rows[0].correlation == pytest.approx((1 + 1 + 1 - 1) / 4)


def test_channels_are_summed_by_their_absolute_values(unet):
    channels = np.stack([_RAMP, -_RAMP], axis=-1)
    result = sanity_check(unet, _presented(channels, np.stack([_RAMP, 0 * _RAMP], -1)), fractions=(1,), draws=1)
    assert (result.rows[0].correlation, result.rows[0].similarity) == (pytest.approx(1), pytest.approx(1))


def test_maps_that_become_constant_or_not_finite_are_counted(unet):
    three = np.concatenate([_RAMP] * 3)
    after = three.copy()
    after[0], after[1, 0, 0] = 0, np.nan
    result = sanity_check(unet, _presented(three, after), fractions=(1,), draws=1)
    assert result.rows[0].constant == 2 and result.rows[0].correlation == pytest.approx(1 / 3)
    assert result.passed and "constant, which counts as a correlation of 0: 2." in result.message


def test_an_explanation_that_says_nothing_of_the_trained_network_does_not_pass(unet):
    result = sanity_check(unet, _presented(0 * _RAMP, _RAMP), fractions=(1,), draws=1)
    assert not result.passed and "each is constant" in result.message and np.isnan(result.rows[0].correlation)
    mixed = np.concatenate([_RAMP, 0 * _RAMP])
    result = sanity_check(unet, _presented(mixed, mixed + _RAMP), fractions=(1,), draws=1)
    assert result.rows[0].correlation == pytest.approx(1)


def test_small_maps_have_no_structural_similarity(unet):
    result = sanity_check(unet, lambda network: _RAMP[:, :3, :3], fractions=(1,))
    assert np.isnan(result.rows[0].similarity) and not result.passed


def test_what_cannot_be_checked_is_refused(unet):
    with pytest.raises(RecipeError, match="fractions"):
        sanity_check(unet, lambda network: _RAMP, fractions=(0, 1))
    with pytest.raises(RecipeError, match="draws"):
        sanity_check(unet, lambda network: _RAMP, draws=0)
    with pytest.raises(ShapeError, match="maps"):
        sanity_check(unet, lambda network: _RAMP[0])
    with pytest.raises(ShapeError, match="same images"):
        sanity_check(unet, _presented(_RAMP, _RAMP[:, 1:]))
