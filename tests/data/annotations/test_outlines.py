"""Outlines are true to their region within a pixel, holes and all, and keep few enough corners to edit by hand."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_masks
from scipy import ndimage

from ustoolkit.data.annotations.outlines import edge_outlines, outlines
from ustoolkit.data.shapes import Shape, rasterize


def filled(region):
    pixels = np.zeros_like(region)
    for points in outlines(region):
        pixels |= rasterize(Shape("", "", "polygon", points), *region.shape)
    return pixels


def filled_by_coco(region):
    pixels = np.zeros_like(region)
    for points in edge_outlines(region):
        flat = [[value for point in points for value in point]]
        pixels |= coco_masks.decode(coco_masks.frPyObjects(flat, *region.shape))[..., 0].astype(bool)
    return pixels


def farthest(first, second):
    """The largest distance from a pixel of one set to the other set, either way and for what lies outside too."""
    distances = [0.0]
    for here, there in ((first, second), (second, first), (~first, ~second), (~second, ~first)):
        if here.any():
            distances.append(ndimage.distance_transform_edt(~there)[here].max() if there.any() else np.inf)
    return max(distances)


def blobs(seed, share):
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.random(random.integers(6, 60, 2)), random.uniform(0.3, 4))
    return smooth > np.quantile(smooth, share)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.97))
@example(915876, 0.234375)
@settings(deadline=None, max_examples=150)
def test_a_filled_outline_is_the_region_within_a_pixel(seed, share):
    region = blobs(seed, share)
    assert farthest(region, filled(region)) <= 1
    assert farthest(region, filled_by_coco(region)) <= 1


@pytest.mark.parametrize("text", ["#", "##", "#.#", "#.\n.#", "###\n#.#\n###", ".#.\n###\n.#.", "#####\n#.#.#\n#####"])
def test_small_regions_come_back_to_the_pixel(text):
    region = np.pad(np.array([[letter == "#" for letter in line] for line in text.split("\n")]), 2)
    np.testing.assert_array_equal(filled(region), region)
    np.testing.assert_array_equal(filled_by_coco(region), region)


def test_a_rectangle_has_its_four_corners():
    region = np.zeros((20, 30), bool)
    region[4:9, 10:25] = True
    assert [set(points) for points in outlines(region)] == [{(10, 4), (24, 4), (24, 8), (10, 8)}]
    assert [set(points) for points in edge_outlines(region)] == [{(10, 4), (25, 4), (25, 9), (10, 9)}]


def test_a_disc_needs_few_corners():
    rows, columns = np.ogrid[:200, :200]
    region = (rows - 100) ** 2 + (columns - 100) ** 2 < 80**2
    (points,) = outlines(region)
    assert len(points) < 80 < np.count_nonzero(region ^ ndimage.binary_erosion(region)) / 4


def test_touching_the_border_changes_nothing():
    region = np.ones((5, 7), bool)
    np.testing.assert_array_equal(filled(region), region)
    np.testing.assert_array_equal(filled_by_coco(region), region)


def test_parts_are_polygons_of_their_own_and_an_empty_region_has_none():
    region = np.zeros((10, 10), bool)
    assert outlines(region) == []
    assert edge_outlines(region) == []
    region[1:3, 1:3] = region[6:9, 6:9] = True
    assert len(outlines(region)) == len(edge_outlines(region)) == 2


def test_an_island_in_a_hole_is_drawn_once():
    region = np.zeros((30, 30), bool)
    region[2:28, 2:28] = True
    region[8:22, 8:22] = False
    region[13:17, 13:17] = True
    assert len(outlines(region)) == 3  # the ring in two halves, and the island
    np.testing.assert_array_equal(filled(region), region)
    np.testing.assert_array_equal(filled_by_coco(region), region)
