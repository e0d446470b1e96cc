"""Dropout: what share, when, and from which random numbers."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.dropout import CountedDropout

ONES = np.ones((8, 32, 32, 4), np.float32)


def make(rate: float = 0.25, seed: int = 0) -> CountedDropout:
    keras.utils.set_random_seed(seed)
    layer = CountedDropout(rate)
    layer.build(ONES.shape)
    return layer


def test_drops_the_stated_share_and_keeps_the_mean():
    dropped = make()(ONES, training=True).numpy()
    assert np.mean(dropped == 0) == pytest.approx(0.25, abs=0.01)
    assert dropped.mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.75], rtol=1e-6)


def test_is_silent_at_inference():
    layer = make()
    np.testing.assert_array_equal(layer(ONES, training=False), ONES)
    assert int(layer.counter) == int(make().counter)


def test_each_step_and_each_seed_draw_anew_and_repeatably():
    layer = make()
    first, second = layer(ONES, training=True).numpy(), layer(ONES, training=True).numpy()
    assert (first != second).any()
    np.testing.assert_array_equal(make()(ONES, training=True), first)
    assert (make(seed=1)(ONES, training=True).numpy() != first).any()


def test_a_checkpoint_holds_the_place(tmp_path):
    layer, other = make(), make(seed=5)
    layer(ONES, training=True)
    path = tf.train.Checkpoint(layer=layer).save(tmp_path / "place")
    tf.train.Checkpoint(layer=other).restore(path).assert_consumed()
    np.testing.assert_array_equal(layer(ONES, training=True), other(ONES, training=True))


def test_a_model_with_it_saves_and_reloads(tmp_path):
    model = keras.Sequential([keras.layers.Input((4,)), CountedDropout(0.5)])
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").layers[0].rate == 0.5


def test_a_rate_of_one_is_refused():
    with pytest.raises(ValueError, match="below 1"):
        CountedDropout(1.0)
