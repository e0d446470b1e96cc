"""Networks: what was published is met exactly, and every builder keeps the same contract."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from ustoolkit.models import MODELS, build_model, count_trainable, logit_channels
from ustoolkit.models.unet import build_unet
from ustoolkit.recipe import Recipe, load_recipe
from ustoolkit.recipe.networks import UnetSettings
from ustoolkit.recipe.settings import DataSettings
from ustoolkit.training.losses import soft_dice


def small(name: str, **model) -> Recipe:
    """A recipe with the smallest settings that a network takes."""
    settings = {"name": name, "widths": (4, 8, 8), **model}
    return Recipe(data=DataSettings(image_size=(64, 64), channels=3), model=UnetSettings(**settings))


def losses_of_steps(recipe: Recipe, batch: int, steps: int, rate: float) -> list[float]:
    """The loss before each of some steps on one batch of bright and dark pixels."""
    keras.utils.set_random_seed(0)
    model = build_model(recipe, 2)
    shape = (batch, *recipe.data.image_size, recipe.data.channels)
    images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    masks = (images[..., 0] > 128).astype(np.uint8)
    optimizer = keras.optimizers.Adam(rate)
    losses = []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(soft_dice(model(images, training=True), masks))
        gradients = tape.gradient(loss, model.trainable_weights)
        optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        losses.append(float(loss))
    return losses


def test_the_published_unet_has_the_published_number_of_weights():
    assert count_trainable(build_model(load_recipe("unet"), 2)) == 17_267_393


def test_grey_input_saves_the_weights_of_two_channels():
    recipe = load_recipe("unet", ["data.channels=1"])
    assert count_trainable(build_model(recipe, 2)) == 17_267_393 - 2 * 9 * 64


def test_decoder_narrows_as_published():
    model = build_unet(UnetSettings(), DataSettings(), 1)
    shapes = {layer.name: layer.output_shape[-1] for layer in model.layers if "conv" in layer.name}
    decoder = [(shapes[f"decoder{level}_conv1"], shapes[f"decoder{level}_conv2"]) for level in (3, 2, 1, 0)]
    assert decoder == [(512, 256), (256, 128), (128, 64), (64, 64)]


@pytest.mark.parametrize("widths", [(4, 8), (3, 5, 7), (4, 4, 4, 4, 4)])
@pytest.mark.parametrize("normalization", ["batch", "none"])
def test_any_width_and_depth_builds(widths, normalization):
    model = build_unet(UnetSettings(widths=widths, normalization=normalization), DataSettings(image_size=(32, 48)), 1)
    assert model(np.zeros((1, 32, 48, 3), np.float32)).shape == (1, 32, 48, 1)


@pytest.mark.parametrize("name", MODELS)
class TestEveryModel:
    """One contract for every entry of the registry."""

    @pytest.mark.parametrize("num_classes", [2, 4])
    def test_logits_have_the_size_of_the_input(self, name, num_classes):
        model = build_model(small(name), num_classes)
        logits = model(np.zeros((2, 64, 64, 3), np.float32))
        assert logits.shape == (2, 64, 64, logit_channels(num_classes))
        assert logits.dtype == tf.float32

    def test_steps_lower_the_loss_on_a_fixed_batch(self, name):
        losses = losses_of_steps(small(name, dropout=0.0), batch=4, steps=6, rate=1e-2)
        assert losses[-1] < losses[0] - 0.02

    def test_saved_weights_give_the_same_logits(self, name, tmp_path):
        model = build_model(small(name), 2)
        images = np.random.default_rng(1).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
        model.save_weights(tmp_path / "model.weights.h5")
        other = build_model(small(name), 2)
        assert not np.allclose(other(images), model(images))
        other.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(other(images), model(images))

    def test_the_whole_model_saves_and_reloads(self, name, tmp_path):
        model = build_model(small(name), 2)
        images = np.random.default_rng(1).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
        model.save(tmp_path / "model.keras")
        reloaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(reloaded(images), model(images))


@pytest.mark.parametrize("mode", ["unit", "standardize"])
def test_pixel_normalization_is_as_said(mode):
    model = build_unet(UnetSettings(widths=(2, 2), pixel_normalization=mode), DataSettings(image_size=(8, 8)), 1)
    layer = model.get_layer("pixels")
    images = np.random.default_rng(2).uniform(0, 255, (3, 8, 8, 3)).astype(np.float32)
    values = layer(images).numpy()
    if mode == "unit":
        np.testing.assert_allclose(values, images / 255, rtol=1e-6)
    else:
        np.testing.assert_allclose(values.mean(axis=(1, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(axis=(1, 2, 3)), 1, atol=1e-3)
        assert np.isfinite(layer(np.full((1, 8, 8, 3), 7.0, np.float32)).numpy()).all()


@pytest.mark.slow
def test_the_published_unet_trains_at_full_size():
    losses = losses_of_steps(load_recipe("unet", ["model.dropout=0.0"]), batch=2, steps=3, rate=1e-3)
    assert losses[-1] < losses[0]
