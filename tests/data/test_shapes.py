"""What was drawn becomes the pixels that Pillow, and so labelme, would set; what cannot be a drawing is answered."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from ustoolkit.data.image_files import turn_upright
from ustoolkit.data.shapes import Shape, check_shape, ellipse_axes, fits, paint, rasterize, turn_shape
from ustoolkit.errors import DataError


def shape(kind, *points, bitmap=None):
    return Shape("lesion", "scan.json, shape 1", kind, tuple(points), bitmap)


def pixels(text):
    return np.array([[character == "#" for character in line] for line in text.split()])


def drawn_by_pillow(rows, columns, method, *arguments, **options):
    canvas = Image.new("1", (columns, rows))
    getattr(ImageDraw.Draw(canvas), method)(*arguments, **options)
    return np.asarray(canvas)


def ellipse_ends(centre, shift):
    return ellipse_axes((centre[0] + shift, centre[1] + shift), 4, 2, 0.5)


# --- drawn by hand ---


def test_a_polygon_holds_its_corners_and_edges():
    found = rasterize(shape("polygon", (1, 1), (4, 1), (4, 3), (1, 3)), 5, 6)
    np.testing.assert_array_equal(found, pixels("...... .####. .####. .####. ......"))


def test_a_triangle():
    found = rasterize(shape("polygon", (0, 0), (4, 4), (0, 4)), 5, 6)
    np.testing.assert_array_equal(found, pixels("#..... ##.... ###... ####.. #####."))


def test_a_rectangle_by_any_two_opposite_corners():
    expected = pixels("..... ..##. ..##. .....")
    for corners in [((2, 1), (3, 2)), ((3, 2), (2, 1)), ((3, 1), (2, 2)), ((2, 2), (3, 1))]:
        np.testing.assert_array_equal(rasterize(shape("rectangle", *corners), 4, 5), expected)


def test_a_circle_of_radius_2():
    found = rasterize(shape("circle", (3, 3), (5, 3)), 7, 7)
    np.testing.assert_array_equal(found, pixels("....... ..###.. .#####. .#####. .#####. ..###.. ......."))


def test_a_point_of_radius_0_is_one_pixel():
    found = rasterize(shape("point", (3, 2), (5, 0)), 5, 7, point_radius=0)
    assert np.argwhere(found).tolist() == [[0, 5], [2, 3]]


def test_a_bitmap_lies_with_its_top_left_pixel_at_its_point():
    bitmap = pixels("##. .##")
    np.testing.assert_array_equal(
        rasterize(shape("mask", (1, 2), bitmap=bitmap), 5, 5), pixels("..... ..... .##.. ..##. .....")
    )


@pytest.mark.parametrize(("corner", "expected"), [((-1, -1), "##. ... ..."), ((2, 2), "... ... ..#")])
def test_a_bitmap_is_cut_at_the_edge(corner, expected):
    found = rasterize(shape("mask", corner, bitmap=pixels("##. .##")), 3, 3)
    np.testing.assert_array_equal(found, pixels(expected))


def test_a_later_shape_lies_over_an_earlier_one_and_class_0_cuts_a_hole():
    whole, part, hole = (
        shape("rectangle", (0, 0), (4, 2)),
        shape("rectangle", (3, 0), (4, 2)),
        shape("rectangle", (1, 1), (1, 1)),
    )
    expected = np.array([[1, 1, 1, 2, 2], [1, 0, 1, 2, 2], [1, 1, 1, 2, 2]])
    np.testing.assert_array_equal(paint([(whole, 1), (part, 2), (hole, 0)], 3, 5), expected)


def test_without_shapes_there_is_background():
    mask = paint([], 3, 5)
    assert mask.dtype == np.uint8
    assert not mask.any()
    mask[0, 0] = 1  # and it may be written to


# --- equal to Pillow's own drawing ---

sides = st.integers(1, 40)
coordinates = st.one_of(st.integers(0, 40), st.floats(-2, 42, allow_nan=False, width=32))
points = st.tuples(coordinates, coordinates)


@given(sides, sides, st.lists(points, min_size=3, max_size=9))
@settings(deadline=None)
def test_a_polygon_equals_pillows(height, width, corners):
    expected = drawn_by_pillow(height, width, "polygon", corners, fill=1, outline=1)
    np.testing.assert_array_equal(rasterize(shape("polygon", *corners), height, width), expected)


@given(sides, sides, st.lists(points, min_size=2, max_size=5), st.integers(1, 12))
@settings(deadline=None)
def test_a_line_equals_pillows(height, width, corners, line_width):
    expected = drawn_by_pillow(height, width, "line", corners, fill=1, width=line_width)
    np.testing.assert_array_equal(rasterize(shape("line", *corners), height, width, line_width), expected)


@given(sides, sides, points, points)
@settings(deadline=None)
def test_a_circle_equals_pillows(height, width, centre, end):
    radius = math.dist(centre, end)
    box = [centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius]
    expected = drawn_by_pillow(height, width, "ellipse", box, fill=1, outline=1)
    np.testing.assert_array_equal(rasterize(shape("circle", centre, end), height, width), expected)


@given(sides, sides, st.lists(points, min_size=1, max_size=4), st.integers(1, 6))
@settings(deadline=None)
def test_points_are_discs(height, width, centres, radius):
    expected = np.zeros((height, width), bool)
    for x, y in centres:
        box = [x - radius, y - radius, x + radius, y + radius]
        expected |= drawn_by_pillow(height, width, "ellipse", box, fill=1, outline=1)
    found = rasterize(shape("point", *centres), height, width, point_radius=radius)
    np.testing.assert_array_equal(found, expected)


any_shape = st.one_of(
    st.builds(lambda corners: shape("polygon", *corners), st.lists(points, min_size=3, max_size=6)),
    st.builds(lambda a, b: shape("rectangle", a, b), points, points),
    st.builds(lambda a, b: shape("circle", a, b), points, points),
    st.builds(lambda a: shape("mask", a, bitmap=np.eye(5, dtype=bool)), points),
)


@given(sides, sides, st.lists(st.tuples(any_shape, st.integers(0, 254)), max_size=6))
@settings(deadline=None)
def test_painting_equals_setting_the_pixels_of_one_shape_after_the_other(height, width, shapes):
    expected = np.zeros((height, width), np.uint8)
    for drawn, index in shapes:
        expected[rasterize(drawn, height, width)] = index
    np.testing.assert_array_equal(paint(shapes, height, width), expected)


@pytest.mark.parametrize(
    ("radius_x", "radius_y", "angle"), [(30, 12, 0.0), (30, 12, 0.6), (12, 30, 2.5), (300, 80, 1.0)]
)
def test_an_ellipse_is_what_its_equation_says(radius_x, radius_y, angle):
    side = 2 * max(radius_x, radius_y) + 20
    centre = (side / 2, side / 2)
    found = rasterize(shape("ellipse", centre, *ellipse_axes(centre, radius_x, radius_y, angle)), side, side)
    y, x = np.mgrid[:side, :side] - side / 2
    along, across = x * math.cos(angle) + y * math.sin(angle), -x * math.sin(angle) + y * math.cos(angle)

    def inside(margin):
        return (along / (radius_x + margin)) ** 2 + (across / (radius_y + margin)) ** 2 <= 1

    np.testing.assert_array_equal(found, inside(0.0) | (found & inside(1e-6)))  # but for rounding on the very edge
    assert found[inside(-1e-6)].all()


@pytest.mark.parametrize("ends", [((2, 3), (7, 3)), ((2, 3), (2, 3)), ((7, 3), (2, 3))])
def test_an_ellipse_without_width_is_a_line_or_a_pixel(ends):
    found = rasterize(shape("ellipse", (2, 3), *ends), 6, 12)
    expected = [[3, x] for x in range(8)] if (7, 3) in ends else [[3, 2]]
    assert np.argwhere(found).tolist() == expected


@pytest.mark.parametrize("centre", [(-5, 3), (20, 3), (3, -9), (0, 0), (11, 5)])
def test_an_ellipse_across_the_edge_is_cut(centre):
    whole = rasterize(shape("ellipse", (centre[0] + 20, centre[1] + 20), *ellipse_ends(centre, 20)), 50, 60)
    np.testing.assert_array_equal(
        rasterize(shape("ellipse", centre, *ellipse_ends(centre, 0)), 6, 12), whole[20:26, 20:32]
    )


# --- shapes that no one drew on this picture ---

BOX = np.ones((3, 4), bool)


@pytest.mark.parametrize(
    "good",
    [
        shape("polygon", (-1.5, -2), (41, 0), (10, 31.5)),
        shape("circle", (39, 29), (60, 29)),
        shape("ellipse", (1, 1), (20, 1), (1, 30)),
        shape("mask", (37, 28), bitmap=BOX),
        shape("point", (0, 0)),
    ],
)
def test_a_slip_over_the_edge_and_a_circle_across_it_are_taken(good):
    check_shape(good, 30, 40)
    assert fits(good, 30, 40)


@pytest.mark.parametrize(
    ("bad", "answer"),
    [
        (shape("polygon", (1, 1), (2, 2)), "expected 3 to 100,000 points for a polygon, found 2"),
        (shape("polygon"), "found 0"),
        (shape("polygon", *[(1, 1)] * 100_001), "found 100001"),
        (shape("line", (1, 1)), "expected 2 to"),
        (shape("point"), "expected 1 to"),
        (shape("rectangle", (1, 1), (2, 2), (3, 3)), "expected 2 points for a rectangle, found 3"),
        (shape("circle", (1, 1)), "expected 2 points for a circle"),
        (shape("polygon", (1, 1), (2, math.nan), (3, 3)), r"expected numbers as coordinates, found \(2, nan\)"),
        (shape("circle", (1, 1), (math.inf, 1)), "expected numbers"),
        (shape("polygon", (1, 1), (45, 2), (3, 3)), r"the point \(45, 2\) lies outside of the picture of 40 × 30"),
        (shape("line", (1, 1), (3, -4)), "lies outside"),
        (shape("circle", (50, 1), (51, 1)), "lies outside"),
        (shape("circle", (5, 5), (60, 5)), "a radius of 55 pixels does not fit"),
        (shape("circle", (5, 5), (1e308, -1e308)), "a radius of"),
        (shape("mask", (39, 29), bitmap=BOX), "a mask of 4 × 3 pixels at"),
    ],
)
def test_what_does_not_fit_is_answered_with_its_place(bad, answer):
    with pytest.raises(DataError, match=rf"^scan\.json, shape 1: .*{answer}"):
        check_shape(bad, 30, 40)
    assert not fits(bad, 30, 40)


# --- turned with their picture ---


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "drawn",
    [
        shape("rectangle", (2, 1), (9, 3)),
        shape("point", (3, 4)),
        shape("mask", (1, 2), bitmap=pixels("##.# .##. #...")),
        shape("polygon", (2, 1), (9, 1), (9, 5), (2, 5)),
    ],
)
def test_turning_a_shape_equals_turning_its_pixels(drawn, orientation):
    stored = rasterize(drawn, 9, 13, point_radius=0)
    assert stored.any()
    upright = turn_upright(stored, orientation)
    turned = turn_shape(drawn, orientation, stored.shape)
    np.testing.assert_array_equal(rasterize(turned, *upright.shape, point_radius=0), upright)
