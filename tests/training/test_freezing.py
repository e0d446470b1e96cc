"""Which layers learn: those asked for, and whatever stays frozen keeps weights and statistics to the bit."""

import numpy as np
import pytest
import tensorflow as tf

from tests.classifiers import FINE_TUNING, recipe_of
from ustoolkit.errors import RecipeError
from ustoolkit.models import build_model
from ustoolkit.models.classifiers import BACKBONE, backbone_layers
from ustoolkit.training.freezing import open_layers


@pytest.fixture(scope="module")
def model():
    return build_model(recipe_of(FINE_TUNING), 2)


def learning(model):
    return {layer.name for layer in model.get_layer(BACKBONE).layers if layer.trainable_variables}


def test_all_none_and_some(model):
    names = backbone_layers(model)
    head = {weight.name for weight in model.get_layer("logits_dense").trainable_variables}
    beginning = names[-1][:5]
    named = {name for name in names if name.startswith(beginning)}
    for which, expected in (
        ("none", set()),
        ("all", set(names)),
        (1, set(names[-1:])),
        (3, set(names[-3:])),
        (10_000, set(names)),
        ((beginning,), named),
        ((names[0], names[-1]), {name for name in names if name.startswith((names[0], names[-1]))}),
    ):
        opened = open_layers(model, which)
        assert set(opened) == learning(model) == expected
        assert opened == [name for name in names if name in expected]
        assert head <= {weight.name for weight in model.trainable_variables}


def test_an_unknown_beginning_is_answered_with_those_there_are(model):
    with pytest.raises(
        RecipeError, match=r"open_layers: no layer of densenet161 begins with 'denzeblock1'.*denseblock1"
    ):
        open_layers(model, ("denzeblock1",))


@pytest.mark.parametrize("which", ["none", 2, "all"])
def test_a_step_changes_what_is_open_and_nothing_else(which):
    model = build_model(recipe_of(FINE_TUNING, "model.dropout=0"), 2)
    opened = set(open_layers(model, which))
    before = {layer.name: layer.get_weights() for layer in model.get_layer(BACKBONE).layers}
    head = model.get_layer("logits_dense").get_weights()
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 1)), tf.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True) ** 2) + tf.reduce_sum(model(images, training=True))
    for weight, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True):
        weight.assign_sub(0.1 * gradient)
    for layer in model.get_layer(BACKBONE).layers:
        same = all(map(np.array_equal, before[layer.name], layer.get_weights()))
        if layer.get_weights():
            assert same == (layer.name not in opened), layer.name
    assert not np.array_equal(head[0], model.get_layer("logits_dense").get_weights()[0])


def test_a_frozen_normalization_works_as_at_inference():
    model = build_model(recipe_of(FINE_TUNING, "model.dropout=0"), 2)
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 1)), tf.float32)
    assert not np.allclose(model(images, training=True), model(images, training=False), atol=1e-6)
    open_layers(model, "none")
    np.testing.assert_array_equal(model(images, training=True), model(images, training=False))
