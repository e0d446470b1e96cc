"""Networks: what was published is met exactly, and every builder keeps the same contract."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from ustoolkit.inference.graph import SegmentationGraph
from ustoolkit.models import MODELS, build_model, count_trainable, logit_channels
from ustoolkit.models.heads import supervised
from ustoolkit.models.unet import build_unet
from ustoolkit.recipe import Recipe, load_recipe
from ustoolkit.recipe.networks import UnetSettings
from ustoolkit.recipe.settings import DataSettings
from ustoolkit.training.losses import soft_dice

# Group size 0: none. Li et al., Lightweight U-Net for Lesion Segmentation in Ultrasound Images, ISBI 2021.
PUBLISHED_WEIGHTS = [
    ("unet", 0, 17_267_393),
    ("light_unet", 0, 11_000_257),
    ("lighter_unet", 128, 7_944_661),
    ("lighter_unet", 64, 4_995_541),
    ("lighter_unet", 32, 3_465_685),
    ("lighter_unet", 16, 2_700_757),
    ("lighter_unet", 8, 2_318_293),
    ("lighter_unet", 4, 2_127_061),
    ("lighter_unet", 2, 2_031_445),
    ("lighter_unet", 1, 1_983_583),
]


def small(name: str, **model) -> Recipe:
    """A recipe with the smallest settings that a network takes."""
    settings = {"name": name, "widths": (4, 8, 8), **model}
    return Recipe(data=DataSettings(image_size=(64, 64), channels=3), model=settings)


def build(image_size: tuple[int, int] = (32, 48), outputs: int = 1, **model) -> keras.Model:
    """A small U-net with some settings."""
    return build_unet(UnetSettings(**{"widths": (4, 8, 8), **model}), DataSettings(image_size=image_size), outputs)


def images_of(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)


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


@pytest.mark.parametrize(("name", "group_size", "published"), PUBLISHED_WEIGHTS)
def test_published_networks_have_the_published_number_of_weights(name, group_size, published):
    overrides = [f"model.name={name}", *([f"model.group_size={group_size}"] if group_size else [])]
    assert count_trainable(build_model(load_recipe("unet", overrides), 2)) == published


def test_ronnebergers_decoder_mirrors_the_encoder_without_batch_normalisation():
    model = build_model(load_recipe("ronneberger_unet"), 2)
    shapes = {layer.name: layer.output_shape[-1] for layer in model.layers if "conv" in layer.name}
    widths = [64, 128, 256, 512, 1024]
    for level, width in enumerate(widths):
        parts = ("encoder", "decoder") if level < 4 else ("encoder",)
        assert {shapes[f"{part}{level}_conv{number}"] for part in parts for number in (1, 2)} == {width}
    assert not any("norm" in layer.name for layer in model.layers)
    # Counted by hand: 3 × 3 kernels with bias down to 1024 filters, and up again on what is joined.
    pairs = [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    down = sum(9 * first * width + width + 9 * width * width + width for first, width in pairs)
    joined = [(1024 + 512, 512), (512 + 256, 256), (256 + 128, 128), (128 + 64, 64)]
    up = sum(9 * first * width + width + 9 * width * width + width for first, width in joined)
    assert count_trainable(model) == down + up + 65


def test_grey_input_saves_the_weights_of_two_channels():
    recipe = load_recipe("unet", ["data.channels=1"])
    assert count_trainable(build_model(recipe, 2)) == 17_267_393 - 2 * 9 * 64


def test_decoder_narrows_as_published():
    model = build_unet(UnetSettings(), DataSettings(), 1)
    shapes = {layer.name: layer.output_shape[-1] for layer in model.layers if "conv" in layer.name}
    decoder = [(shapes[f"decoder{level}_conv1"], shapes[f"decoder{level}_conv2"]) for level in (3, 2, 1, 0)]
    assert decoder == [(512, 256), (256, 128), (128, 64), (64, 64)]


@pytest.mark.parametrize("widths", [(4, 8), (3, 5, 7), (4, 4, 4, 4, 4)])
@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
def test_any_width_and_depth_builds(widths, normalization):
    model = build(widths=widths, normalization=normalization)
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
        images = images_of(1, 64, 64, 3)
        model.save_weights(tmp_path / "model.weights.h5")
        other = build_model(small(name), 2)
        assert not np.allclose(other(images), model(images))
        other.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(other(images), model(images))

    def test_the_whole_model_saves_and_reloads(self, name, tmp_path):
        model = build_model(small(name), 2)
        model.save(tmp_path / "model.keras")
        reloaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(reloaded(images_of(1, 64, 64, 3)), model(images_of(1, 64, 64, 3)))

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
        trained = build_model(small(name), 2, "bfloat16")
        trained.save_weights(tmp_path / "model.weights.h5")
        model = build_model(small(name), 2)
        model.load_weights(tmp_path / "model.weights.h5")
        single, half = model(images_of(1, 64, 64, 3)), trained(images_of(1, 64, 64, 3))
        assert np.abs(single - half).max() < 0.1 * np.abs(single).max()

    def test_the_saved_model_gives_the_same_probabilities(self, name, tmp_path):
        recipe = small(name)
        graph = SegmentationGraph(build_model(recipe, 2), recipe)
        tf.saved_model.save(graph, str(tmp_path), signatures={"serving_default": graph.segment})
        images = images_of(2, 50, 70, 1).astype(np.uint8)
        exported = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](images=tf.constant(images))
        expected = graph.segment(tf.constant(images))
        np.testing.assert_allclose(exported["probability"], expected["probability"], atol=1e-6)


VARIANTS = {
    "two scales": {"scales": 2},
    "attention": {"skips": "attention"},
    "nested": {"skips": "nested", "decoder": "mirrored"},
    "noisy": {"activation": "nhselu"},
    "noisy where saturated": {"activation": "nhrelu", "noise_form": "saturation"},
    "self-normalising": {"activation": "selu", "normalization": "none"},
    "all at once": {"scales": 2, "skips": "nested", "decoder": "mirrored", "activation": "nhrelu"},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", MODELS)
class TestEveryVariant:
    """Options keep the contract, in every network."""

    def test_learns_saves_and_is_silent_at_inference(self, name, variant, tmp_path):
        recipe = small(name, dropout=0.0, **VARIANTS[variant])
        losses = losses_of_steps(recipe, batch=4, steps=6, rate=1e-2)
        assert losses[-1] < losses[0] - 0.01
        model, other = build_model(recipe, 3), build_model(recipe, 3)
        images = images_of(1, 64, 64, 3)
        model.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
        assert model(images).shape == (1, 64, 64, 3)
        np.testing.assert_array_equal(model(images), model(images))
        np.testing.assert_array_equal(other(images), model(images))


def test_two_scales_give_the_mean_of_both_heads():
    model = build(scales=2)
    full, half = supervised(model)(images_of(1, 32, 48, 3))
    assert (full.shape, half.shape) == ((1, 32, 48, 1), (1, 16, 24, 1))
    doubled = tf.image.resize(half, (32, 48), "bilinear")
    np.testing.assert_allclose(model(images_of(1, 32, 48, 3)), (full + doubled) / 2, atol=1e-6)


def test_one_scale_has_one_head():
    model = build()
    head = supervised(model)(images_of(1, 32, 48, 3))
    np.testing.assert_array_equal(head, model(images_of(1, 32, 48, 3)))


def test_heads_train_the_weights_of_the_model():
    model = build(scales=2)
    assert {id(weight) for weight in supervised(model).weights} == {id(weight) for weight in model.weights}


def test_noise_and_dropout_are_there_while_training():
    for settings in ({"activation": "nhrelu", "dropout": 0.0}, {"dropout": 0.5}):
        model = build(normalization="none", **settings)
        first, second = (model(images_of(1, 32, 48, 3), training=True) for _ in range(2))
        assert np.abs(first - second).max() > 0


def test_attention_can_close_a_skip_connection():
    model = build(skips="attention", widths=(4, 8))
    gate = model.get_layer("decoder0_attention_weight")
    gate.set_weights([np.zeros_like(gate.get_weights()[0]), np.array([-100.0], np.float32)])
    weighted = keras.Model(model.input, model.get_layer("decoder0_attention_weighted").output)
    np.testing.assert_allclose(weighted(images_of(1, 32, 48, 3)), 0, atol=1e-30)


def test_nested_skips_join_all_nodes_of_their_level():
    model = build(widths=(4, 8, 16, 32), skips="nested", decoder="mirrored")
    joined = {layer.name: layer.output_shape[-1] for layer in model.layers if layer.name.endswith("_join")}
    # Level 0 has 4 filters: one, two, then three nodes of it, and 8 filters from below.
    assert [joined[f"node0_{column}_join"] for column in (1, 2, 3)] == [12, 16, 20]
    assert joined["node2_1_join"] == 16 + 32 and len(joined) == 6


def test_a_network_of_groups_computes_within_them():
    model = build_model(small("lighter_unet", group_size=2, widths=(8, 8, 8)), 2)
    assert model.get_layer("encoder0_conv1").kernel.shape == (3, 3, 3, 3)  # an image's channels stay together
    assert model.get_layer("encoder1_conv2").kernel.shape == (3, 3, 2, 8)
    light = build_model(small("light_unet"), 2)
    assert isinstance(light.get_layer("encoder1_conv1"), keras.layers.Conv2D)
    assert light.get_layer("encoder1_conv2").kernel.shape == (3, 3, 1, 8)


@pytest.mark.parametrize("mode", ["unit", "standardize"])
def test_pixel_normalization_is_as_said(mode):
    model = build((8, 8), widths=(2, 2), pixel_normalization=mode)
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
@pytest.mark.parametrize("name", ["unet", "light_unet", "lighter_unet_128", "ronneberger_unet", "lymph_node_unet"])
def test_published_networks_train_at_full_size(name):
    losses = losses_of_steps(load_recipe(name, ["model.dropout=0.0"]), batch=2, steps=3, rate=1e-3)
    assert losses[-1] < losses[0]
