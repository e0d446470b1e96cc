"""Masks from probabilities, on pictures small enough to see."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ustoolkit.inference.overlay import PREDICTION_COLOUR, TRUTH_COLOUR, draw_overlay
from ustoolkit.inference.postprocess import (
    fill_holes,
    keep_largest_components,
    open_regions,
    remove_small_regions,
    to_mask,
)
from ustoolkit.recipe.settings import InferenceSettings


def drawn(*rows: str) -> np.ndarray:
    """A mask from rows of digits, '.' for background."""
    return np.array([[0 if cell == "." else int(cell) for cell in row] for row in rows], np.uint8)


def test_the_largest_region_stays_diagonal_neighbours_included():
    mask = drawn("11..1", "..1..", "....1")
    expected = drawn("11...", "..1..", ".....")
    np.testing.assert_array_equal(keep_largest_components(drawn("11...", "..1..", "....1")), expected)
    np.testing.assert_array_equal(keep_largest_components(mask)[0, :2], [1, 1])


def test_each_class_keeps_a_region_of_its_own():
    mask = drawn("11..2", "....2", "1.2..")
    np.testing.assert_array_equal(keep_largest_components(mask), drawn("11..2", "....2", "....."))


def test_an_empty_mask_stays_empty():
    np.testing.assert_array_equal(keep_largest_components(drawn("...", "...")), drawn("...", "..."))


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, "..1"), (0.3, ".11"), (0.0, "111")])
def test_a_pixel_is_lesion_from_the_threshold_on(threshold, expected):
    probability = np.array([[[0.1], [0.3], [0.5]]], np.float32)
    settings = InferenceSettings(threshold=float(np.float32(threshold)), largest_component=False)
    np.testing.assert_array_equal(to_mask(probability, settings), drawn(expected))


def test_of_several_classes_the_most_probable_wins():
    probability = np.array([[[0.2, 0.5, 0.3], [0.4, 0.3, 0.3], [0.1, 0.1, 0.8]]], np.float32)
    settings = InferenceSettings(largest_component=False)
    np.testing.assert_array_equal(to_mask(probability, settings), drawn("1.2"))


def test_overlay_draws_outlines_only_and_the_prediction_on_top():
    image = np.full((9, 9, 1), 100, np.uint8)
    square = np.zeros((9, 9), np.uint8)
    square[2:7, 2:7] = 1
    overlay = draw_overlay(image, square)
    assert tuple(overlay[2, 4]) == PREDICTION_COLOUR
    assert tuple(overlay[4, 4]) == (100, 100, 100) and tuple(overlay[0, 0]) == (100, 100, 100)
    moved = np.roll(square, 1, axis=1)
    both = draw_overlay(image, square, moved)
    assert tuple(both[4, 7]) == TRUTH_COLOUR and tuple(both[2, 4]) == PREDICTION_COLOUR
    assert (image == 100).all()


CLASSES = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3))


def test_small_regions_go_and_diagonal_neighbours_count():
    mask = drawn("11..2", "..1.2", "3....")
    np.testing.assert_array_equal(remove_small_regions(mask, 3), drawn("11...", "..1..", "....."))
    np.testing.assert_array_equal(remove_small_regions(mask, 2), drawn("11..2", "..1.2", "....."))


def test_opening_takes_a_spur_and_leaves_a_region_at_the_edge():
    mask = drawn("111....", "111....", "111....", "1112222", ".......")
    np.testing.assert_array_equal(open_regions(mask, 1), drawn("111....", "111....", "111....", "11.....", "......."))


@given(CLASSES, st.integers(0, 12), st.integers(0, 3))
def test_cleaning_masks_only_removes_and_does_nothing_twice(mask, smallest, radius):
    for step, size in ((remove_small_regions, smallest), (open_regions, radius)):
        once = step(mask, size)
        assert ((once == mask) | (once == 0)).all()
        np.testing.assert_array_equal(step(once, size), once)


@given(CLASSES)
def test_off_changes_nothing(mask):
    np.testing.assert_array_equal(remove_small_regions(mask, 0), mask)
    np.testing.assert_array_equal(open_regions(mask, 0), mask)


@given(CLASSES, st.integers(0, 12), st.integers(0, 3))
def test_classes_are_cleaned_each_by_itself(mask, smallest, radius):
    for step, size in ((remove_small_regions, smallest), (open_regions, radius)):
        alone = [step(np.where(mask == index, mask, 0).astype(np.uint8), size) for index in (1, 2, 3)]
        np.testing.assert_array_equal(step(mask, size), np.maximum.reduce(alone))


def test_to_mask_removes_before_it_keeps_the_largest():
    """Two blobs joined by a bridge are one region; once opened, the larger blob is the largest."""
    mask = drawn("111.....", "11111111", "111..111", ".....111")
    probability = mask[..., None].astype(np.float32)
    plain = to_mask(probability, InferenceSettings())
    opened = to_mask(probability, InferenceSettings(opening_radius_pixels=1, smallest_region_pixels=4))
    np.testing.assert_array_equal(plain, mask)
    assert opened[:, :3].any() and not opened[:, 5:].any()


def test_a_ring_becomes_a_disc_and_a_hole_open_to_the_border_stays():
    ring = drawn(".111..", "11.11.", "1...1.", "11.11.", ".111..")
    disc = drawn(".111..", "11111.", "11111.", "11111.", ".111..")
    np.testing.assert_array_equal(fill_holes(ring), disc)
    np.testing.assert_array_equal(fill_holes(drawn("1.11", "1..1", "1111")), drawn("1.11", "1..1", "1111"))
    np.testing.assert_array_equal(fill_holes(drawn(".1.", "1.1", ".1.")), drawn(".1.", "111", ".1."))


def test_holes_of_several_classes():
    """A class within a hole stays; what it encloses in turn is its own; a ring of two classes encloses nothing."""
    mask = drawn("1111111", "1.....1", "1.222.1", "1.2.2.1", "1.222.1", "1.....1", "1111111")
    expected = drawn("1111111", "1111111", "1122211", "1122211", "1122211", "1111111", "1111111")
    np.testing.assert_array_equal(fill_holes(mask), expected)
    swapped = np.array([0, 2, 1], np.uint8)
    np.testing.assert_array_equal(fill_holes(swapped[mask]), swapped[expected])
    shared = drawn("112", "1.2", "122")
    np.testing.assert_array_equal(fill_holes(shared), shared)


def test_the_innermost_class_takes_a_hole_though_it_is_larger_elsewhere():
    mask = drawn("1111122222", "1222122222", "12.2122222", "1222122222", "1111122222")
    expected = drawn("1111122222", "1222122222", "1222122222", "1222122222", "1111122222")
    np.testing.assert_array_equal(fill_holes(mask), expected)


@given(CLASSES)
def test_filling_adds_to_classes_only_and_once(mask):
    filled = fill_holes(mask)
    assert ((filled == mask) | (mask == 0)).all()
    np.testing.assert_array_equal(fill_holes(filled), filled)
    edge = np.ones_like(mask, bool)
    edge[1:-1, 1:-1] = False
    np.testing.assert_array_equal(filled[edge], mask[edge])


def test_to_mask_fills_last_and_only_where_asked():
    """The hole's own island and the second ring go first; the ring that stays is filled."""
    mask = drawn("11111....", "1...1.111", "1.1.1.1.1", "1...1.111", "11111....")
    probability = mask[..., None].astype(np.float32)
    ring, disc = mask.copy(), mask.copy()
    ring[2, 2] = ring[:, 5:] = disc[:, 5:] = 0
    disc[:, :5] = 1
    np.testing.assert_array_equal(to_mask(probability, InferenceSettings()), ring)
    np.testing.assert_array_equal(to_mask(probability, InferenceSettings(fill_holes=True)), disc)
    everything = to_mask(probability, InferenceSettings(fill_holes=True, largest_component=False))
    np.testing.assert_array_equal(everything, np.maximum(disc, fill_holes(mask)))
