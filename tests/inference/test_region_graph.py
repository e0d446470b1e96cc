"""Regions inside a graph are those of NumPy, SciPy and OpenCV, on any mask."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ustoolkit.evaluation.measurements import measure_size
from ustoolkit.inference.postprocess import keep_largest_components, to_mask
from ustoolkit.inference.region_graph import clean_lesion, clean_mask, label_regions, measure_lesion
from ustoolkit.recipe.settings import InferenceSettings

ANY_MASK = [tf.TensorSpec([None, None], tf.bool)]
LABELS = {corners: tf.function(lambda r, c=corners: label_regions(r, c), ANY_MASK) for corners in (True, False)}
MEASURED = tf.function(measure_lesion, ANY_MASK)
MASKS = arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


def spiral(side):
    """A path one pixel wide from the edge to the middle, its turns one pixel apart."""
    mask = np.zeros((side, side), bool)
    row = column = 0
    down, right = 0, 1
    mask[0, 0] = True
    while True:
        steps = 0
        while (
            0 <= row + down < side
            and 0 <= column + right < side
            and not mask[row + down, column + right]
            and not (
                0 <= row + 2 * down < side
                and 0 <= column + 2 * right < side
                and mask[row + 2 * down, column + 2 * right]
            )
        ):
            row, column, steps = row + down, column + right, steps + 1
            mask[row, column] = True
        if not steps:
            return mask
        down, right = right, -down


def expected_labels(mask, corners):
    regions, count = ndimage.label(mask, np.ones((3, 3)) if corners else None)
    expected = np.full(mask.shape, mask.size)
    for number in range(1, count + 1):
        expected[regions == number] = np.flatnonzero(regions == number)[0]
    return expected


@settings(max_examples=100)
@given(MASKS, st.booleans())
def test_labels_are_scipys(mask, corners):
    np.testing.assert_array_equal(LABELS[corners](mask), expected_labels(mask, corners))


@pytest.mark.parametrize("corners", [True, False])
def test_a_long_spiral_is_one_region(corners):
    mask = spiral(181)
    assert ndimage.label(mask)[1] == 1 and mask.sum() > 10_000
    np.testing.assert_array_equal(LABELS[corners](mask), expected_labels(mask, corners))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"largest_component": False},
        {"smallest_region_pixels": 6},
        {"opening_radius_pixels": 1},
        {"opening_radius_pixels": 2, "smallest_region_pixels": 4},
        {"fill_holes": True},
        {"fill_holes": True, "largest_component": False},
        {"fill_holes": True, "opening_radius_pixels": 1, "smallest_region_pixels": 9},
    ],
)
def test_a_lesion_is_cleaned_as_prediction_does(changes):
    inference = InferenceSettings(**changes)
    cleaned = tf.function(lambda mask: clean_lesion(mask, inference), ANY_MASK)
    generator = np.random.default_rng(1)
    kept = 0
    for number in range(60):
        shape = generator.integers(1, 30, 2)
        noise = ndimage.gaussian_filter(generator.normal(size=shape), number % 3)
        mask = noise > generator.uniform(-0.5, 1) * noise.std()
        expected = keep_largest_components(to_mask(mask[..., np.newaxis].astype(np.float32), inference))
        np.testing.assert_array_equal(cleaned(mask), expected > 0)
        kept += expected.any()
    assert kept > 20


@pytest.mark.parametrize("changes", [{}, {"fill_holes": True}, {"largest_component": False, "fill_holes": True}])
@pytest.mark.parametrize("classes", [2, 4])
def test_each_class_is_cleaned_as_prediction_does(changes, classes):
    inference = InferenceSettings(smallest_region_pixels=3, **changes)
    spec = [tf.TensorSpec([None, None], tf.uint8)]
    cleaned = tf.function(lambda mask: clean_mask(mask, inference, classes), spec)
    generator = np.random.default_rng(2)
    filled = 0
    for _ in range(60):
        shape = tuple(generator.integers(3, 30, 2))
        noise = [ndimage.gaussian_filter(generator.normal(size=shape), 1) for _ in range(classes)]
        mask = np.argmax(noise, 0).astype(np.uint8)
        one_hot = np.eye(classes, dtype=np.float32)[mask]
        expected = to_mask(one_hot[..., 1:] if classes == 2 else one_hot, inference)
        np.testing.assert_array_equal(cleaned(mask), expected)
        filled += (expected != mask).any()
    assert filled > 20


def test_background_within_two_classes_is_the_inner_ones():
    mask = np.zeros((9, 9), np.uint8)
    mask[0:9, 0:9] = 2
    mask[1:8, 1:8] = 0
    mask[2:7, 2:7] = 1
    mask[4, 4] = 0
    inference = InferenceSettings(fill_holes=True)
    filled = clean_mask(tf.constant(mask), inference, 3).numpy()
    assert filled[4, 4] == 1 and (filled[1, 1:8] == 2).all()
    np.testing.assert_array_equal(filled, to_mask(np.eye(3, dtype=np.float32)[mask], inference))


def test_of_equal_regions_the_first_stays():
    mask = np.zeros((6, 9), bool)
    mask[3:5, 0:2] = mask[0:2, 6:8] = True
    kept = clean_lesion(tf.constant(mask), InferenceSettings()).numpy()
    assert kept[0:2, 6:8].all() and kept.sum() == 4


def test_diameters_in_mm_are_those_that_are_reported():
    rows, columns = np.mgrid[:60, :80]
    mask = ((rows - 30) / 20) ** 2 + ((columns - 35 - rows / 4) / 25) ** 2 < 1
    size = measure_size(mask, (0.3, 0.05))
    measured = tf.function(measure_lesion)
    long, short = measured(tf.constant(mask), tf.constant([0.3, 0.05]))
    assert float(long) == pytest.approx(size.long_diameter, rel=1e-6)
    assert float(short) == pytest.approx(size.short_diameter, rel=1e-5)


@settings(max_examples=120)
@given(MASKS.filter(np.any))
def test_diameters_are_those_that_are_reported(mask):
    size = measure_size(mask)
    long, short = MEASURED(mask)
    assert float(long) == pytest.approx(size.long_diameter, rel=1e-6)
    assert float(short) == pytest.approx(size.short_diameter, rel=1e-5)


def test_diameters_of_a_large_lesion():
    rows, columns = np.ogrid[:700, :900]
    mask = ((rows - 350) / 300) ** 2 + ((columns - rows / 3 - 330) / 250) ** 2 <= 1
    size = measure_size(mask)
    long, short = MEASURED(mask)
    assert float(long) == pytest.approx(size.long_diameter, rel=1e-6)
    assert float(short) == pytest.approx(size.short_diameter, rel=1e-5)
