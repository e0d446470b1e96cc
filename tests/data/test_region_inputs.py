"""What a classifying network is shown: the square that `regions` cuts, its mask in step with it."""

import logging

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ustoolkit.data.region_inputs import network_input, region_to_network
from ustoolkit.data.regions import crop_region, region_window
from ustoolkit.recipe.classification import RegionSettings
from ustoolkit.recipe.settings import DataSettings


def shown(image, mask, size, channels=1, **region):
    data = DataSettings(image_size=(size, size), channels=channels, keep_aspect=region.pop("keep_aspect", False))
    pixels, lesion = region_to_network(tf.constant(image), tf.constant(mask), data, RegionSettings(**region))
    assert pixels.dtype == lesion.dtype == tf.float32
    return pixels.numpy(), lesion.numpy()


def noise(height, width, channels=1, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (height, width, channels), np.uint8)


def rectangle(height, width, top, left, high, wide):
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + high, left : left + wide] = 1
    return mask


@given(st.data())
@settings(max_examples=60)
def test_unscaled_it_is_the_crop_of_regions_to_the_pixel(data):
    """In the middle, at the border, one pixel, and larger with its margin than the picture."""
    height, width = data.draw(st.integers(1, 24)), data.draw(st.integers(1, 24))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    high, wide = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    margin = data.draw(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 2.0]))
    image, mask = noise(height, width), rectangle(height, width, top, left, high, wide)
    side = region_window(mask, margin)[2]
    pixels, lesion = shown(image, mask, side, margin=margin)
    expected, expected_lesion = crop_region(image, mask, margin, side)
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(lesion, expected_lesion)


@pytest.mark.parametrize("size", [32, 48, 96])
def test_scaled_it_is_that_crop_but_for_rounding(labelled_records, size):
    for sample in list(labelled_records.read())[:12]:
        pixels, lesion = shown(sample.image, sample.mask, size)
        expected, expected_lesion = crop_region(sample.image, sample.mask, 0.25, size)
        assert np.abs(pixels - expected).max() <= 2.0  # Pillow rounds between its two passes
        assert np.mean(lesion != expected_lesion) < 0.03  # pixels of the outline


def test_what_lies_outside_is_black_and_no_lesion():
    pixels, lesion = shown(np.full((8, 8, 1), 200, np.uint8), np.ones((8, 8), np.uint8), 12, margin=0.25)
    inside = np.zeros((12, 12), bool)
    inside[2:10, 2:10] = True
    np.testing.assert_array_equal(pixels[..., 0] == 200, inside)
    np.testing.assert_array_equal(pixels[..., 0] == 0, ~inside)
    np.testing.assert_array_equal(lesion == 1, inside)


@pytest.mark.parametrize(
    ("source", "mask"), [("image", rectangle(10, 20, 2, 2, 3, 3)), ("truth", np.zeros((10, 20), np.uint8))]
)
def test_the_whole_image_is_given_where_asked_for_or_where_there_is_no_lesion(source, mask):
    image = noise(10, 20)
    data = DataSettings(image_size=(10, 20), channels=1)
    pixels, lesion = region_to_network(tf.constant(image), tf.constant(mask), data, RegionSettings(source=source))
    np.testing.assert_array_equal(pixels, image)
    np.testing.assert_array_equal(lesion, mask)


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("source", ["truth", "image"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_mask_stays_in_step_with_the_pixels(keep_aspect, source, channels):
    mask = rectangle(40, 60, 5, 30, 17, 11)
    pixels, lesion = shown(255 * mask[..., np.newaxis], mask, 32, channels, source=source, keep_aspect=keep_aspect)
    assert pixels.shape == (32, 32, channels) and 0 < lesion.sum() < 32 * 32
    for channel in range(channels):
        np.testing.assert_array_equal(pixels[..., channel] >= 127.5, lesion == 1)


def test_grey_becomes_three_channels_and_colour_becomes_grey():
    mask = rectangle(16, 16, 4, 4, 6, 6)
    grey = noise(16, 16)
    one, _ = shown(grey, mask, 9)
    three, _ = shown(grey, mask, 9, channels=3)
    np.testing.assert_array_equal(three, np.repeat(one, 3, axis=-1))
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 100
    found, _ = shown(red, mask, 9, margin=0)
    np.testing.assert_allclose(found, 30, atol=1)  # 0.299 of 100


def test_every_class_of_a_mask_is_lesion():
    mask = rectangle(16, 16, 4, 4, 6, 6)
    np.testing.assert_array_equal(shown(noise(16, 16), 2 * mask, 9)[1], shown(noise(16, 16), mask, 9)[1])


def test_the_mask_is_one_more_channel_only_where_asked_for():
    pixels, lesion = tf.fill([2, 3, 3, 1], 7.0), tf.constant(np.eye(3, dtype=np.float32)[np.newaxis].repeat(2, 0))
    assert network_input(pixels, lesion, RegionSettings()) is pixels
    found = network_input(pixels, lesion, RegionSettings(mask_channel=True)).numpy()
    np.testing.assert_array_equal(found[..., 0], 7)
    np.testing.assert_array_equal(found[..., 1], 255 * lesion)


def test_in_a_graph_it_is_the_same_and_tensorflow_has_nothing_to_say(caplog):
    data, region = DataSettings(image_size=(16, 16), channels=1), RegionSettings()

    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.uint8), tf.TensorSpec([None, None], tf.uint8)])
    def traced(image, mask):
        return region_to_network(image, mask, data, region)

    logger = logging.getLogger("tensorflow")
    logger.addHandler(caplog.handler)
    try:
        for mask in (rectangle(20, 30, 3, 4, 5, 6), np.zeros((20, 30), np.uint8)):
            for found, expected in zip(traced(noise(20, 30), mask), shown(noise(20, 30), mask, 16), strict=True):
                np.testing.assert_allclose(found, expected, atol=1e-3)
    finally:
        logger.removeHandler(caplog.handler)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
