"""A region holds the whole lesion with its margin, is square, and is not distorted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ustoolkit.data.records import record_entries
from ustoolkit.data.regions import RegionCrop, crop_region, region_window
from ustoolkit.errors import DataError


@st.composite
def lesions(draw):
    """A mask with one box in it, and the box."""
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    bottom, right = draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width))
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask, (top, left, bottom, right)


@given(lesions(), st.floats(0, 2))
@settings(deadline=None)
def test_the_window_holds_the_lesion_and_stays_in_the_picture_where_it_fits(lesion, margin):
    mask, (top, left, bottom, right) = lesion
    row, column, side = region_window(mask, margin)
    assert row <= top and bottom <= row + side and column <= left and right <= column + side
    longer = max(bottom - top, right - left)
    assert longer * (1 + 2 * margin) <= side < longer * (1 + 2 * margin) + 1
    for start, length in ((row, mask.shape[0]), (column, mask.shape[1])):
        if side <= length:
            assert 0 <= start <= length - side
        else:
            assert start <= 0 and start + side >= length


@given(lesions(), st.sampled_from([8, 32]), st.sampled_from([1, 3]))
@settings(deadline=None)
def test_a_crop_has_its_size_and_types(lesion, size, channels):
    image = np.full((*lesion[0].shape, channels), 200, np.uint8)
    pixels, mask = crop_region(image, lesion[0], 0.1, size)
    assert pixels.shape == (size, size, channels) and mask.shape == (size, size)
    assert pixels.dtype == mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 1}


def test_a_crop_by_hand():
    """A lesion of 2 × 4 with a margin of a quarter: 6 × 6 pixels around it, unscaled."""
    image = np.arange(100, dtype=np.uint8).reshape(10, 10, 1)
    mask = np.zeros((10, 10), np.uint8)
    mask[4:6, 3:7] = 2
    pixels, cut = crop_region(image, mask, 0.25, 6)
    np.testing.assert_array_equal(pixels, image[2:8, 2:8])
    np.testing.assert_array_equal(cut, mask[2:8, 2:8])


def test_a_lesion_in_the_corner_is_seen_with_what_lies_inside():
    image = np.arange(100, dtype=np.uint8).reshape(10, 10, 1)
    mask = np.zeros((10, 10), np.uint8)
    mask[8:, :2] = 1
    pixels, cut = crop_region(image, mask, 1.0, 6)
    np.testing.assert_array_equal(pixels, image[4:, :6])
    assert cut[4:, :2].all() and cut.sum() == 4


def test_beyond_the_picture_is_black():
    image = np.full((4, 8, 3), 9, np.uint8)
    pixels, mask = crop_region(image, np.ones((4, 8), np.uint8), 0.0, 8)
    assert (pixels[2:6] == 9).all() and not pixels[:2].any() and not pixels[6:].any()
    np.testing.assert_array_equal(mask.any(axis=1), [0, 0, 1, 1, 1, 1, 0, 0])


def test_a_round_lesion_stays_round_and_its_picture_goes_with_it():
    rows, columns = np.mgrid[:90, :200]
    mask = ((rows - 40) ** 2 + (columns - 150) ** 2 <= 20**2).astype(np.uint8)
    pixels, cut = crop_region((mask * 255)[..., np.newaxis], mask, 0.5, 41)
    found_rows, found_columns = np.flatnonzero(cut.any(axis=1)), np.flatnonzero(cut.any(axis=0))
    assert len(found_rows) == pytest.approx(41 / 2, abs=2) and len(found_columns) == pytest.approx(41 / 2, abs=2)
    assert np.mean((pixels[..., 0] > 127) == cut) > 0.99


def test_scaling_is_pillows():
    image = np.random.default_rng(0).integers(0, 256, (30, 30, 1), dtype=np.uint8)
    pixels, _ = crop_region(image, np.ones((30, 30), np.uint8), 0.0, 12)
    expected = Image.fromarray(image[..., 0]).resize((12, 12), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels[..., 0], np.asarray(expected))


def test_an_empty_mask_has_no_region():
    with pytest.raises(DataError, match="expected a lesion to cut out, found an empty mask"):
        crop_region(np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4), np.uint8), 0.1, 8)


def test_a_stored_image_is_the_one_of_its_record_whatever_the_order(records):
    stored = {entry.source_id: entry.load for entry in record_entries(records)}
    for sample in reversed(list(records.read())):
        loaded = stored[sample.source_id]()
        np.testing.assert_array_equal(loaded.image, sample.image)
        np.testing.assert_array_equal(loaded.mask, sample.mask)
        assert (loaded.source_id, loaded.attributes) == (sample.source_id, sample.attributes)


def test_a_region_keeps_what_is_known_and_rescales_its_spacing(records):
    row = next(row for row in records.index if row.spacing_mm and row.lesion_fraction)
    original = {entry.source_id: entry.load for entry in record_entries(records)}[row.source_id]
    whole, region = original(), RegionCrop(original, 0.1, 16)()
    side = region_window(whole.mask, 0.1)[2]
    assert region.spacing_mm == pytest.approx(tuple(value * side / 16 for value in whole.spacing_mm))
    assert (region.label, region.patient_id) == (whole.label, whole.patient_id)
    assert region.attributes == whole.attributes | {"region_side": side}
