"""Marks drawn on phantoms, whose place and number are known."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ustoolkit.data.overlays import Overlays, caliper_centres, find_overlays, text_boxes
from ustoolkit.data.phantom import phantom_samples
from ustoolkit.data.readers import open_data_set
from ustoolkit.recipe import DataSetSettings

PLACES = [(60, 70), (90, 300), (200, 120), (180, 380)]


@pytest.fixture(scope="module")
def bare():
    return [sample.image for sample in phantom_samples(6, seed=17, size=(240, 420))]


def drawn(image: np.ndarray, marker: int, arm: int = 5, thickness: int = 1) -> np.ndarray:
    marked = image.copy()
    for row, column in PLACES:
        cv2.drawMarker(marked, (column, row), 255, marker, 2 * arm + 1, thickness)
    return marked


def test_tissue_alone_has_no_overlays(bare):
    assert {find_overlays(image) for image in bare} == {Overlays(0.0, 0, 0)}


@pytest.mark.parametrize("marker", [cv2.MARKER_CROSS, cv2.MARKER_TILTED_CROSS])
@pytest.mark.parametrize(("arm", "thickness"), [(4, 1), (6, 1), (6, 2)])
def test_crosses_are_found_where_they_are(bare, marker, arm, thickness):
    found = [caliper_centres(drawn(image, marker, arm, thickness)[..., 0]) for image in bare]
    near = [any(abs(r - row) <= 2 and abs(c - column) <= 2 for r, c in at) for at in found for row, column in PLACES]
    assert np.mean(near) >= 0.9
    assert sum(map(len, found)) <= len(near)


@pytest.mark.parametrize("marker", [cv2.MARKER_SQUARE, cv2.MARKER_DIAMOND, cv2.MARKER_TRIANGLE_UP])
def test_other_marks_are_no_crosses(bare, marker):
    assert all(find_overlays(drawn(image, marker)).calipers == 0 for image in bare)


def test_a_line_of_text_is_boxed(bare):
    for image in bare:
        written = image.copy()
        cv2.putText(written, "LEFT BREAST", (100, 150), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1, cv2.LINE_AA)
        boxes = text_boxes(written[..., 0])
        assert boxes and all(x >= 90 and x + w <= 220 and y >= 130 and y + h <= 160 for x, y, w, h in boxes)
        assert find_overlays(written).text_regions == len(boxes)


def test_framed_phantoms_show_their_text_and_calipers():
    samples = list(phantom_samples(12, seed=5, size=(256, 256), frame=True))
    found = [find_overlays(sample.image) for sample in samples]
    assert all(overlays.text_regions >= 2 for overlays in found)
    told = [sample.attributes["calipers"] for sample in samples]
    assert 0 < sum(told) < len(told)
    assert [overlays.calipers >= 3 for overlays in found] == told
    assert all(overlays.calipers == 0 for overlays, calipers in zip(found, told, strict=True) if not calipers)


def test_coloured_pixels_are_counted_and_grey_ones_are_not(bare):
    image = np.repeat(bare[0], 3, axis=2)
    assert find_overlays(image).coloured_fraction == 0
    image[10:20, 30:50] = (250, 220, 0)
    assert find_overlays(image).coloured_fraction == pytest.approx(200 / (240 * 420), abs=1e-6)


def test_a_coloured_cross_is_a_caliper():
    image = np.full((60, 60, 3), 40, np.uint8)
    cv2.drawMarker(image, (30, 30), (250, 220, 0), cv2.MARKER_CROSS, 13, 1)
    assert find_overlays(image).calipers == 1


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24), st.sampled_from([1, 3]))),
)
def test_any_image_can_be_looked_at(image):
    before = image.copy()
    overlays = find_overlays(image)
    assert 0 <= overlays.coloured_fraction <= 1 and overlays.calipers >= 0 and overlays.text_regions >= 0
    np.testing.assert_array_equal(image, before)


@pytest.mark.data
def test_crosses_planted_into_real_images_are_found(real_data):
    entries = open_data_set(real_data / "busbra", DataSetSettings())[::60]
    hits = total = 0
    for entry in entries:
        image = entry.load().image[..., 0].copy()
        rows, columns = image.shape[0] // 3, image.shape[1] // 3
        places = [(rows, columns), (rows, 2 * columns), (2 * rows, columns)]
        for row, column in places:
            cv2.drawMarker(image, (column, row), 255, cv2.MARKER_CROSS, 11, 1)
        found = caliper_centres(image)
        hits += sum(any(abs(r - row) <= 2 and abs(c - column) <= 2 for r, c in found) for row, column in places)
        total += len(places)
    assert hits >= 0.85 * total
