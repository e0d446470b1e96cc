"""FCN: published counts, VGG16's layers, and upsampling that begins as linear interpolation."""

from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.networks import images_of, small
from ustoolkit.errors import RecipeError
from ustoolkit.models import build_model, count_trainable
from ustoolkit.models.fcn import bilinear_kernel
from ustoolkit.recipe import load_recipe

VGG16, ITS_LAST_LAYER = 138_357_544, 4096 * 1000 + 1000
CONVOLUTIONS = 14_714_688  # VGG16's, of an image of three channels
SHIPPED = ["fcn_32s", "fcn_16s", "fcn_8s"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_convolutional_fcn_has_the_published_number_of_weights(name):
    widths = [512, 512, 256, 128, 64, 32]
    transposed = sum(9 * first * second + second for first, second in pairwise(widths))
    by_hand = CONVOLUTIONS + transposed + 2 * sum(widths[1:]) + 32 + 1
    # Skips are added as they are, so that all three have as many.
    assert count_trainable(build_model(load_recipe(name), 2)) == by_hand == 18_643_713


@pytest.mark.parametrize(
    ("name", "scores", "upsampling"),
    [
        pytest.param("fcn_32s_fc", 4097, 64 * 64, marks=pytest.mark.slow),
        pytest.param("fcn_16s_fc", 4097 + 513, 4 * 4 + 32 * 32, marks=pytest.mark.slow),
        pytest.param("fcn_8s_fc", 4097 + 513 + 257, 4 * 4 + 4 * 4 + 16 * 16, marks=pytest.mark.slow),
    ],
)
def test_the_fully_connected_form_holds_all_of_vgg16_but_its_last_layer(name, scores, upsampling):
    model = build_model(load_recipe("fcn_8s", [f"model.name={name}"]), 2)
    assert count_trainable(model) == VGG16 - ITS_LAST_LAYER + scores + upsampling


def test_the_convolutions_are_named_and_shaped_as_keras_has_them():
    vgg16 = keras.applications.VGG16(weights=None, include_top=False, input_shape=(64, 64, 3))
    model = build_model(load_recipe("fcn_32s", ["data.image_size=[64, 64]"]), 2)
    named = [layer for layer in vgg16.layers if layer.weights]
    assert len(named) == 13 and sum(count_trainable(layer) for layer in named) == CONVOLUTIONS
    for layer in named:
        own = model.get_layer(layer.name)
        assert [weight.shape for weight in own.weights] == [weight.shape for weight in layer.weights]


def test_the_convolutions_compute_what_vgg16_does():
    vgg16 = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    model = build_model(load_recipe("fcn_8s", ["data.image_size=[32, 32]"]), 2)
    for layer in vgg16.layers[1:]:
        model.get_layer(layer.name).set_weights(layer.get_weights())
    pooled = keras.Model(model.input, model.get_layer("block5_pool").output)
    images = images_of(2, 32, 32, 3)
    np.testing.assert_allclose(pooled(images), vgg16(images / 255), atol=1e-6)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 8, 16, 32])
def test_the_kernel_interpolates_as_image_resizing_does(factor):
    channels = 2
    values = np.random.default_rng(0).normal(size=(1, 6, 7, channels)).astype(np.float32)
    kernel = bilinear_kernel(factor, channels)
    grown = tf.nn.conv2d_transpose(values, kernel, (1, 6 * factor, 7 * factor, channels), factor, "SAME")
    expected = tf.image.resize(values, (6 * factor, 7 * factor), "bilinear")
    inner = slice(factor, -factor)  # beyond the border the convolution takes zeros, resizing the nearest pixel
    np.testing.assert_allclose(grown[:, inner, inner], expected[:, inner, inner], atol=1e-5)


@pytest.mark.parametrize(("name", "factors"), [("fcn_16s_fc", (2, 16)), ("fcn_8s_fc", (2, 2, 8))])
def test_a_finer_network_begins_as_the_coarser_one(name, factors):
    def built(of: str) -> keras.Model:
        recipe = small(of)
        data = recipe.data.model_copy(update={"image_size": (256, 256)})
        return build_model(recipe.model_copy(update={"data": data}), 3)

    coarse, fine = built("fcn_32s_fc"), built(name)
    for layer in coarse.layers:
        if layer.name != "up_1":
            fine.get_layer(layer.name).set_weights(layer.get_weights())
    images = images_of(1, 256, 256, 3)
    expected = keras.Model(coarse.input, coarse.get_layer("score_fc7").output)(images)
    for factor in factors:
        expected = tf.image.resize(expected, [side * factor for side in expected.shape[1:3]], "bilinear")
    assert np.abs(expected).max() > 0.01
    inner = slice(64, -64)
    np.testing.assert_allclose(fine(images)[:, inner, inner], expected[:, inner, inner], atol=1e-5)


def test_skips_are_those_of_the_name():
    added = {
        name: [layer.name for layer in build_model(small(name), 2).layers if isinstance(layer, keras.layers.Add)]
        for name in (*SHIPPED, "fcn_32s_fc", "fcn_16s_fc", "fcn_8s_fc")
    }
    assert added == {
        "fcn_32s": [],
        "fcn_16s": ["decoder1_add"],
        "fcn_8s": ["decoder1_add", "decoder2_add"],
        "fcn_32s_fc": [],
        "fcn_16s_fc": ["score_sum4"],
        "fcn_8s_fc": ["score_sum4", "score_sum3"],
    }


@pytest.mark.parametrize(
    ("overrides", "answer"),
    [
        (
            ["model.decoder_widths=[512, 128, 128, 64, 32]"],
            "decoder_widths begins with 512, 128.* it begins with 512, 256",
        ),
        (["model.widths=[8, 8, 8, 8, 8]"], "decoder_widths begins with 512, 256.* it begins with 8, 8"),
        (["model.widths=[8, 8, 8, 8]"], "model.widths"),
        (["data.image_size=[240, 256]"], "240 × 256, and this network needs multiples of 32.* or the network"),
        (["model.name=fcn_8s_fc", "data.image_size=[16, 16]"], "needs multiples of 32"),
        (["model.name=fcn_8s_fc", "model.decoder_widths=[8, 8, 8, 8, 8]"], "model.decoder_widths: no such setting"),
        (["model.name=fcn_4s"], "model.name: .*'fcn_8s'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_the_way_out(overrides, answer):
    with pytest.raises(RecipeError, match=answer):
        load_recipe("fcn_8s", overrides)
