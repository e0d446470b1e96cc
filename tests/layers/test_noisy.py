"""Noisy activations: what noise, where, when, and from which random numbers."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.noisy import NoisyActivation

FORMS = ("input", "saturation")
FUNCTIONS = {"relu": tf.nn.relu, "selu": tf.nn.selu}


def make(activation: str = "relu", form: str = "input", seed: int = 0, **arguments) -> NoisyActivation:
    keras.utils.set_random_seed(seed)
    layer = NoisyActivation(activation, form, **arguments)
    layer.build(tf.TensorShape([None]))
    return layer


def filled(value: float, dtype: type = np.float32) -> np.ndarray:
    return np.full(200_000, value, dtype)


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("form", FORMS)
def test_is_the_plain_function_at_inference(activation, form):
    inputs = np.linspace(-5, 5, 101, dtype=np.float32)
    layer = make(activation, form)
    np.testing.assert_array_equal(layer(inputs, training=False), FUNCTIONS[activation](inputs))
    assert int(layer.counter) == int(make(activation, form).counter)


@pytest.mark.parametrize(("activation", "slope"), [("relu", 1.0), ("selu", 1.0507)])
def test_input_noise_has_the_deviation_that_both_settings_say(activation, slope):
    values = make(activation, "input", noise=0.05, deviation=0.5)(filled(3.0), training=True).numpy()
    assert values.mean() == pytest.approx(3 * slope, abs=1e-3)
    assert values.std() == pytest.approx(0.05 * 0.5 * slope, rel=0.02)


def test_input_noise_goes_through_the_activation():
    values = make("relu", "input", noise=1.0, deviation=1.0)(filled(0.0), training=True).numpy()
    assert values.min() == 0
    assert np.mean(values > 0) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_saturation_noise_is_silent_where_the_unit_is_linear(activation):
    inputs = np.linspace(0, 8, 1001, dtype=np.float32)
    np.testing.assert_array_equal(make(activation, "saturation")(inputs, training=True), FUNCTIONS[activation](inputs))


@pytest.mark.parametrize("depth", [1.0, 4.0])
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_saturation_noise_grows_with_the_distance_to_the_linear_piece(activation, depth):
    values = make(activation, "saturation", noise=0.05, deviation=0.5)(filled(-depth), training=True).numpy()
    kept = float(FUNCTIONS[activation](-depth))
    linear = -depth * (1.0 if activation == "relu" else 1.0507009873554805)
    assert values.mean() == pytest.approx(kept, abs=5e-4 * depth)
    assert values.std() == pytest.approx(0.05 * 0.5 * abs(kept - linear), rel=0.02)


def test_a_saturated_relu_has_a_gradient_only_with_saturation_noise():
    inputs = tf.constant(filled(-1.0))
    found = {}
    for form in FORMS:
        layer = make("relu", form)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
        found[form] = tape.gradient(outputs, inputs).numpy()
    assert not found["input"].any()
    assert np.mean(found["saturation"] != 0) > 0.99


def test_each_step_and_each_seed_draw_anew_and_repeatably():
    layer, inputs = make(), filled(1.0)
    first, second = layer(inputs, training=True).numpy(), layer(inputs, training=True).numpy()
    assert (first != second).any()
    np.testing.assert_array_equal(make()(inputs, training=True), first)
    assert (make(seed=1)(inputs, training=True).numpy() != first).any()


def test_a_checkpoint_holds_the_place(tmp_path):
    layer, other = make(), make(seed=5)
    layer(filled(1.0), training=True)
    path = tf.train.Checkpoint(layer=layer).save(tmp_path / "place")
    tf.train.Checkpoint(layer=other).restore(path).assert_consumed()
    np.testing.assert_array_equal(layer(filled(1.0), training=True), other(filled(1.0), training=True))


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("form", FORMS)
def test_half_precision_is_finite_and_keeps_its_type(precision, activation, form):
    layer = make(activation, form, dtype=f"mixed_{precision}")
    inputs = tf.cast([-6e4, -100.0, -1e-3, 0.0, 1e-3, 100.0, 6e4], precision)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
    assert outputs.dtype == precision
    assert np.isfinite(tf.cast(outputs, tf.float32)).all()
    assert np.isfinite(tf.cast(tape.gradient(outputs, inputs), tf.float32)).all()


def test_a_model_with_it_saves_and_reloads(tmp_path):
    arguments = {"activation": "selu", "form": "saturation", "noise": 0.1, "deviation": 0.25}
    model = keras.Sequential([keras.layers.Input((4,)), NoisyActivation(**arguments)])
    model.save(tmp_path / "model.keras")
    config = keras.models.load_model(tmp_path / "model.keras").layers[0].get_config()
    assert {key: config[key] for key in arguments} == arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("tanh",), "'tanh'"), (("relu", "output"), "'output'"), (("relu", "input", -1.0), "at least 0")],
)
def test_arguments_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NoisyActivation(*arguments)
