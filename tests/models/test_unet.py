"""The U-net family: what was published is met exactly, and its options do what they say."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.networks import images_of, losses_of_steps, small
from ustoolkit.errors import RecipeError
from ustoolkit.models import MODELS, build_model, count_trainable
from ustoolkit.models.cost import multiply_adds
from ustoolkit.models.heads import supervised
from ustoolkit.models.unet import build_unet
from ustoolkit.recipe import load_recipe
from ustoolkit.recipe.networks import UnetSettings
from ustoolkit.recipe.settings import DataSettings

UNETS = [name for name, builder in MODELS.items() if builder is build_unet]
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


def build(image_size: tuple[int, int] = (32, 48), outputs: int = 1, **model) -> keras.Model:
    """A small U-net with some settings."""
    return build_unet(UnetSettings(**{"widths": (4, 8, 8), **model}), DataSettings(image_size=image_size), outputs)


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


VARIANTS = {
    "two scales": {"scales": 2},
    "behind a stem": {"stem": 2, "scales": 2},
    "attention": {"skips": "attention"},
    "nested": {"skips": "nested", "decoder": "mirrored"},
    "noisy": {"activation": "nhselu"},
    "noisy where saturated": {"activation": "nhrelu", "noise_form": "saturation"},
    "self-normalising": {"activation": "selu", "normalization": "none"},
    "all at once": {"scales": 2, "skips": "nested", "decoder": "mirrored", "activation": "nhrelu"},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "light_unet" else name for name in UNETS]
)
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


@pytest.mark.parametrize("stem", [2, 4])
def test_behind_a_stem_all_is_smaller_but_the_heads(stem):
    model = build(scales=2, stem=stem)
    full, half = supervised(model)(images_of(1, 32, 48, 3))
    assert (full.shape, half.shape) == ((1, 32, 48, 1), (1, 16, 24, 1))
    assert model.get_layer("encoder0_conv1").input_shape == (None, 32 // stem, 48 // stem, 4)
    assert multiply_adds(model) < multiply_adds(build(scales=2)) / stem


def test_an_input_that_no_stem_divides_is_refused():
    with pytest.raises(RecipeError, match="multiples of 16"):
        load_recipe("fast", ["model.stem=4", "model.widths=[4,8,8]", "data.image_size=[72,72]"])


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "light_unet", "lighter_unet_128", "ronneberger_unet", "lymph_node_unet"])
def test_published_networks_train_at_full_size(name):
    losses = losses_of_steps(load_recipe(name, ["model.dropout=0.0"]), batch=2, steps=3, rate=1e-3)
    assert losses[-1] < losses[0]
