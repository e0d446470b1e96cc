"""Every network that segments keeps one contract: in, out, learning, saving, precision, export and cost."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.networks import SEGMENTERS, images_of, losses_of_steps, randomized, small, without_dropout
from ustoolkit.inference.graph import Member, SegmentationGraph
from ustoolkit.models import build_model, logit_channels
from ustoolkit.models.cost import activation_bytes, multiply_adds
from ustoolkit.models.heads import supervised
from ustoolkit.training.losses import soft_dice

IMAGES = images_of(1, 64, 64, 3)
# What takes long is asked quickly of one network of each builder.
_RELATIVES = {
    "deeplab_v3_plus",
    "light_unet",
    "fcn_32s",
    "fcn_16s",
    "fcn_32s_fc",
    "fcn_16s_fc",
    "deeplab_v2",
    "deeplab_v3",
}
# Of a family the networks at both ends are asked quickly; what stands between them shares the layers of both.
_BETWEEN = {"light_unet", "fcn_16s", "fcn_16s_fc", "deeplab_v3"}
EACH = [pytest.param(name, marks=[pytest.mark.slow] if name in _BETWEEN else []) for name in SEGMENTERS]
EXPORTED = [pytest.param(name, marks=[pytest.mark.slow] if name != "unet" else []) for name in SEGMENTERS]
AT_LENGTH = [pytest.param(name, marks=[pytest.mark.slow] if name in _RELATIVES else []) for name in SEGMENTERS]


@pytest.fixture(scope="module")
def networks():
    """One network of each name and number of classes, built when it is asked for; tests leave its weights alone."""
    built = {}

    def network(name, num_classes=2):
        if (name, num_classes) not in built:
            built[name, num_classes] = randomized(build_model(small(name), num_classes))
        return built[name, num_classes]

    return network


@pytest.mark.parametrize("name", EACH)
class TestEveryModel:
    """At 64 × 64 pixels and the smallest settings."""

    @pytest.mark.parametrize("num_classes", [2, 4])
    def test_logits_have_the_size_of_the_input(self, name, num_classes, networks):
        model = networks(name, num_classes)
        logits = model(np.zeros((2, 64, 64, 3), np.float32))
        assert logits.shape == (2, 64, 64, logit_channels(num_classes)) and logits.dtype == tf.float32
        np.testing.assert_array_equal(supervised(model)(IMAGES), model(IMAGES))

    def test_grey_images_and_sides_that_differ_are_taken(self, name):
        recipe = small(name)
        data = recipe.data.model_copy(update={"image_size": (32, 96), "channels": 1})
        model = build_model(recipe.model_copy(update={"data": data}), 2)
        assert model(images_of(1, 32, 96, 1)).shape == (1, 32, 96, 1)

    def test_steps_lower_the_loss_on_a_fixed_batch(self, name):
        losses = losses_of_steps(small(name, **without_dropout(name)), batch=4, steps=6, rate=1e-2)
        assert losses[-1] < losses[0] - 0.02

    def test_every_trainable_weight_has_a_gradient(self, name, networks):
        model = networks(name, 4)
        before = model.get_weights()
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(images_of(2, 64, 64, 3), training=True) ** 2)
        gradients = tape.gradient(loss, model.trainable_weights)
        model.set_weights(before)
        unused = [
            weight.name
            for weight, gradient in zip(model.trainable_weights, gradients, strict=True)
            if gradient is None or not np.isfinite(gradient).all()
        ]
        assert unused == []

    def test_saved_weights_give_the_same_logits(self, name, networks, tmp_path):
        model, other = networks(name), build_model(small(name), 2)
        model.save_weights(tmp_path / "model.weights.h5")
        assert not np.allclose(other(IMAGES), model(IMAGES))
        other.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(other(IMAGES), model(IMAGES))


@pytest.mark.parametrize("name", AT_LENGTH)
class TestEveryModelAtLength:
    """The same, where a network is built several times, saved whole, or exported."""

    def test_the_seed_and_nothing_else_decides_where_a_network_begins(self, name):
        begun = []
        for seed in (0, 0, 1):
            keras.utils.set_random_seed(seed)
            begun.append(build_model(small(name), 2))
        same, again, other = ([weight.numpy() for weight in model.weights] for model in begun)
        assert all(np.array_equal(first, second) for first, second in zip(same, again, strict=True))
        assert any(not np.array_equal(first, second) for first, second in zip(same, other, strict=True))
        # Weights of another run are taken over by the names of layers.
        assert [layer.name for layer in begun[0].layers] == [layer.name for layer in begun[1].layers]

    def test_the_whole_model_saves_and_reloads(self, name, networks, tmp_path):
        model = networks(name)
        model.save(tmp_path / "model.keras")
        reloaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(reloaded(IMAGES), model(IMAGES))

    @pytest.mark.parametrize("precision", ["float16", "bfloat16"])
    def test_half_precision_is_finite_with_its_gradients(self, name, precision):
        model = build_model(small(name), 2, precision)
        weights = model.trainable_weights
        with tf.GradientTape() as tape:
            logits = model(images_of(2, 64, 64, 3), training=True)
            loss = tf.reduce_mean(soft_dice(logits, np.ones((2, 64, 64), np.uint8)))
        assert logits.dtype == tf.float32 and {weight.dtype for weight in weights} == {tf.float32}
        assert all(np.isfinite(array).all() for array in (logits, loss, *tape.gradient(loss, weights)))

    def test_weights_of_half_precision_serve_in_single(self, name, tmp_path):
        trained = randomized(build_model(small(name), 2, "bfloat16"))
        trained.save_weights(tmp_path / "model.weights.h5")
        model = build_model(small(name), 2)
        model.load_weights(tmp_path / "model.weights.h5")
        single, half = model(IMAGES), trained(IMAGES)
        assert np.abs(single - half).max() < 0.1 * np.abs(single).max()

    def test_its_cost_is_counted(self, name, networks):
        model = networks(name)
        # Each kernel is used at least once, and the logits alone take four bytes a pixel.
        kernels = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights if len(weight.shape) > 1)
        assert multiply_adds(model) >= kernels
        assert activation_bytes(model) > 4 * 64 * 64


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "unet")) for name in SEGMENTERS]
)
def test_the_exported_model_gives_the_same_probabilities(name, networks, tmp_path):
    recipe = small(name)
    graph = SegmentationGraph([Member(networks(name), recipe.data)], recipe.inference)
    tf.saved_model.save(graph, str(tmp_path), signatures={"serving_default": graph.segment})
    images = images_of(2, 50, 70, 1).astype(np.uint8)
    exported = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](images=tf.constant(images))
    expected = graph.segment(tf.constant(images))
    np.testing.assert_allclose(exported["probability"], expected["probability"], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "fcn_8s_fc", "deeplab_v3_plus"])
def test_a_saved_model_reloads_in_a_fresh_process_that_knows_its_layers(name, networks, tmp_path):
    model = networks(name)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", IMAGES)
    script = (
        "import sys, numpy as np, tf_keras as keras; folder = sys.argv[1]; import ustoolkit.layers.preprocessing, "
        "ustoolkit.layers.dropout; from official.vision.modeling.backbones import mobilenet; "
        "from official.vision.modeling.decoders import aspp; "
        "from official.vision.modeling.heads import segmentation_heads; "
        "model = keras.models.load_model(f'{folder}/model.keras'); "
        "np.save(f'{folder}/logits.npy', model(np.load(f'{folder}/images.npy')))"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), model(IMAGES))
