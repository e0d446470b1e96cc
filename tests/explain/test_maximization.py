"""Activation maximization: the loss beside an oracle and keras-vis, the way downhill, and what changes nothing."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.networks import SMALLEST, images_of, randomized, small
from ustoolkit.errors import RecipeError, RunError, ShapeError
from ustoolkit.explain.excitation import Excitation
from ustoolkit.explain.keras_vis import KerasVis
from ustoolkit.explain.maximization import MaximizationSettings, maximize, stages_of
from ustoolkit.explain.network import kernel_layers, unfold
from ustoolkit.explain.objective import Objective, objective_losses
from ustoolkit.explain.parametrization import Pixels, Spectrum
from ustoolkit.models import MODELS, build_model

OBJECTIVES = {
    "defaults": Objective(),
    "activation alone": Objective(lp_norm_weight=0, total_variation_weight=0),
    "other exponents": Objective(2.0, 3.0, 2.5, 0.5, 1.5),
    "odd ones": Objective(1.0, 3.0, 3.0, 0.5, 3.0),
    "largest value": Objective(lp_norm=math.inf),
    "absolute values": Objective(lp_norm=1.0),
}


@pytest.fixture(scope="module")
def unet():
    return randomized(build_model(small("unet"), 2))


@pytest.fixture(scope="module")
def classifier():
    inputs = keras.layers.Input((16, 12, 1), name="image")
    features = keras.layers.Conv2D(4, 3, activation="relu", name="convolution")(inputs)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(features)
    return randomized(keras.Model(inputs, keras.layers.Dense(3, name="neurons")(pooled), name="classifier"))


def _oracle(objective: Objective, image: np.ndarray, activation: np.ndarray, number: int) -> float:
    """The loss of one picture, value by value, in double precision."""
    image, values = image.astype(np.float64), image.size
    loss = -objective.activation_weight * activation[..., number].astype(np.float64).mean()
    if math.isinf(objective.lp_norm):
        norm = image.max()
    else:
        norm = (np.abs(image) ** objective.lp_norm).sum() ** (1 / objective.lp_norm)
    variation = 0.0
    for row in range(image.shape[0] - 1):
        for column in range(image.shape[1] - 1):
            below = image[row + 1, column] - image[row, column]
            right = image[row, column + 1] - image[row, column]
            variation += ((below**2 + right**2) ** (objective.total_variation_power / 2)).sum()
    return loss + objective.lp_norm_weight * norm / values + objective.total_variation_weight * variation / values


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_is_that_of_each_picture_by_hand(name):
    objective = OBJECTIVES[name]
    images, activations = images_of(3, 5, 4, 2) - 100, images_of(3, 2, 3, 6)
    found = objective_losses(objective, tf.constant(images), tf.constant(activations), tf.constant([5, 0, 2]))
    expected = [_oracle(objective, *each) for each in zip(images, activations, (5, 0, 2), strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_its_gradient_is_that_of_small_differences(name):
    objective = OBJECTIVES[name]
    images, activations = images_of(2, 4, 5, 1) - 100, tf.zeros((2, 3))

    def loss(images):
        return objective_losses(objective, images, activations, tf.constant([0, 1]))

    variable = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        found = loss(variable)
    gradients = tape.gradient(found, variable)
    gradients = np.zeros_like(images) if gradients is None else gradients.numpy()
    expected = np.zeros_like(images)
    for place in np.ndindex(images.shape):
        ends = []
        for step in (0.01, -0.01):
            moved = images.astype(np.float64)
            moved[place] += step
            ends.append(_oracle(objective, moved[place[0]], np.zeros(3), 0))
        expected[place] = (ends[0] - ends[1]) / 0.02
    np.testing.assert_allclose(gradients, expected, rtol=1e-3, atol=1e-5 * max(1e-30, np.abs(expected).max()))


def test_flat_and_empty_pictures_have_gradients_that_are_numbers():
    for value in (0.0, 7.0):
        image = tf.fill((1, 4, 4, 1), value)
        with tf.GradientTape() as tape:
            tape.watch(image)
            losses = objective_losses(OBJECTIVES["other exponents"], image, tf.zeros((1, 2)), tf.constant([0]))
        assert np.isfinite(tape.gradient(losses, image)).all()
        assert np.isfinite(losses).all()


def test_a_high_norm_of_bright_pixels_is_a_number():
    image = images_of(1, 8, 8, 1)
    found = objective_losses(Objective(0, 1, 40, 0), image, tf.zeros((1, 2)), tf.constant([0]))
    np.testing.assert_allclose(found, _oracle(Objective(0, 1, 40, 0), image[0], np.zeros(2), 0), rtol=1e-5)


@pytest.mark.parametrize("layer", ["encoder2_conv2", "decoder0_activation1"])
def test_loss_and_gradient_are_those_of_keras_vis(unet, layer):
    _same_as_keras_vis(unet, layer)


@pytest.mark.parametrize("layer", ["convolution", "neurons"])
def test_an_activation_within_a_layer_and_a_neuron_are_those_of_keras_vis(classifier, layer):
    _same_as_keras_vis(classifier, layer)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradient_are_those_of_keras_vis_in_each_network(name):
    assert name in SMALLEST
    model = randomized(build_model(small(name), 2))
    names = kernel_layers(model)
    for layer in (names[len(names) // 2], names[-1]):
        # Rounding decides some of the many ReLUs whose input is next to 0, and with them a part of the gradient.
        _same_as_keras_vis(model, layer, tolerance=5e-3)
    found = maximize(model, names[len(names) // 2], [0], MaximizationSettings(1, precision="bfloat16"))
    assert np.isfinite(found.losses).all()


def _same_as_keras_vis(model: keras.Model, layer: str, tolerance: float = 1e-4) -> None:
    image = images_of(*model.input_shape[1:])
    excitation = Excitation(model, layer)
    number = excitation.filters - 1
    filters = tf.constant([number])
    images, weights = tf.constant(image[None]), excitation.weights(filters)
    with KerasVis(model, layer) as vis:
        for objective in (Objective(), Objective(1.0, 0.0, 6.0, 0.0)):
            expected_loss, expected = vis.loss_and_gradient(image, number, objective)
            with tf.GradientTape() as tape:
                tape.watch(images)
                means = excitation.means(images, filters, weights)
                losses = objective_losses(objective, images, means[:, None], tf.zeros(1, tf.int32))
            found = tape.gradient(losses, images)[0].numpy()
            assert losses.numpy()[0] == pytest.approx(expected_loss, rel=1e-4)
            assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


def test_pictures_and_activations_are_those_of_keras_vis(unet):
    layer = "decoder1_conv2"
    start = images_of(*unet.input_shape[1:]) / 10 + 115
    objective = Objective(50.0, 1.0, 6.0, 0.001)
    settings = MaximizationSettings(steps=12, objective=objective)
    found = maximize(unet, layer, [1, 3], settings, initial=start)
    with KerasVis(unet, layer) as vis:
        for place, number in enumerate(found.filters):
            theirs = vis.maximize(int(number), steps=12, initial=start, objective=objective)
            assert found.losses[place] <= theirs.loss
            assert found.activations[place] >= theirs.activation - 1e-4 * abs(theirs.activation)
            # Theirs is the picture after the last step; ours is it too, as each step lowers the loss.
            difference = np.abs(found.pictures()[place].astype(int) - theirs.picture.astype(int))
            assert difference.max() <= 1


@pytest.mark.parametrize("parametrization", ["pixels", "fourier"])
def test_chunks_and_company_change_no_picture(unet, parametrization):
    def found(filters, chunk):
        # Only the filter's answer, whose slope does not turn round, so that rounding stays rounding.
        settings = MaximizationSettings(
            6, parametrization, 1, 0.1, chunk=chunk, seed=4, objective=Objective(1.0, 0.0, 6.0, 0.0)
        )
        return maximize(unet, "encoder1_conv1", filters, settings)

    whole = found(None, 0)
    np.testing.assert_allclose(found(None, 3).images, whole.images, atol=0.05)
    alone = found([5], 0)
    np.testing.assert_allclose(alone.images[0], whole.images[5], atol=0.05)
    assert np.abs(whole.images[4] - whole.images[5]).max() > 1


@pytest.mark.parametrize(
    ("layer", "parametrization", "steps"), [("encoder2_conv2", "pixels", 12), ("logits", "fourier", 25)]
)
def test_the_filter_is_excited_and_what_is_reported_is_true_of_the_picture(unet, layer, parametrization, steps):
    objective = Objective(1.0, 1e-4, 6.0, 1e-6)
    settings = MaximizationSettings(steps, parametrization, jitter=0.1, objective=objective, image_size=(32, 48))
    before = maximize(unet, layer, [0], MaximizationSettings(0, parametrization, image_size=(32, 48)))
    after = maximize(unet, layer, [0], settings)
    assert after.activations[0] > before.activations[0] + 0.005 * abs(before.activations[0])
    assert after.images.shape == (1, 32, 48, 3)
    outputs = unfold(unet, layer, (32, 48))(after.images, training=False)
    assert after.activations[0] == pytest.approx(float(tf.reduce_mean(outputs[..., 0])), rel=1e-4)
    np.testing.assert_allclose(
        after.losses,
        objective_losses(settings.objective, after.images, outputs, tf.constant([0])),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_neuron_of_a_dense_layer_is_excited(classifier):
    settings = MaximizationSettings(10, objective=Objective(1.0, 0.0, 6.0, 0.0))
    before = maximize(classifier, "neurons", settings=MaximizationSettings(0))
    after = maximize(classifier, "neurons", settings=settings)
    np.testing.assert_array_equal(after.filters, [0, 1, 2])
    assert (after.activations > before.activations).all()
    outputs = classifier(after.images, training=False).numpy()
    np.testing.assert_allclose(after.activations, np.diag(outputs), rtol=1e-3)


def test_nothing_asked_for_changes_nothing(classifier):
    start = images_of(16, 12, 1)
    nothing = MaximizationSettings(3, objective=Objective(0.0, 0.0, 6.0, 0.0))
    np.testing.assert_array_equal(maximize(classifier, "convolution", [1], nothing, start).images[0], start)
    assert maximize(classifier, "convolution", [], nothing).pictures().shape == (0, 16, 12, 1)


def test_no_step_leaves_the_start(unet):
    start = images_of(4, 64, 64, 3)
    found = maximize(unet, "encoder0_conv1", settings=MaximizationSettings(0), initial=start)
    np.testing.assert_array_equal(found.images, start)
    again = maximize(unet, "encoder0_conv1", [2], MaximizationSettings(0), start[1])
    np.testing.assert_array_equal(again.images, start[1:2])


def test_noise_to_begin_with_has_the_deviation_that_keras_vis_gives_it():
    way = Pixels((32, 24), 2, (0.0, 200.0))
    noise = way.drawn(3, np.array([7, 8]))[0].numpy()
    np.testing.assert_allclose(noise.mean((1, 2, 3)), 100, rtol=1e-4)
    np.testing.assert_allclose(noise.std((1, 2, 3)), 10, rtol=1e-4)
    assert np.abs(noise - 100).max() < 10 * math.sqrt(3) * 1.1  # uniform, not normal
    np.testing.assert_array_equal(way.drawn(3, np.array([8]))[0][0], noise[1])
    assert np.abs(way.drawn(4, np.array([8]))[0][0] - noise[1]).max() > 1


@pytest.mark.parametrize(("size", "channels"), [((8, 8), 1), ((7, 9), 3), ((10, 5), 2)])
def test_a_spectrum_gives_the_picture_back_and_keeps_the_range(size, channels):
    way = Spectrum(size, channels, (-1.0, 3.0))
    images = images_of(2, *size, channels) / 255 * 3.9 - 0.95
    np.testing.assert_allclose(way.images(way.of_images(images)[0]), images, atol=1e-3)
    wild = way.images(100 * way.of_images(images)[0]).numpy()
    assert wild.min() >= -1
    assert wild.max() <= 3


def test_a_spectrum_weighs_broad_shapes_by_their_wavelength():
    way = Spectrum((16, 16), 1, (0.0, 1.0))
    deviations = []
    for column in (1, 4):
        parameters = np.zeros((1, 1, 16, 9, 2), np.float32)
        parameters[0, 0, 0, column, 0] = 0.001
        deviations.append(way.images(tf.constant(parameters)).numpy().std())
    assert deviations[0] == pytest.approx(4 * deviations[1], rel=1e-2)


def test_sizes_are_what_the_network_takes(unet):
    def sizes(layer, size, scales):
        stages = stages_of(unet, layer, MaximizationSettings(1, scales=scales, image_size=size))
        return [stage.excitation.image_size for stage in stages]

    # The decoder doubles what was halved twice, so that sides are multiples of 4.
    assert sizes("decoder0_conv1", (48, 64), 3) == [(12, 16), (24, 32), (48, 64)]
    smallest = sizes("decoder0_conv1", (48, 64), 9)[0]
    assert all(side % 4 == 0 and side >= 4 for side in smallest)


def test_filters_of_a_later_scale_start_from_the_earlier_one(unet):
    def found(scales, steps):
        settings = MaximizationSettings(steps, scales=scales, objective=Objective(1.0, 0.0, 6.0, 0.0))
        return maximize(unet, "encoder2_conv2", [0, 1], settings)

    untouched = found(2, 0)
    assert (found(2, 10).activations > untouched.activations).all()
    rows = untouched.images
    # Doubled, two of its rows lie between two of the smaller picture's, and noise of that size would differ more.
    assert np.abs(rows[:, 1:-1:2] - rows[:, 2::2]).mean() < 10


def test_bfloat16_excites_nearly_as_much_and_reports_in_float32(unet):
    objective = Objective(1.0, 0.0, 6.0, 0.0)
    layer, filters = "encoder1_activation2", [0, 3]
    exact = maximize(unet, layer, filters, MaximizationSettings(15, objective=objective))
    coarse = maximize(unet, layer, filters, MaximizationSettings(15, objective=objective, precision="bfloat16"))
    start = maximize(unet, layer, filters, MaximizationSettings(0))
    assert ((coarse.activations - start.activations) > 0.8 * (exact.activations - start.activations)).all()
    outputs = unfold(unet, layer)(coarse.images, training=False).numpy().mean((1, 2))
    np.testing.assert_allclose(coarse.activations, [outputs[0, 0], outputs[1, 3]], rtol=1e-4, atol=1e-5)


def test_the_model_is_left_as_it_was(unet):
    before = unet.get_weights()
    trainable = [weight.trainable for weight in unet.weights]
    maximize(unet, "encoder1_conv1", [0], MaximizationSettings(2))
    for old, new in zip(before, unet.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [weight.trainable for weight in unet.weights] == trainable


@pytest.mark.parametrize(
    ("layer", "filters", "message"),
    [
        ("encoder0_conv3", None, "encoder0_conv"),
        ("encoder0_conv1", [4], "from 0 to 3, found 4"),
        ("encoder0_conv1", [-1], "found -1"),
        ("encoder0_conv1", [0.5], "whole numbers"),
    ],
)
def test_what_is_not_there_is_refused(unet, layer, filters, message):
    with pytest.raises(RunError, match=message):
        maximize(unet, layer, filters, MaximizationSettings(1))


def test_a_size_that_the_network_does_not_take_is_refused(unet):
    with pytest.raises(RunError, match="multiple"):
        maximize(unet, "decoder0_conv1", [0], MaximizationSettings(1, image_size=(30, 30)))


def test_a_start_of_another_shape_is_refused(unet):
    for shape in ((64, 64, 1), (32, 32, 3), (3, 64, 64, 3), (64, 64)):
        with pytest.raises(ShapeError, match="initial"):
            maximize(unet, "encoder0_conv1", [0, 1], MaximizationSettings(1), np.zeros(shape))


@pytest.mark.parametrize(
    "setting",
    [
        {"steps": -1}, {"parametrization": "wavelets"}, {"scales": 0}, {"jitter": 1.0}, {"image_size": (0, 8)},
        {"chunk": -1}, {"seed": -1}, {"precision": "float16"}, {"input_range": (1.0, 1.0)},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(setting):
    with pytest.raises(RecipeError, match=next(iter(setting))):
        MaximizationSettings(**setting)


@pytest.mark.parametrize(
    "setting",
    [{"lp_norm": 0.5}, {"lp_norm": math.nan}, {"total_variation_power": 0.0}, {"activation_weight": math.nan}],
)
def test_terms_out_of_range_are_refused_by_name(setting):
    with pytest.raises(RecipeError, match=next(iter(setting))):
        Objective(**setting)
