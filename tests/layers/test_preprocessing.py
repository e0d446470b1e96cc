"""Pixel normalisation: each mode by its formula, grey as colour, and Keras's own as the oracle."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from ustoolkit.layers.preprocessing import PixelNormalization

IMAGES = np.random.default_rng(2).uniform(0, 255, (3, 8, 8, 3)).astype(np.float32)
MODES = ["unit", "standardize", "symmetric", "imagenet", "imagenet_bgr", "none"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("unit", IMAGES / 255),
        ("symmetric", keras.applications.mobilenet_v2.preprocess_input(IMAGES.copy())),
        ("imagenet", keras.applications.imagenet_utils.preprocess_input(IMAGES.copy(), mode="torch")),
        ("imagenet_bgr", keras.applications.vgg16.preprocess_input(IMAGES.copy())),
        ("none", keras.applications.efficientnet.preprocess_input(IMAGES.copy())),
    ],
)
def test_values_are_as_keras_has_them(mode, expected):
    np.testing.assert_allclose(PixelNormalization(mode)(IMAGES), expected, rtol=1e-4, atol=1e-4)


def test_standardizing_gives_each_image_mean_zero_and_deviation_one():
    values = PixelNormalization("standardize")(IMAGES).numpy()
    np.testing.assert_allclose(values.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=(1, 2, 3)), 1, atol=1e-3)
    np.testing.assert_allclose(PixelNormalization("standardize")(np.full((1, 8, 8, 3), 7.0, np.float32)), 0, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_grey_image_is_one_of_equal_channels(mode):
    grey = IMAGES[..., :1]
    colour = PixelNormalization(mode)(np.repeat(grey, 3, axis=-1))
    found = PixelNormalization(mode)(grey)
    assert found.shape == grey.shape
    np.testing.assert_allclose(found[..., 0], tf.reduce_mean(colour, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_half_precision_rounds_the_result_alone(mode):
    half = PixelNormalization(mode, dtype="mixed_float16")(IMAGES)
    assert half.dtype == tf.float16
    np.testing.assert_array_equal(half, tf.cast(PixelNormalization(mode)(IMAGES), tf.float16))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_a_mask_becomes_zero_and_one_and_changes_nothing_else(mode, channels):
    mask = np.where(IMAGES[..., :1] > 128, np.float32(255), np.float32(0))
    image = IMAGES[..., :channels]
    found = PixelNormalization(mode, mask_channel=True)(np.concatenate([image, mask], -1))
    np.testing.assert_array_equal(found[..., :-1], PixelNormalization(mode)(image))
    np.testing.assert_array_equal(found[..., -1:], mask > 0)


@pytest.mark.parametrize("channels", [1, 3])  # with the mask two or four
@pytest.mark.parametrize("mode", MODES)
def test_its_configuration_rebuilds_it(mode, channels):
    for layer, images in (
        (PixelNormalization(mode), IMAGES[..., :channels]),
        (PixelNormalization(mode, mask_channel=True), np.concatenate([IMAGES[..., :channels], IMAGES[..., :1]], -1)),
    ):
        np.testing.assert_array_equal(PixelNormalization.from_config(layer.get_config())(images), layer(images))


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"'unit'.*found 'caffe'"):
        PixelNormalization("caffe")
