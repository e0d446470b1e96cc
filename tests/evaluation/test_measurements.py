"""Diameters and area: shapes whose size is known by hand, and what must hold of any shape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import pdist

from ustoolkit.errors import DataError, ShapeError
from ustoolkit.evaluation.measurements import measure_size

ROWS, COLUMNS = np.ogrid[:240, :260]


def ellipse(long_axis, short_axis, degrees, spacing=(1.0, 1.0)):
    """An ellipse in millimetres, turned from the row's direction, drawn in pixels of this spacing."""
    rows, columns = (ROWS - 120) * spacing[0], (COLUMNS - 130) * spacing[1]
    turn = np.deg2rad(degrees)
    along = columns * np.cos(turn) + rows * np.sin(turn)
    across = rows * np.cos(turn) - columns * np.sin(turn)
    return (along / (long_axis / 2)) ** 2 + (across / (short_axis / 2)) ** 2 <= 1


def length(ends, spacing=(1.0, 1.0)):
    return float(np.hypot(*(np.subtract(*ends) * spacing)))


def test_one_pixel_is_one_long_and_one_wide():
    mask = np.zeros((5, 7), bool)
    mask[2, 3] = True
    size = measure_size(mask)
    assert (size.long_diameter, size.short_diameter, size.area) == (1, 1, 1)
    assert np.mean(size.long_ends, axis=0).tolist() == np.mean(size.short_ends, axis=0).tolist() == [2, 3]


@pytest.mark.parametrize("upright", [False, True])
def test_a_line_is_as_long_as_it_has_pixels_and_one_wide(upright):
    mask = np.zeros((40, 40), np.uint8)
    mask[4, 10:30] = 1
    size = measure_size(mask.T if upright else mask)
    assert (size.long_diameter, size.short_diameter, size.area) == (20, 1, 20)
    ends = [end[::-1] if upright else end for end in size.long_ends]
    assert sorted(ends) == [(4, 9.5), (4, 29.5)]
    assert {end[0 if upright else 1] for end in size.short_ends} == {19.5}


def test_a_rectangle_has_its_diagonal_and_the_chord_across_it():
    mask = np.zeros((80, 120), bool)
    mask[10:40, 20:100] = True  # 30 × 80; its outline leaves out the outermost corners
    size = measure_size(mask)
    assert size.long_diameter == pytest.approx(np.hypot(29, 80))
    # A line at right angles to the diagonal meets both long sides: 30 divided by the cosine of the diagonal's slope.
    assert size.short_diameter == pytest.approx(30 / (80 / np.hypot(29, 80)), rel=1e-9)
    assert size.area == 2400


@pytest.mark.parametrize("radius", [3, 20, 77])
def test_a_disc_has_its_diameter_twice(radius):
    size = measure_size(np.hypot(ROWS - 120, COLUMNS - 130) <= radius)
    assert size.long_diameter == pytest.approx(2 * radius + 1, abs=1)
    assert size.short_diameter == pytest.approx(2 * radius + 1, abs=1)
    assert size.area == pytest.approx(np.pi * radius**2, rel=0.1)


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, 121])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.1, 0.2), (0.5, 0.25)])
def test_a_turned_ellipse_has_its_axes_whatever_the_pixels(degrees, spacing):
    unit = 100 * min(spacing)
    mask = ellipse(1.6 * unit, 0.9 * unit, degrees, spacing)
    size = measure_size(mask, spacing)
    assert size.long_diameter == pytest.approx(1.6 * unit, abs=2 * max(spacing))
    assert size.short_diameter == pytest.approx(0.9 * unit, abs=2 * max(spacing))
    assert size.area == pytest.approx(np.pi / 4 * 1.6 * 0.9 * unit**2, rel=0.02)
    (top, left), (bottom, right) = size.long_ends
    found = np.rad2deg(np.arctan2((bottom - top) * spacing[0], (right - left) * spacing[1])) % 180
    assert abs((found - degrees + 90) % 180 - 90) < 6


def test_what_lies_far_from_the_middle_is_measured_there():
    mask = np.zeros((100, 200), bool)
    mask[50, 10:190] = True
    mask[30:71, 40] = True
    size = measure_size(mask)
    assert size.long_diameter == 180 and size.short_diameter == pytest.approx(41, abs=0.5)
    assert np.mean(size.short_ends, axis=0)[1] == pytest.approx(40, abs=1)


def test_a_dent_does_not_shorten_them():
    mask = ellipse(150, 80, 30)
    dented = mask.copy()
    dented[110:130, 120:200] = False
    assert measure_size(dented).long_diameter == measure_size(mask).long_diameter
    assert measure_size(dented).area < measure_size(mask).area


@settings(max_examples=150)
@given(
    arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(np.any),
    st.tuples(st.floats(0.05, 4), st.floats(0.05, 4)),
)
def test_of_any_shape(mask, spacing):
    size = measure_size(mask, spacing)
    assert size.area == pytest.approx(mask.sum() * np.prod(spacing))
    assert 0 < size.short_diameter <= size.long_diameter * (1 + 1e-9)
    assert length(size.long_ends, spacing) == pytest.approx(size.long_diameter)
    assert length(size.short_ends, spacing) == pytest.approx(size.short_diameter)
    long, short = (np.subtract(*ends) * spacing for ends in (size.long_ends, size.short_ends))
    assert abs(long @ short) <= 1e-6 * size.long_diameter * size.short_diameter
    # The two lines cross: each has an end on both sides of the other.
    start = np.array(size.long_ends[0]) * spacing
    places = [(np.array(end) * spacing - start) @ np.array([-long[1], long[0]]) for end in size.short_ends]
    assert min(places) <= 1e-6 and max(places) >= -1e-6
    turned = measure_size(mask.T, spacing[::-1])
    assert turned.long_diameter == pytest.approx(size.long_diameter)


@settings(max_examples=60)
@given(arrays(bool, (9, 9)).filter(np.any))
def test_no_two_points_of_the_outline_are_farther_apart(mask):
    steps = np.array([(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])
    points = (np.argwhere(mask)[:, np.newaxis] + steps).reshape(-1, 2)
    assert measure_size(mask).long_diameter == pytest.approx(pdist(points).max())


def test_an_empty_mask_and_a_wrong_spacing_are_refused():
    with pytest.raises(DataError, match="empty"):
        measure_size(np.zeros((4, 4), bool))
    with pytest.raises(DataError, match="above 0"):
        measure_size(np.ones((4, 4), bool), (0.1, 0.0))
    with pytest.raises(ShapeError, match="height, width"):
        measure_size(np.ones((4, 4, 1), bool))
