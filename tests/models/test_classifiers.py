"""Networks that classify: pooling, penalties, the mask as a channel, and the backbone's layers by depth."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.networks import images_of, randomized, small
from ustoolkit.errors import RecipeError
from ustoolkit.layers.preprocessing import PixelNormalization
from ustoolkit.models import build_model
from ustoolkit.models.backbones import APPLICATIONS, pixel_mode
from ustoolkit.models.classifiers import backbone_layers, features_of
from ustoolkit.models.cost import multiply_adds
from ustoolkit.models.transfer import weighted_layers
from ustoolkit.recipe import Recipe, load_recipe

IMAGES = images_of(2, 64, 64, 3)
NAME = "densenet161"


@pytest.mark.parametrize(("pooling", "width"), [("average", 16), ("max", 16), ("both", 32)])
def test_features_are_the_backbones_last_ones_pooled(pooling, width):
    model = randomized(build_model(small(NAME, pooling=pooling), 2))
    last = model.get_layer("backbone")(model.get_layer("pixels")(IMAGES)).numpy()
    by_hand = {"average": last.mean((1, 2)), "max": last.max((1, 2))}
    by_hand["both"] = np.concatenate([by_hand["average"], by_hand["max"]], -1)
    features = features_of(model)(IMAGES)
    assert features.shape == (2, width)
    np.testing.assert_allclose(features, by_hand[pooling], rtol=1e-4, atol=1e-5)
    head = model.get_layer("logits_dense")
    np.testing.assert_allclose(model(IMAGES), by_hand[pooling] @ head.kernel + head.bias, rtol=1e-4, atol=1e-4)


def test_features_share_the_weights_of_the_network():
    model = build_model(small(NAME), 2)
    features = features_of(model)
    before = features(IMAGES)
    kernel = model.get_layer("backbone").get_layer("conv0").kernel
    kernel.assign_add(tf.ones_like(kernel))
    assert not np.allclose(features(IMAGES), before)


def test_penalties_weigh_the_last_layer_alone():
    assert build_model(small(NAME), 2).losses == []
    model = build_model(small(NAME, l1=0.5, l2=0.25), 3)
    kernel = model.get_layer("logits_dense").kernel.numpy()
    (penalty,) = model.losses
    np.testing.assert_allclose(penalty, 0.5 * np.abs(kernel).sum() + 0.25 * (kernel**2).sum(), rtol=1e-5)


def test_dropout_acts_on_the_features_while_training_only():
    model = build_model(small(NAME, dropout=0.9), 2)
    np.testing.assert_array_equal(model(IMAGES), model(IMAGES, training=False))
    backbone = model.get_layer("backbone")
    backbone.trainable = False
    drawn = {float(model(IMAGES[:1], training=True)[0, 0]) for _ in range(4)}
    assert len(drawn) > 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mask_is_one_more_channel_that_the_network_sees(channels):
    recipe = small(NAME)
    region = recipe.classification.region.model_copy(update={"mask_channel": True})
    recipe = recipe.model_copy(
        update={
            "classification": recipe.classification.model_copy(update={"region": region}),
            "data": recipe.data.model_copy(update={"channels": channels}),
        }
    )
    model = randomized(build_model(recipe, 2))
    assert model.input_shape == (None, 64, 64, channels + 1)
    image, mask = images_of(1, 64, 64, channels), np.zeros((1, 64, 64, 1), np.float32)
    pixels = model.get_layer("pixels")(np.concatenate([image, mask + 255], -1))
    np.testing.assert_allclose(pixels[..., :-1], image / 255, rtol=1e-6)
    np.testing.assert_array_equal(pixels[..., -1], 1)
    without, within = (model(np.concatenate([image, values], -1)) for values in (mask, mask + 255))
    assert not np.allclose(without, within)


def test_what_is_no_network_is_refused():
    with pytest.raises(RecipeError, match="lesion_features") as caught:
        build_model(load_recipe("unet", ("model.name=lesion_features",)), 2)
    assert "resnet50" in str(caught.value)


def test_efficientnets_normalise_as_keras_has_them_do_themselves():
    source = keras.applications.EfficientNetV2B0(include_top=False, weights=None, input_shape=(64, 64, 3))
    own = keras.Model(source.input, source.get_layer("stem_conv").input)(IMAGES)
    for normalization in ("none", "imagenet"):
        recipe = Recipe(model={"name": "efficientnet_v2_b0", "pixel_normalization": normalization})
        np.testing.assert_allclose(PixelNormalization(pixel_mode(recipe.model))(IMAGES), own, atol=1e-3)


def test_other_backbones_take_pixels_as_they_are_told():
    assert pixel_mode(Recipe(model={"name": "vgg16", "pixel_normalization": "none"}).model) == "none"


class TestBackboneLayers:
    def test_all_with_weights_are_named_as_the_backbone_has_them(self):
        model = build_model(small(NAME), 2)
        names = backbone_layers(model)
        transferred = {name for name in weighted_layers(model) if name.startswith("backbone/")}
        assert {f"backbone/{name}" for name in names} == transferred and len(names) == len(set(names))
        assert all(model.get_layer("backbone").get_layer(name).weights for name in names)

    def test_a_densenet_has_them_in_the_order_of_its_definition(self):
        names = backbone_layers(build_model(small(NAME, blocks=(1, 1)), 2))
        layer = ("norm1", "conv1", "norm2", "conv2")
        assert names == [
            "conv0",
            "norm0",
            *[f"denseblock1_denselayer1_{part}" for part in layer],
            "transition1_norm",
            "transition1_conv",
            *[f"denseblock2_denselayer1_{part}" for part in layer],
            "norm5",
        ]

    def test_the_shortcut_of_a_resnet_stands_at_the_beginning_of_its_block(self):
        names = backbone_layers(build_model(small("resnet50"), 2))
        place = {name: number for number, name in enumerate(names)}
        assert names[0] == "conv1_conv" and names[-2:] == ["conv5_block3_3_conv", "conv5_block3_3_bn"]
        assert place["conv3_block4_3_bn"] < place["conv4_block1_0_conv"] < place["conv4_block1_2_conv"]
        assert len(names) == 106

    def test_vgg_has_its_convolutions_in_order(self):
        names = backbone_layers(build_model(small("vgg16"), 2))
        assert names == sorted(names) and len(names) == 13


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_head_stands_on_all_of_kerass_network(name):
    recipe = small(name)
    model = build_model(recipe, 2)
    whole = APPLICATIONS[name].build(include_top=False, weights=None, input_shape=(64, 64, 3))
    here = {layer: each.shapes for layer, each in weighted_layers(model.get_layer("backbone")).items()}
    there = {layer: each.shapes for layer, each in weighted_layers(whole).items()}
    there.pop("Normalization1", None)  # which `PixelNormalization` stands for
    assert here == there
    assert model.get_layer("backbone").output_shape == whole.output_shape
    assert multiply_adds(model) == multiply_adds(whole) + whole.output_shape[-1]
