"""Stochastic depth: whole images are left out, the mean stays, and the draw is repeated from its counter."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.stochastic_depth import StochasticDepth

FEATURES = np.random.default_rng(0).uniform(1, 2, (400, 3, 4, 2)).astype(np.float32)


def test_images_are_kept_whole_and_scaled_or_left_out_whole():
    found = StochasticDepth(0.2)(FEATURES, training=True).numpy()
    kept = found.reshape(400, -1).any(axis=1)
    np.testing.assert_allclose(found[kept], FEATURES[kept] / 0.8, rtol=1e-5)
    assert not found[~kept].any() and 0.1 < 1 - kept.mean() < 0.3


def test_nothing_is_left_out_at_inference_or_at_a_rate_of_zero():
    np.testing.assert_array_equal(StochasticDepth(0.9)(FEATURES), FEATURES)
    np.testing.assert_array_equal(StochasticDepth(0.0)(FEATURES, training=True), FEATURES)


def test_each_step_draws_anew_and_a_counter_put_back_draws_the_same():
    layer = StochasticDepth(0.5)
    layer.build(FEATURES.shape)
    start = int(layer.counter)
    first, second = (layer(FEATURES, training=True).numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    layer.counter.assign(start)
    np.testing.assert_array_equal(layer(FEATURES, training=True), first)


def test_it_is_rebuilt_from_a_saved_model_and_takes_any_batch(tmp_path):
    model = keras.Sequential([keras.Input((3, 4, 2)), StochasticDepth(0.25, name="drop")])
    model.save(tmp_path / "model.keras")
    layer = keras.models.load_model(tmp_path / "model.keras").get_layer("drop")
    assert layer.rate == 0.25
    step = tf.function(lambda values: layer(values, training=True), [tf.TensorSpec((None, 3, 4, 2))])
    assert step(FEATURES[:5]).shape == (5, 3, 4, 2)
