"""The scan within a screen, on phantoms whose frame is known, and on real images that no crop may harm."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ustoolkit.data.field_of_view import field_of_view, locate_scan, told_field_of_view
from ustoolkit.data.phantom import phantom_samples
from ustoolkit.data.phantom_frame import draw_frame, scan_area
from ustoolkit.data.readers import open_data_set
from ustoolkit.recipe import DataSetSettings


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def curved(scan: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A rectangular scan bent into a convex probe's sector on a black screen, and where it is."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    radius = np.hypot(columns - size[1] / 2, rows)
    angle = np.arctan2(columns - size[1] / 2, rows)
    inside = (np.abs(angle) <= 0.6) & (radius >= 0.2 * size[0]) & (radius <= 0.85 * size[0])
    across = (angle + 0.6) / 1.2 * (scan.shape[1] - 1)
    down = (radius / size[0] - 0.2) / 0.65 * (scan.shape[0] - 1)
    return cv2.remap(scan, across, down, cv2.INTER_LINEAR) * inside, inside


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (256, 256), (300, 500), (480, 640)])
def test_a_frame_is_cut_away_to_the_pixel(size):
    rows, columns = scan_area(size)
    for sample in phantom_samples(6, seed=21, size=size, frame=True):
        assert field_of_view(sample.image) == (rows.start, rows.stop, columns.start, columns.stop)


@pytest.mark.parametrize("quality", [90, 60])
def test_compression_costs_few_pixels_and_no_lesion(quality):
    rows, columns = scan_area((300, 400))
    for sample in phantom_samples(6, seed=8, size=(300, 400), frame=True):
        area = field_of_view(as_jpeg(sample.image[..., 0], quality)[..., None])
        frame = np.array([rows.start, rows.stop, columns.start, columns.stop])
        off = np.abs(frame - area)
        assert off[[0, 2, 3]].max() <= 8 and off[1] <= 40  # compression empties the darkest depth
        assert sample.mask[area[0] : area[1], area[2] : area[3]].sum() == sample.mask.sum()


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (256, 256), (200, 420)])
def test_an_image_without_a_frame_stays_whole(size):
    for sample in phantom_samples(8, seed=22, size=size):
        assert field_of_view(sample.image) == (0, size[0], 0, size[1])


def test_a_sector_is_found_and_text_in_its_corners_marked():
    size = (400, 480)
    scan = next(phantom_samples(1, seed=4, size=(256, 256))).image[..., 0]
    screen, inside = curved(np.maximum(scan, 20), size)
    cv2.putText(screen, "SURNAME", (10, 120), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 220, 1, cv2.LINE_AA)
    cv2.putText(screen, "HOSPITAL 12-05-2019", (150, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 220, 1, cv2.LINE_AA)
    (top, bottom, left, right), text = locate_scan(screen[..., None])
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    np.testing.assert_allclose(
        (top, bottom, left, right), (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1), atol=10
    )
    assert text[105:122, 12:85].mean() > 0.9 and not text[inside].any()


def test_two_scans_side_by_side_are_both_kept():
    screen = np.zeros((300, 600, 1), np.uint8)
    scans = [sample.image for sample in phantom_samples(2, seed=9, size=(200, 260))]
    screen[50:250, 30:290], screen[50:250, 310:570] = scans
    assert field_of_view(screen) == (50, 250, 30, 570)


def test_a_logo_and_a_grey_bar_are_no_scan():
    screen = next(phantom_samples(1, seed=3, size=(300, 400), frame=True)).image.copy()
    cv2.circle(screen, (380, 285), 12, 200, -1)
    screen[100:200, 385:395] = np.linspace(255, 0, 100).astype(np.uint8)[:, None, None]
    rows, columns = scan_area((300, 400))
    assert field_of_view(screen) == (rows.start, rows.stop, columns.start, columns.stop)


def test_calipers_in_the_dark_depth_are_kept():
    screen = np.zeros((400, 400, 1), np.uint8)
    screen[40:120, 100:300] = next(phantom_samples(1, seed=3, size=(80, 200))).image
    assert field_of_view(screen)[1] < 130
    cv2.drawMarker(screen, (200, 300), 255, cv2.MARKER_CROSS, 13, 1)
    assert 300 < field_of_view(screen)[1] < 400


@settings(max_examples=40, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 3]))))
def test_of_any_image_something_is_left(image):
    top, bottom, left, right = field_of_view(image)
    assert 0 <= top < bottom <= image.shape[0] and 0 <= left < right <= image.shape[1]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([10, 20, 30, 40], (20, 60, 10, 40)),
        ([-5, 0, 500, 500], (0, 100, 0, 200)),
        ([300, 0, 10, 10], None),
        ([1, 2, 3], None),
        ("[10, 20, 30, 40]", (20, 60, 10, 40)),
        ("nothing", None),
        ([0, 0, float("nan"), 1], None),
    ],
)
def test_what_the_source_told_counts_within_the_image(told, expected):
    assert told_field_of_view({"field_of_view": told}, 100, 200) == expected


def test_nothing_told_is_none():
    assert told_field_of_view({}, 100, 200) is None


@pytest.mark.data
def test_no_real_lesion_is_cut_and_cropped_images_stay_whole(real_data):
    rows, columns = scan_area((480, 640))
    size = (columns.stop - columns.start, rows.stop - rows.start)
    for entry in open_data_set(real_data / "busbra", DataSetSettings())[::45]:
        sample = entry.load()
        assert field_of_view(sample.image) == (0, sample.image.shape[0], 0, sample.image.shape[1])
        screen = draw_frame(cv2.resize(sample.image, size), (480, 640), "Hospital 7", 40.0, 9.0)
        mask = np.zeros((480, 640), np.uint8)
        mask[rows, columns] = cv2.resize(sample.mask, size, interpolation=cv2.INTER_NEAREST)
        top, bottom, left, right = field_of_view(screen[..., None])
        assert mask[top:bottom, left:right].sum() == mask.sum()
        assert top >= rows.start - 8 and bottom <= rows.stop + 8  # no text above or below
