"""DeepLab: published backbones, and a composition equal to tf-models-official's own."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.networks import images_of, randomized, small
from ustoolkit.errors import RecipeError
from ustoolkit.models import build_model, count_trainable
from ustoolkit.models.deeplab import BACKBONE, build_backbone
from ustoolkit.recipe import load_recipe
from ustoolkit.recipe.networks import DeeplabV3Settings
from ustoolkit.recipe.settings import DataSettings

SMALL = DataSettings(image_size=(64, 96))


def backbone(**settings) -> keras.Model:
    return build_backbone(DeeplabV3Settings(**settings), SMALL)


def channels_of(model: keras.Model) -> dict[str, int]:
    return {level: features.shape[-1] for level, features in model.output.items()}


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # The networks that classify, less their last layer; MobileNetV2 also less its last convolution.
        ("resnet50", 25_557_032 - 2_049_000),
        pytest.param("resnet101", 44_549_160 - 2_049_000, marks=pytest.mark.slow),
        ("mobilenet_v2", 3_504_872 - 1_281_000 - (320 * 1280 + 2 * 1280)),
    ],
)
def test_a_backbone_of_width_one_is_the_published_one(name, published):
    assert count_trainable(backbone(backbone=name)) == published


@pytest.mark.slow
def test_v3_plus_with_resnet101_has_the_weights_counted_by_hand():
    pyramid = 2 * (2048 * 256 + 512) + 3 * (9 * 2048 * 256 + 512) + 5 * 256 * 256 + 512
    decoder = 256 * 48 + 96 + 9 * (256 + 48) * 256 + 512 + 9 * 256 * 256 + 512 + 256 + 1
    by_hand = 44_549_160 - 2_049_000 + pyramid + decoder
    assert count_trainable(build_model(load_recipe("deeplab_v3_plus_resnet101"), 2)) == by_hand == 59_339_169


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
def test_features_have_the_output_stride_and_a_quarter_of_the_resolution(name, output_stride):
    model = backbone(backbone=name, backbone_width=0.1, output_stride=output_stride)
    sides = {level: tuple(features.shape[1:3]) for level, features in model.output.items()}
    last = {8: "3", 16: "4"}[output_stride]
    assert sides == {"2": (16, 24), last: (64 // output_stride, 96 // output_stride)}


@pytest.mark.slow
def test_narrow_resnets_have_the_scaled_filters_and_do_not_change_the_published():
    assert channels_of(backbone(backbone="resnet50", backbone_width=0.25)) == {"2": 64, "4": 512}
    assert channels_of(backbone(backbone="resnet50", backbone_width=0.5)) == {"2": 128, "4": 1024}
    assert channels_of(backbone(backbone="resnet50")) == {"2": 256, "4": 2048}
    assert channels_of(backbone(backbone="mobilenet_v2")) == {"2": 24, "4": 320}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deeplab_v3", "deeplab_v3_plus"])
def test_the_composition_equals_tf_models_officials_own(name):
    from official.vision.modeling.backbones.resnet_deeplab import DilatedResNet
    from official.vision.modeling.decoders.aspp import ASPP
    from official.vision.modeling.heads.segmentation_heads import SegmentationHead

    recipe = small(name, backbone="resnet50", backbone_width=1.0, output_stride=16)
    model = randomized(build_model(recipe, 4))
    settings, images = recipe.model, images_of(1, 64, 64, 3)
    parts = (
        DilatedResNet(50, 16, keras.layers.InputSpec(shape=[None, 64, 64, 3])),
        ASPP(4, list(settings.rates), settings.pyramid_width),
        SegmentationHead(
            4,
            4,
            num_convs=2,
            num_filters=settings.decoder_width,
            feature_fusion="deeplabv3plus",
            low_level_num_filters=settings.skip_width,
        )
        if name == "deeplab_v3_plus"
        else SegmentationHead(4, 4, num_convs=0),
    )

    def own() -> tf.Tensor:
        endpoints = parts[0](images / np.float32(255), training=False)
        return parts[2]((endpoints, parts[1](endpoints, training=False)), training=False)

    own()  # makes the weights
    for part, layer in zip(parts, (BACKBONE, "pyramid", "decoder"), strict=True):
        part.set_weights(model.get_layer(layer).get_weights())
    logits = keras.Model(model.input, model.get_layer("logits_coarse").output)(images)
    assert np.abs(logits).max() > 0.1
    np.testing.assert_array_equal(logits, own())


def test_v2_sums_its_branches_and_interpolates():
    model = randomized(build_model(small("deeplab_v2", rates=(1, 2, 3)), 3))
    names = [f"branch{number}_scores" for number in (1, 2, 3)]
    images = images_of(1, 64, 64, 3)
    branches = keras.Model(model.input, [model.get_layer(name).output for name in names])(images)
    expected = tf.image.resize(tf.add_n(branches), (64, 64), "bilinear")
    np.testing.assert_allclose(model(images), expected, atol=1e-5 * np.abs(expected).max())


def test_v2_of_one_rate_has_nothing_to_sum():
    assert build_model(small("deeplab_v2", rates=(6,)), 2)(images_of(1, 64, 64, 3)).shape == (1, 64, 64, 1)


def dilations(layer: tf.Module) -> list[int]:
    """Of its 3 × 3 convolutions."""
    parts = (layer, *layer.submodules)
    return [
        part.dilation_rate[0] for part in parts if isinstance(part, keras.layers.Conv2D) and part.kernel_size[0] > 1
    ]


def test_rates_are_the_dilations():
    v2 = build_model(small("deeplab_v2", rates=(2, 5), branch_widths=()), 2)
    assert [dilations(v2.get_layer(f"branch{number}_scores")) for number in (1, 2)] == [[2], [5]]
    deep = build_model(small("deeplab_v2", rates=(2, 5)), 2)
    assert dilations(deep.get_layer("branch2_fc6")) == [5] and dilations(deep.get_layer("branch2_scores")) == []
    v3 = build_model(small("deeplab_v3", rates=(2, 5)), 2)
    assert sorted(dilations(v3.get_layer("pyramid"))) == [2, 5]


@pytest.mark.parametrize("num_classes", [3, 5])
def test_odd_class_counts_are_taken(num_classes):
    model = build_model(small("deeplab_v3_plus"), num_classes)
    assert model(images_of(1, 64, 64, 3)).shape == (1, 64, 64, num_classes)


@pytest.mark.parametrize(
    ("overrides", "answer"),
    [
        (["data.image_size=[72, 64]"], "72 × 64, and this network needs multiples of 16"),
        (["model.output_stride=32"], "model.output_stride: .*8 or 16, found 32"),
        (["model.rates=[]"], "model.rates"),
        (["model.backbone=resnet5"], "model.backbone: .*'resnet50'"),
        (["model.backbone_width=0"], "model.backbone_width: .*greater than 0"),
        (["model.name=deeplab_v3", "model.skip_width=4"], "skip_width: no such setting of 'deeplab_v3'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides, answer):
    with pytest.raises(RecipeError, match=answer):
        load_recipe("deeplab_v3_plus_mobilenet", overrides)


def test_tf_models_official_is_imported_only_where_a_deeplab_is_built():
    script = "import sys, ustoolkit.models; sys.exit('official' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
