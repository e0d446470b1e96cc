"""Copies of an image are found however they were changed; images that only look alike are not called copies."""

import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ustoolkit.data.duplicates import Duplicate, find_duplicates, group_duplicates
from ustoolkit.data.fingerprint import (
    LENGTH,
    SAME_PICTURE,
    compare,
    find_landmarks,
    fingerprint,
    mirror_landmarks,
    texture,
)
from ustoolkit.data.phantom import phantom_samples


@pytest.fixture(scope="module")
def scans():
    """Twenty scans of nine patients or more, so with several views of one lesion."""
    return [sample.image for sample in phantom_samples(20, seed=7, size=(240, 320))]


def pairs_of(images):
    digests = [hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest() for image in images]
    return find_duplicates([fingerprint(image) for image in images], digests)


def found(images):
    return [(pair.first, pair.second) for pair in pairs_of(images)]


def jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)[..., None]


def resize(image, width, height):
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)[..., None]


def rotate(image, degrees, border=cv2.BORDER_CONSTANT):
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=border)[..., None]


def toned(image, gamma, contrast, brightness):
    values = ((image / 255.0) ** gamma - 0.5) * contrast + 0.5 + brightness
    return np.rint(values * 255).clip(0, 255).astype(np.uint8)


def annotated(image):
    image = image[..., 0].copy()
    cv2.putText(image, "LT 3H", (20, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)
    for point in ((120, 90), (200, 95), (160, 60), (160, 130)):
        cv2.drawMarker(image, point, 255, cv2.MARKER_CROSS, 9, 1)
    return image[..., None]


# What was done, and what the report calls it.
CHANGES = {
    "JPEG 20": (lambda image: jpeg(image, 20), "re-encoded"),
    "half the size": (lambda image: resize(image, 160, 120), "re-encoded"),
    "1.5 times the size": (lambda image: resize(image, 480, 360), "re-encoded"),
    "brighter": (lambda image: toned(image, 0.7, 0.8, 0.1), "re-encoded"),
    "darker": (lambda image: toned(image, 1.4, 1.2, 0.0), "re-encoded"),
    "colour": (lambda image: np.repeat(image, 3, axis=2), "re-encoded"),
    "blurred": (lambda image: cv2.GaussianBlur(image, (0, 0), 1.2)[..., None], "re-encoded"),
    "annotated": (annotated, "re-encoded"),
    "cropped": (lambda image: np.ascontiguousarray(image[12:-18, 5:-24]), "cropped"),
    "cropped, as large as before": (lambda image: resize(image[19:-19, 25:-25], 320, 240), "cropped"),
    "cropped, JPEG": (lambda image: jpeg(np.ascontiguousarray(image[:-19, 25:]), 40), "cropped"),
    "turned left": (lambda image: np.ascontiguousarray(np.rot90(image)), "turned 270°"),
    "turned right": (lambda image: np.ascontiguousarray(np.rot90(image, 3)), "turned 90°"),
    "upside down": (lambda image: np.ascontiguousarray(np.rot90(image, 2)), "turned 180°"),
    "left to right": (lambda image: np.ascontiguousarray(image[:, ::-1]), "mirrored"),
    "up to down": (lambda image: np.ascontiguousarray(image[::-1]), "mirrored up-down"),
    "transposed": (lambda image: np.ascontiguousarray(image.swapaxes(0, 1)), "mirrored and turned 270°"),
    "rotated, black corners": (lambda image: rotate(image, 7), "rotated 7°"),
    "rotated, filled corners": (lambda image: rotate(image, -12, cv2.BORDER_REPLICATE), "rotated 12°"),
    "turned, JPEG": (lambda image: jpeg(np.ascontiguousarray(np.rot90(image, 3)), 30), "turned 90°"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_is_found_among_other_scans_and_its_change_is_named(scans, name):
    make, called = CHANGES[name]
    pairs = pairs_of([*scans, make(scans[4])])
    assert [(pair.first, pair.second, pair.exact, pair.change) for pair in pairs] == [(4, 20, False, called)]
    assert SAME_PICTURE <= pairs[0].similarity <= 1


def test_the_change_is_told_from_the_first_image_to_the_second(scans):
    turned = np.ascontiguousarray(np.rot90(scans[2], 3))
    assert [pair.change for pair in pairs_of([scans[2], turned])] == ["turned 90°"]
    assert [pair.change for pair in pairs_of([turned, scans[2]])] == ["turned 270°"]


def test_scans_of_one_patient_are_not_copies(scans):
    assert found(scans) == []


def test_scans_in_one_device_frame_are_not_copies():
    framed = [sample.image for sample in phantom_samples(16, seed=5, size=(240, 320), frame=True)]
    assert found(framed) == []


def test_different_speckle_over_one_anatomy_is_not_a_copy():
    random = np.random.default_rng(3)
    anatomy = cv2.GaussianBlur(random.normal(0, 1, (240, 320)), (0, 0), 25)
    anatomy = 100 + 60 * anatomy / np.abs(anatomy).max()
    speckle = [cv2.GaussianBlur(random.normal(0, 200, (240, 320)), (0, 0), 3) for _ in range(6)]
    images = [np.clip(anatomy + grain, 0, 255).astype(np.uint8)[..., None] for grain in speckle]
    assert found(images) == []


def test_equal_pixels_are_exact_even_without_texture_and_empty_frames_are_not_near_copies():
    black, grey = np.zeros((240, 320, 1), np.uint8), np.full((240, 320, 1), 90, np.uint8)
    frames = []
    for text in ("FR 21 Hz", "DR 60 dB", "ID 40311"):
        frame = np.zeros((240, 320), np.uint8)
        cv2.putText(frame, "SCANNER 5", (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 200, 1)
        cv2.putText(frame, text, (8, 225), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 200, 1)
        frames.append(frame[..., None])
    pairs = pairs_of([black, grey, *frames, black.copy(), np.zeros((100, 100, 1), np.uint8)])
    assert pairs == [Duplicate(0, 5, True, 1.0, "none")]


def test_faint_noise_does_not_make_two_black_frames_alike():
    random = np.random.default_rng(0)
    assert found([random.integers(0, 4, (240, 320, 1)).astype(np.uint8) for _ in range(6)]) == []


def test_pairs_do_not_depend_on_the_order_of_the_images(scans):
    images = [*scans[:8], jpeg(scans[1], 40), rotate(scans[3], 5), np.ascontiguousarray(scans[6][:, ::-1])]
    order = np.random.default_rng(1).permutation(len(images))

    def named(pairs, names):
        return {(frozenset((names[pair.first], names[pair.second])), pair.similarity) for pair in pairs}

    straight = named(pairs_of(images), range(len(images)))
    assert named(pairs_of([images[number] for number in order]), order) == straight
    assert {pair for pair, _ in straight} == {frozenset((1, 8)), frozenset((3, 9)), frozenset((6, 10))}


def test_many_copies_of_one_scan_make_one_group(scans):
    images = [*scans, *(jpeg(scans[0], quality) for quality in range(20, 95, 5))]
    groups = group_duplicates(len(images), pairs_of(images))
    assert groups == [[0, *range(20, len(images))]]


def test_an_index_with_cells_finds_what_comparing_all_landmarks_finds(scans, monkeypatch):
    images = [*scans, *(rotate(scan, 4) for scan in scans), *(jpeg(scan, 50) for scan in scans)]
    exhaustive = found(images)
    monkeypatch.setattr("ustoolkit.data.duplicates._INDEXED", 100)
    assert found(images) == exhaustive
    assert len(exhaustive) >= 40


def test_nothing_and_one_image(scans):
    assert find_duplicates([], []) == []
    assert found(scans[:1]) == []


@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), st.sampled_from([1, 3]), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_fingerprint_has_a_fixed_length_and_is_a_function_of_the_pixels(size, channels, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*size, channels)).astype(np.uint8)
    content = fingerprint(image)
    assert len(content) == LENGTH
    assert content == fingerprint(np.asfortranarray(image))
    height, width = texture(content).shape
    assert 0.45 * 8184 < height * width <= 8184
    wanted = np.clip(size[0] / size[1], 1 / 8, 8)
    assert height / width == pytest.approx(wanted, rel=0.06)


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (2, 2), (3000, 2000)])
def test_odd_sizes_have_a_fingerprint(size):
    assert len(fingerprint(np.full((*size, 1), 77, np.uint8))) == LENGTH


def test_texture_comes_back_as_drawn():
    """A chequerboard of squares of the thumbnail's own pixels: dark is low, light is high, flat is the middle."""
    squares = np.kron(np.indices((15, 15)).sum(axis=0) % 2, np.ones((6, 6))).astype(np.uint8)
    thumbnail = texture(fingerprint((squares * 100 + 50)[..., None]))
    assert thumbnail.shape == (90, 90)
    assert np.array_equal(thumbnail > 126, squares == 1)
    flat = texture(fingerprint(np.full((90, 90, 1), 50, np.uint8)))
    assert np.unique(flat).tolist() == [126]


def test_brightness_and_contrast_leave_the_texture_as_it_was(scans):
    first = texture(fingerprint(scans[0])).astype(int)
    second = texture(fingerprint((scans[0] // 2 + 40).astype(np.uint8))).astype(int)
    assert np.abs(first - second).max() <= 3 * 18
    assert np.abs(first - second).mean() < 18 / 2


def test_mirrored_landmarks_are_those_of_the_mirrored_image(scans):
    thumbnail = texture(fingerprint(scans[0]))
    mirrored = mirror_landmarks(find_landmarks(thumbnail), thumbnail.shape[1])
    of_mirror = find_landmarks(np.ascontiguousarray(thumbnail[:, ::-1]))
    distances = np.linalg.norm(mirrored.places[:, None, :2] - of_mirror.places[None, :, :2], axis=2)
    nearest = distances.argmin(axis=1)
    same = distances.min(axis=1) < 0.5
    assert same.mean() > 0.7
    alike = (mirrored.descriptors[same].astype(int) * of_mirror.descriptors[nearest[same]].astype(int)).sum(axis=1)
    assert np.median(alike / 512**2) > 0.97


def test_a_match_says_where_the_copy_lies(scans):
    crop = np.ascontiguousarray(scans[0][24:, :288])
    thumbnails = [texture(fingerprint(image)) for image in (scans[0], crop)]
    match = compare(*thumbnails, *(find_landmarks(thumbnail) for thumbnail in thumbnails), mirrored=False)
    across, down = thumbnails[1].shape[1] / 288, thumbnails[1].shape[0] / 216
    x, y = match.matrix @ [thumbnails[0].shape[1] / 2, thumbnails[0].shape[0] / 2, 1]
    assert x == pytest.approx(160 * across, abs=1)
    assert y == pytest.approx((120 - 24) * down, abs=1)


@given(st.integers(2, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_groups_are_the_connected_parts(count, edges):
    edges = [(min(edge), max(edge)) for edge in edges if max(edge) < count and edge[0] != edge[1]]
    groups = group_duplicates(count, [Duplicate(*edge, False, 0.9, "cropped") for edge in edges])
    reach = np.eye(count, dtype=bool)
    for first, second in edges:
        reach[first, second] = reach[second, first] = True
    reach = np.linalg.matrix_power(reach.astype(float), count) > 0
    wanted = sorted({tuple(np.flatnonzero(row)) for row in reach if row.sum() > 1})
    assert [tuple(group) for group in groups] == wanted


def test_a_worker_that_makes_fingerprints_stays_small():
    code = "import sys, ustoolkit.data.fingerprint; print('faiss' in sys.modules, 'tensorflow' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.split() == ["False", "False"]


@pytest.mark.data
def test_real_scans_two_views_of_a_patient_differ_and_their_copies_are_found(real_data):
    from ustoolkit.data.image_files import read_image

    paths = sorted((real_data / "busbra" / "Images").glob("*.png"))[200:320]
    images = [read_image(path) for path in paths]
    assert {path.name.split("-")[1] for path in paths} >= {"l.png", "r.png"}
    copies = [jpeg(np.ascontiguousarray(image[8:-5, 6:-10]), 50) for image in images]
    pairs = [(pair.first, pair.second) for pair in pairs_of([*images, *copies])]
    assert set(pairs) <= {(number, number + 120) for number in range(120)}
    assert len(pairs) >= 118
