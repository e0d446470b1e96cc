"""Which layers learn: those asked for, and whatever stays frozen keeps weights and statistics to the bit."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.classifiers import FINE_TUNING, recipe_of
from tests.conftest import TINY
from tests.models.networks import SEGMENTERS, images_of, randomized, small, without_dropout
from ustoolkit.errors import RecipeError
from ustoolkit.models import build_model, count_trainable
from ustoolkit.models.blocks import network_blocks, network_parts
from ustoolkit.models.classifiers import BACKBONE, backbone_layers
from ustoolkit.models.load import load_model
from ustoolkit.models.transfer import weighted_layers
from ustoolkit.recipe import dump_toml, load_recipe
from ustoolkit.training.freezing import open_layers, open_segmenter, opened_blocks
from ustoolkit.training.start import resume_run, start_run
from ustoolkit.training.trainer import train

# One of each builder; the others of a family have much the same layers.
QUICK = {"unet", "fcn_8s", "deeplab_v3_plus", "backbone_fcn"}


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


# Networks that segment.


def segmenter(name="unet", **settings):
    return build_model(small(name, **settings), 2)


def layers_that_learn(model):
    return {name for name, each in weighted_layers(model).items() if each.layer.trainable_variables}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in SEGMENTERS]
)
def test_a_step_changes_open_blocks_and_nothing_else(name):
    """Also of layers within layers, and of the statistics of normalizations."""
    model = randomized(segmenter(name, **without_dropout(name)))
    whole, layers = count_trainable(model), weighted_layers(model)
    blocks, parts = network_blocks(model), network_parts(model)
    learning = {
        layer: sum(int(np.prod(weight.shape)) for weight in each.weights if weight.trainable)
        for layer, each in layers.items()
    }
    assert open_segmenter(model, "all") == list(layers) and sum(learning.values()) == whole
    counts = {}
    for which in ("contracting", "expanding", (parts["expanding"][-1], parts["contracting"][0])):
        opened = open_segmenter(model, which)
        expected = [block for block in blocks if block in parts.get(which, which)]
        assert opened == [layer for block in expected for layer in blocks[block]]
        assert opened_blocks(model, opened) == expected
        assert set(opened) == layers_that_learn(model)
        counts[which] = count_trainable(model)
        assert counts[which] == sum(learning[layer] for layer in opened)
        before = {layer: [weight.numpy() for weight in each.weights] for layer, each in layers.items()}
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images_of(2, 64, 64, 3), training=True) ** 2)
        variables = model.trainable_variables
        for weight, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            weight.assign_sub(0.1 * tf.sign(gradient))
        changed = {
            layer
            for layer, each in layers.items()
            if not all(map(np.array_equal, before[layer], (weight.numpy() for weight in each.weights)))
        }
        assert changed <= set(opened)
        assert all(changed & set(blocks[block]) for block in expected)
        for layer, values in before.items():
            for weight, value in zip(layers[layer].weights, values, strict=True):
                weight.assign(value)
    assert counts["contracting"] + counts["expanding"] == whole


def test_layers_are_named_by_block_by_layer_by_beginning_or_by_pattern():
    model = segmenter()
    blocks, layers = network_blocks(model), list(weighted_layers(model))
    norms = [name for name in layers if "_norm" in name]
    for which, expected in (
        (("encoder1",), blocks["encoder1"]),
        (("decoder0",), blocks["decoder0"]),  # with the logits, which the beginning leaves out
        (("decoder0_",), [name for name in layers if name.startswith("decoder0_")]),
        (("encoder",), [name for name in layers if name.startswith("encoder")]),
        (("encoder0_conv2",), ["encoder0_conv2"]),
        (("*_norm?",), norms),
        (("encoder[02]", "logits_conv"), [*blocks["encoder0"], *blocks["encoder2"], "logits_conv"]),
        (("*0",), [*blocks["encoder0"], *blocks["decoder0"]]),
        (("logits", "encoder0"), [*blocks["encoder0"], "logits_conv"]),
    ):
        assert open_segmenter(model, which) == sorted(expected, key=layers.index), which
        assert layers_that_learn(model) == set(expected)
    opened = open_segmenter(model, ("encoder0", "decoder1_norm?"))
    assert opened_blocks(model, opened) == ["encoder0", "decoder1 (2 of 4 layers)"]


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [
        ("encoder7", "Did you mean 'encoder[0-2]'"),
        ("*_nrom1", "Did you mean '.*_norm1'"),
        ("Encoder0", "Did you mean 'encoder0'"),
        ("xyz", "matches. Its blocks are encoder0, encoder1, encoder2, decoder1, decoder0; "),
    ],
)
def test_a_name_that_nothing_has_is_answered_with_the_nearest(wrong, answer):
    model = segmenter()
    with pytest.raises(RecipeError, match=f"training.open_layers.* unet, found '{re.escape(wrong)}'.*{answer}"):
        open_segmenter(model, ("encoder0", wrong))
    assert layers_that_learn(model) == set(weighted_layers(model))


def test_normalizations_that_do_not_learn_work_as_at_inference_and_dropout_stays_random():
    images = images_of(2, 64, 64, 3)
    model = segmenter(dropout=0.0)
    assert not np.allclose(model(images, training=True), model(images, training=False), atol=1e-6)
    open_segmenter(model, ("logits_conv",))
    np.testing.assert_array_equal(model(images, training=True), model(images, training=False))
    for settings in ({"dropout": 0.5}, {"dropout": 0.0, "activation": "nhrelu", "noise": 1.0}):
        model = segmenter(**settings)
        open_segmenter(model, ("logits_conv",))
        assert not np.allclose(model(images, training=True), model(images, training=True), atol=1e-6)


OPEN = (*TINY, "training.epochs=1", 'training.open_layers=["encoder0", "decoder1_conv?"]', "training.weight_decay=0.01")


def begin(records, folder, *changes):
    return start_run(load_recipe("demo", [*OPEN, *changes]), records, folder)


def last_model(run):
    model = load_model(run)
    model.load_weights(run.last_weights)
    return model


def test_a_run_trains_what_is_open(records, tmp_path):
    """With weight decay, which leaves alone what does not learn."""
    run, lines = begin(records, tmp_path / "run"), []
    train(run, records, say=lines.append)
    keras.utils.set_random_seed(run.recipe.training.seed)
    first, last = build_model(run.recipe, 2), last_model(run)
    opened = {*network_blocks(first)["encoder0"], "decoder1_conv1", "decoder1_conv2"}
    theirs = weighted_layers(last)
    for name, each in weighted_layers(first).items():
        same = [np.array_equal(here, there) for here, there in zip(each.weights, theirs[name].weights, strict=True)]
        assert all(same) if name not in opened else not any(same), name

    # 1 → 4 → 4 channels, each convolution with its bias and a normalization of two learnt weights a channel; then
    # 8 + 8 → 8 → 4, since a narrowing decoder ends in the filters of the level above.
    count = (9 * 4 + 4 + 8) + (9 * 16 + 4 + 8) + (9 * 16 * 8 + 8) + (9 * 8 * 4 + 4)
    blocks = ["encoder0", "decoder1 (2 of 4 layers)"]
    assert run.state["open_layers"] == blocks and run.state["open_weights"] == count
    assert run.state["trainable_weights"] == count_trainable(first) > count
    assert lines == [f"{count:,} of {count_trainable(first):,} weights learn: blocks {', '.join(blocks)}"]
    kept = dict(tf.train.list_variables(tf.train.latest_checkpoint(run.checkpoints)))
    slots = [shape for name, shape in kept.items() if name.startswith("optimizer/_variables") and shape]
    assert sum(map(np.prod, slots)) == 2 * count  # Adam's two moments, of what is open

    train(resume_run(records, run.folder), records, say=lines.append)
    assert lines[1:] == lines[:1]
    for expected, found in zip(last.get_weights(), last_model(run).get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["contracting", "expanding"])
def test_a_resumed_run_with_closed_layers_equals_an_uninterrupted_one(records, tmp_path, which):
    class Interrupted(Exception):
        pass

    changes = (f"training.open_layers={which}", "training.epochs=2", "model.dropout=0.4")
    whole, halved = (begin(records, tmp_path / name, *changes) for name in ("whole", "halved"))
    train(whole, records)
    write_history = halved.write_history

    def interrupt(rows):
        write_history(rows)
        raise Interrupted

    halved.write_history = interrupt
    with pytest.raises(Interrupted):
        train(halved, records)
    resumed = resume_run(records, halved.folder)
    train(resumed, records)
    assert len(resumed.read_history()) == 2
    for expected, found in zip(last_model(whole).get_weights(), last_model(resumed).get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_run_that_trains_all_says_so_and_a_wrong_name_leaves_nothing_behind(records, trained_run, tmp_path):
    state = trained_run.state
    assert state["open_layers"] == "all" and state["open_weights"] == state["trainable_weights"]
    run = begin(records, tmp_path / "run", 'training.open_layers=["encodr0"]')
    with pytest.raises(RecipeError, match="'encoder0'"):
        train(run, records)
    assert not run.folder.exists()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("all", "all"),
        ("expanding", "expanding"),
        ("contracting", "contracting"),
        ('["encoder0","encoder1"]', ("encoder0", "encoder1")),
    ],
)
def test_the_setting_reads_back_as_it_was_set(value, expected, tmp_path):
    recipe = load_recipe("demo", [f"training.open_layers={value}"])
    assert recipe.training.open_layers == expected
    (tmp_path / "recipe.toml").write_text(dump_toml(recipe))
    assert load_recipe(tmp_path / "recipe.toml") == recipe


@pytest.mark.parametrize(
    ("recipe", "value", "answer"),
    [
        ("demo", "[]", "training.open_layers: .*'contracting'"),
        ("demo", '[""]', r"training.open_layers\.0"),
        ("demo", "expandin", "Did you mean 'expanding'"),
        ("demo", "3", "training.open_layers: .*found 3"),
        ("fast_classifier", "contracting", r"classification\.transfer\.open_layers"),
        ("lesion_features", '["encoder0"]', r"classification\.transfer\.open_layers"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(recipe, value, answer):
    with pytest.raises(RecipeError, match=answer):
        load_recipe(recipe, [f"training.open_layers={value}"])
