"""Segmentation on a classifier's backbone: its levels, how it begins, and what the classifier takes from it."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.networks import images_of, randomized, small
from ustoolkit.errors import RecipeError
from ustoolkit.models import build_model
from ustoolkit.models.classifiers import backbone_layers
from ustoolkit.models.fcn import bilinear_kernel
from ustoolkit.models.transfer import load_matching, weighted_layers
from ustoolkit.recipe import load_recipe

DENSENET = {"growth_rate": 4, "initial_filters": 8}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("densenet161", {**DENSENET, "blocks": (2, 1, 2, 1)}),
        ("vgg16", {}),
        *[
            pytest.param(name, {}, marks=pytest.mark.slow)
            for name in (
                "vgg19",
                "resnet50",
                "resnet101",
                "resnet50_v2",
                "resnet101_v2",
                "densenet121",
                "densenet169",
                "densenet201",
                "efficientnet_b0",
                "efficientnet_v2_b0",
            )
        ],
    ],
)
def test_a_classifier_takes_all_of_the_backbone(name, settings):
    source = randomized(build_model(small("backbone_fcn", classifier={"name": name, **settings}), 2))
    outputs = source.get_layer("backbone").output_shape
    assert [shape[1:3] for shape in outputs] == [(2, 2), (4, 4), (8, 8)]
    assert {layer.name for layer in source.layers} >= {"score_32", "score_16", "score_8", "up_16", "up_8", "up_1"}
    model = build_model(small(name, **settings), 2)
    transfer = load_matching(model, source)
    assert list(transfer.not_loaded) == ["logits_dense"]
    assert len(transfer.loaded) == len(backbone_layers(model)) == len(backbone_layers(source))
    images = images_of(1, 64, 64, 3)
    features = source.get_layer("backbone")(images)[0]
    np.testing.assert_allclose(model.get_layer("backbone")(images), features, rtol=1e-4, atol=1e-4)


def test_it_begins_as_the_coarsest_scores_interpolated():
    model = build_model(small("backbone_fcn"), 2)
    images = images_of(1, 64, 64, 3)
    coarse = keras.Model(model.input, model.get_layer("score_32").output)(images).numpy()
    assert coarse.shape == (1, 2, 2, 1)
    expected = coarse
    for factor in (2, 2, 8):
        side = expected.shape[1] * factor
        kernel = bilinear_kernel(factor, 1)
        expected = tf.nn.conv2d_transpose(expected, kernel, (1, side, side, 1), factor).numpy()
    np.testing.assert_allclose(model(images), expected, rtol=1e-4, atol=1e-6)
    finer = keras.Model(model.input, [model.get_layer(f"score_{stride}").output for stride in (16, 8)])(images)
    assert all(not np.any(scores) for scores in finer)


def test_finer_scores_are_trained():
    model = build_model(small("backbone_fcn"), 2)
    kernels = [model.get_layer(f"score_{stride}").kernel for stride in (32, 16, 8)]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images_of(1, 64, 64, 3)) ** 2)
    assert all(np.any(gradient) for gradient in tape.gradient(loss, kernels))
    names = {layer for layer in weighted_layers(model) if not layer.startswith("backbone/")}
    assert names == {"score_32", "score_16", "score_8", "up_16", "up_8", "up_1"}


def test_a_densenet_of_two_blocks_is_scored_at_its_two_levels():
    classifier = {"name": "densenet161", **DENSENET, "blocks": (1, 1)}
    model = build_model(small("backbone_fcn", classifier=classifier), 3)
    assert {layer.name for layer in model.layers if layer.name.startswith("score")} == {
        "score_8",
        "score_4",
        "score_sum_4",
    }
    assert model.output_shape == (None, 64, 64, 3)


class TestSettings:
    def test_the_classifier_is_named_in_its_own_table(self):
        recipe = load_recipe(
            "unet",
            ("model.name=backbone_fcn", "model.classifier.name=densenet161", "model.classifier.blocks=[1,1,1,1]"),
        )
        assert recipe.model.classifier.blocks == (1, 1, 1, 1)

    def test_without_a_name_it_is_the_resnet(self):
        recipe = load_recipe("unet", ("model.name=backbone_fcn", "model.classifier.pixel_normalization=imagenet_bgr"))
        assert recipe.model.classifier.name == "resnet50" and recipe.model.pixel_normalization == "imagenet_bgr"

    def test_an_unknown_classifier_and_size_are_refused(self):
        with pytest.raises(RecipeError, match="classifier") as caught:
            load_recipe("unet", ("model.name=backbone_fcn", "model.classifier.name=alexnet"))
        assert "resnet50" in str(caught.value) and "alexnet" in str(caught.value)
        with pytest.raises(RecipeError, match="multiples of 32"):
            load_recipe("unet", ("model.name=backbone_fcn", "data.image_size=[80,64]"))
