"""Every network that classifies keeps one contract: in, out, learning, saving, precision, export and cost."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.networks import CLASSIFIERS, images_of, randomized, small
from ustoolkit.layers.counted import CountedLayer
from ustoolkit.models import build_model
from ustoolkit.models.cost import activation_bytes, multiply_adds
from ustoolkit.models.heads import supervised

IMAGES = images_of(2, 64, 64, 3)
QUICK = {"vgg16", "resnet50", "densenet161"}
SMALL = {"densenet161"}  # which is built, written and computed in half precision in no time


RELATIVES = {"vgg19", "resnet101", "resnet101_v2", "densenet169", "densenet201"}  # deeper, of the same layers


def marked(quick, names=CLASSIFIERS):
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in names]


@pytest.fixture(scope="module")
def networks():
    """One network of each name, for two labels, built when it is asked for; tests that change weights put them back."""
    built = {}

    def network(name):
        if name not in built:
            built[name] = randomized(build_model(small(name), 2))
        return built[name]

    return network


def resized(name, image_size, channels, mask_channel=False):
    recipe = small(name)
    data = recipe.data.model_copy(update={"image_size": image_size, "channels": channels})
    region = recipe.classification.region.model_copy(update={"mask_channel": mask_channel})
    classification = recipe.classification.model_copy(update={"region": region})
    return recipe.model_copy(update={"data": data, "classification": classification})


@pytest.mark.parametrize("name", marked(QUICK))
class TestEveryClassifier:
    """At 64 × 64 pixels."""

    def test_two_labels_have_one_logit(self, name, networks):
        model = networks(name)
        logits = model(IMAGES)
        assert logits.shape == (2, 1) and logits.dtype == tf.float32 and np.isfinite(logits).all()
        np.testing.assert_array_equal(supervised(model)(IMAGES), logits)

    def test_four_labels_of_grey_images_with_a_mask_and_sides_that_differ(self, name):
        model = build_model(resized(name, (40, 72), 1, mask_channel=True), 4)
        assert model.input_shape == (None, 40, 72, 2)
        assert model(images_of(3, 40, 72, 2)).shape == (3, 4)

    def test_every_trainable_weight_has_a_gradient(self, name, networks):
        model = networks(name)
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

    def test_its_cost_is_counted(self, name, networks):
        model = networks(name)
        kernels = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights if len(weight.shape) > 1)
        assert multiply_adds(model) >= kernels
        assert activation_bytes(model) > 4 * 64 * 64


@pytest.mark.parametrize("name", marked(SMALL, [name for name in CLASSIFIERS if name not in RELATIVES]))
class TestEveryClassifierAtLength:
    """The same, where a network is built anew, saved whole, exported, or computed in half precision."""

    def test_steps_lower_the_loss_on_a_fixed_batch(self, name):
        keras.utils.set_random_seed(0)
        options = {} if name == "densenet161" else {"pixel_normalization": "imagenet"}
        model = build_model(small(name, dropout=0.0, **options), 2)
        images, labels = images_of(4, 64, 64, 3), np.float32([[1], [0], [1], [1]])
        images[1] /= 4
        optimizer, losses = keras.optimizers.Adam(1e-3), []
        for _ in range(5):
            with tf.GradientTape() as tape:
                logits = model(images, training=True)
                loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
            gradients = tape.gradient(loss, model.trainable_weights)
            optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
            losses.append(float(loss))
        assert losses[-1] < losses[0] - 0.02

    def test_saved_weights_give_the_same_logits(self, name, networks, tmp_path):
        model, other = networks(name), build_model(small(name), 2)
        model.save_weights(tmp_path / "model.weights.h5")
        assert not np.allclose(other(IMAGES), model(IMAGES))
        other.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(other(IMAGES), model(IMAGES))

    def test_the_exported_network_gives_the_same_logits(self, name, networks, tmp_path):
        model, module = networks(name), tf.Module()
        module.model = model
        specification = tf.TensorSpec((None, 64, 64, 3), tf.float32, name="images")
        module.classify = tf.function(lambda images: {"logits": model(images, training=False)}, [specification])
        tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.classify})
        exported = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](images=tf.constant(IMAGES))
        expected = model(IMAGES)
        np.testing.assert_allclose(exported["logits"], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())

    def test_all_that_is_random_while_training_is_counted(self, name, networks):
        model = networks(name)
        random = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)]
        assert random == [] and any(isinstance(layer, CountedLayer) for layer in model._flatten_layers())

    def test_the_seed_and_nothing_else_decides_where_a_network_begins(self, name):
        begun = []
        for seed in (0, 0, 1):
            keras.utils.set_random_seed(seed)
            begun.append(build_model(small(name), 2))
        same, again, other = ([weight.numpy() for weight in model.weights] for model in begun)
        assert all(np.array_equal(first, second) for first, second in zip(same, again, strict=True))
        assert any(not np.array_equal(first, second) for first, second in zip(same, other, strict=True))

    def test_the_whole_model_saves_and_reloads(self, name, networks, tmp_path):
        model = networks(name)
        model.save(tmp_path / "model.keras")
        reloaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(reloaded(IMAGES), model(IMAGES))

    @pytest.mark.parametrize("precision", ["float16", "bfloat16"])
    def test_half_precision_is_finite_with_its_gradients(self, name, precision):
        model = build_model(resized(name, (32, 32), 3), 2, precision)
        weights = model.trainable_weights
        with tf.GradientTape() as tape:
            logits = model(images_of(4, 32, 32, 3), training=True)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.ones_like(logits), logits))
        assert logits.dtype == tf.float32 and {weight.dtype for weight in weights} == {tf.float32}
        assert all(np.isfinite(array).all() for array in (logits, loss, *tape.gradient(loss, weights)))

    def test_weights_of_half_precision_serve_in_single(self, name, networks, tmp_path):
        trained = build_model(small(name), 2, "bfloat16")
        trained.set_weights(networks(name).get_weights())
        trained.save_weights(tmp_path / "model.weights.h5")
        model = build_model(small(name), 2)
        model.load_weights(tmp_path / "model.weights.h5")
        single, half = model(IMAGES), trained(IMAGES)
        assert np.abs(single - half).max() < 0.1 * np.abs(single).max()


@pytest.mark.slow
def test_a_saved_classifier_reloads_in_a_fresh_process_that_knows_its_layers(networks, tmp_path):
    model = networks("densenet161")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", IMAGES)
    script = (
        "import sys, numpy as np, tf_keras as keras; folder = sys.argv[1]; import ustoolkit.layers.preprocessing, "
        "ustoolkit.layers.dropout; model = keras.models.load_model(f'{folder}/model.keras'); "
        "np.save(f'{folder}/logits.npy', model(np.load(f'{folder}/images.npy')))"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), model(IMAGES))
