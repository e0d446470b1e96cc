"""Each step against a drawn or a brute-force oracle, and a cleaned data set read back."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ustoolkit.cli import main
from ustoolkit.data.clean import (
    clean_sample,
    clean_steps,
    crop_to_scan,
    low_pass,
    moved_boxes,
    open_grey,
    paint_over_colours,
    remove_bright_objects,
)
from ustoolkit.data.clean_set import write_cleaned
from ustoolkit.data.image_files import encode_png, read_image
from ustoolkit.data.phantom import phantom_samples
from ustoolkit.data.phantom_frame import scan_area
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.readers.entry import Entry, Refused
from ustoolkit.data.records import Records, write_records
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError, OutputError
from ustoolkit.recipe import DataSetSettings, load_data_set
from ustoolkit.recipe.data_set import CleanSettings

SMALL = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(1)), elements=st.integers(0, 4))


class Given:
    """Loads a sample that is at hand; picklable."""

    def __init__(self, sample: Sample):
        self.sample = sample

    def __call__(self) -> Sample:
        return self.sample


def area_opened(image: np.ndarray, area: int) -> np.ndarray:
    """The definition: the brightest level at which a pixel's connected region of at least that level is large."""
    result = np.zeros_like(image)
    for level in range(1, int(image.max()) + 1):
        regions, count = ndimage.label(image >= level)
        for region in range(1, count + 1):
            if np.count_nonzero(regions == region) >= area:
                result[regions == region] = level
    return result


@settings(max_examples=50, deadline=None)
@given(SMALL, st.integers(1, 12))
def test_area_opening_is_its_definition(image, area):
    expected = area_opened(image[..., 0], min(area, image.size))
    np.testing.assert_array_equal(remove_bright_objects(image, area)[..., 0], expected)


@settings(max_examples=50, deadline=None)
@given(SMALL, st.integers(1, 3))
def test_openings_only_darken_and_do_nothing_twice(image, size):
    for opening in (remove_bright_objects, open_grey):
        once = opening(image, size)
        assert once.shape == image.shape and (once <= image).all()
        np.testing.assert_array_equal(opening(once, size), once)


def test_opening_takes_a_thin_line_and_leaves_a_thick_bar():
    image = np.full((30, 30, 1), 50, np.uint8)
    image[5:7], image[15:25] = 200, 200
    opened = open_grey(image, 2)
    assert (opened[5:7] == 50).all() and (opened[17:23, 5:25] == 200).all()


def test_low_pass_spreads_a_point_by_its_deviation():
    image = np.zeros((61, 61, 1), np.uint8)
    image[25:36, 25:36] = 250
    smooth = low_pass(image, 2.0)[..., 0].astype(float)
    expected = ndimage.gaussian_filter(image[..., 0].astype(float), 2.0)
    np.testing.assert_allclose(smooth, expected, atol=1.5)


def test_a_flat_image_stays_as_it_is_in_every_step():
    sample = Sample("flat", np.full((40, 50, 3), 77, np.uint8), None, "", "p")
    steps = list(clean_steps(sample, CleanSettings(steps=("crop", "colours", "smooth", "bright", "open"))))
    assert [name for name, _ in steps] == ["", "crop", "colours", "smooth", "bright", "open"]
    for _, image in steps:
        np.testing.assert_array_equal(image, sample.image)


def test_coloured_marks_are_painted_over_and_doppler_is_left():
    tissue = np.repeat(next(phantom_samples(1, seed=2, size=(200, 300))).image, 3, axis=2)
    marked = tissue.copy()
    cv2.drawMarker(marked, (50, 150), (240, 220, 0), cv2.MARKER_CROSS, 13, 2)
    cv2.circle(marked, (230, 60), 15, (220, 40, 0), -1)
    painted = paint_over_colours(marked)
    mark = (marked != tissue).any(axis=2)
    mark[:, 150:] = False
    around = cv2.dilate(mark.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert np.ptp(painted[mark].astype(int), axis=1).max() <= 1  # grey again
    np.testing.assert_array_equal(painted[~around], marked[~around])


def test_a_grey_image_is_not_painted():
    image = next(phantom_samples(1, seed=2, size=(64, 64))).image
    np.testing.assert_array_equal(paint_over_colours(image), image)


def test_text_beside_a_sector_takes_the_screens_grey():
    image = np.full((20, 40, 1), 7, np.uint8)
    image[5, 4:10] = 200
    text = np.zeros((20, 40), bool)
    text[3:8, 2:14] = True
    assert (crop_to_scan(image, (2, 20, 0, 40), text) == 7).all()


def test_mask_and_boxes_move_with_the_crop():
    sample = next(phantom_samples(1, seed=6, size=(200, 260), frame=True))
    rows, columns = scan_area((200, 260))
    told = {"BBOX": "[91,24,103,79]", "box": [60, 50, 10, 5], "lesion_box": [60, 50, 10, 5], "ultrasound_regions": [{}]}
    given = Sample("a", sample.image, sample.mask, "benign", "p", (0.1, 0.2), "a.png", told)
    cleaned = clean_sample(given, CleanSettings())
    np.testing.assert_array_equal(cleaned.mask, sample.mask[rows, columns])
    assert cleaned.image.shape[:2] == cleaned.mask.shape
    left, top = columns.start, rows.start
    assert cleaned.attributes == {
        "BBOX": json.dumps([91 - left, 24 - top, 103, 79]),
        "box": [60 - left, 50 - top, 10, 5],
        "lesion_box": [60 - left, 50 - top, 10, 5],
        "cropped_to": [left, top, columns.stop - left, rows.stop - top],
    }
    assert (cleaned.spacing_mm, cleaned.label, cleaned.patient_id) == ((0.1, 0.2), "benign", "p")
    assert given.attributes is told and "cropped_to" not in told


def test_the_sources_field_of_view_counts_and_never_cuts_what_is_annotated():
    image = next(phantom_samples(1, seed=6, size=(100, 120))).image
    mask = np.zeros((100, 120), np.uint8)
    mask[40:60, 90:110] = 1
    sample = Sample("a", image, None, "", "p", attributes={"field_of_view": [10, 20, 60, 50]})
    only_crop = CleanSettings(steps=("crop",))
    np.testing.assert_array_equal(clean_sample(sample, only_crop).image, image[20:70, 10:70])
    assert clean_sample(sample, only_crop).attributes["field_of_view"] == [0, 0, 60, 50]
    annotated = Sample("a", image, mask, "", "p", attributes=sample.attributes)
    assert clean_sample(annotated, only_crop).mask.sum() == mask.sum()


def test_a_box_of_another_form_is_left():
    attributes = {"box": "upper left", "BBox": [1, 2], "bbox": None}
    assert moved_boxes(attributes, 3, 4) == attributes


@pytest.fixture(scope="module")
def framed(tmp_path_factory):
    from ustoolkit.data.phantom import write_phantoms

    return write_phantoms(tmp_path_factory.mktemp("framed") / "set", 12, seed=3, size=(96, 128), frame=True)


def test_a_cleaned_set_is_read_as_it_is(framed, tmp_path):
    before = [entry.load() for entry in open_data_set(framed, DataSetSettings())]
    settings = DataSetSettings(path=str(framed))
    cleaned = write_cleaned(open_data_set(framed, settings), tmp_path / "out", settings, workers=1)
    assert (cleaned.images, cleaned.cropped, cleaned.refused) == (12, 12, [])
    described = load_data_set(tmp_path / "out" / "data_set.toml")
    rows, columns = scan_area((96, 128))
    for source in (open_data_set(tmp_path / "out", DataSetSettings()), open_data_set(cleaned.folder, described)):
        after = [entry.load() for entry in source]
        for old, new in zip(before, after, strict=True):
            told = ("source_id", "patient_id", "label", "spacing_mm")
            assert all(getattr(old, name) == getattr(new, name) for name in told)
            np.testing.assert_array_equal(new.mask, old.mask[rows, columns])
            np.testing.assert_array_equal(new.image, clean_sample(old, settings.clean).image)
            assert old.attributes.items() <= new.attributes.items()
    records = write_records(source, tmp_path / "records", described, workers=1)
    assert records.manifest["counts"]["patients"] == len({sample.patient_id for sample in before})


def test_workers_change_nothing(framed, tmp_path):
    settings = DataSetSettings(clean=CleanSettings(steps=("crop",)))
    entries = open_data_set(framed, settings)
    alone = write_cleaned(entries, tmp_path / "one", settings, workers=1).folder
    together = write_cleaned(entries, tmp_path / "two", settings, workers=2).folder
    names = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(together) for path in together.rglob("*") if path.is_file())
    assert all((alone / name).read_bytes() == (together / name).read_bytes() for name in names)


def test_a_refused_image_is_listed_and_slashes_become_names(tmp_path):
    image = np.full((20, 20, 1), 9, np.uint8)
    image[5:15, 5:15] = 90
    classes = ("background", "lesion", "cyst")
    mask = (image[..., 0] > 9).astype(np.uint8) * 2
    samples = [
        Sample("left/a", image, mask, "", "p1", attributes={"none": None, "list": ["ü", 1]}),
        Sample("right/a", image, None, "benign", "p2"),
        Sample("left_mask", image, mask, "", "p1"),
        Sample("x/y", image, None, "", "p3"),
        Sample("x__y", image, None, "", "p4"),
    ]
    entries = [Entry(sample.source_id, Given(sample)) for sample in samples]
    entries.append(Entry("broken", Refused("broken.png: the image is damaged.")))
    settings = DataSetSettings(classes=classes)
    cleaned = write_cleaned(entries, tmp_path / "out", settings, workers=1)
    assert [item["source_id"] for item in cleaned.refused] == ["x/y", "x__y", "broken"]
    described = load_data_set(tmp_path / "out" / "data_set.toml")
    read = {entry.source_id: entry.load() for entry in open_data_set(cleaned.folder, described)}
    assert set(read) == {"left__a", "right__a", "left_mask"}
    np.testing.assert_array_equal(read["left_mask"].mask, mask)
    np.testing.assert_array_equal(read["left__a"].mask, mask)
    assert read["right__a"].mask is None and read["right__a"].label == "benign"
    assert json.loads(read["left__a"].attributes["list"]) == ["ü", 1] and read["left__a"].attributes["none"] == ""


def test_a_set_without_a_readable_image_is_an_error_and_leaves_nothing(tmp_path):
    entries = [Entry("broken", Refused("broken.png: the image is damaged."))]
    with pytest.raises(DataError, match=r"broken\.png"):
        write_cleaned(entries, tmp_path / "out", DataSetSettings(), workers=1)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_never_replaced(framed, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError):
        write_cleaned(open_data_set(framed, DataSetSettings()), tmp_path, DataSetSettings(), 1, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_command_cleans_previews_and_refuses(framed, tmp_path, capsys):
    out, picture = tmp_path / "out", tmp_path / "look.png"
    assert main(["clean", str(framed), "--out", str(out), "--steps", "crop", "--workers", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cropped"] == 12
    assert main(["records", str(out), "--out", str(tmp_path / "records"), "--workers", "1"]) == 0
    assert len(Records(tmp_path / "records").index) == 12
    assert main(["clean", str(framed), "--preview", "--out", str(picture)]) == 0
    assert min(read_image(picture).shape[:2]) > 300
    assert main(["clean", str(framed), "--preview", "--out", str(picture)]) == 2
    assert main(["clean", str(framed)]) == 2
    assert main(["clean", str(framed), "--out", str(tmp_path / "other"), "--steps", "crop,blur"]) == 2
    assert "found 'blur'" in capsys.readouterr().err


def test_steps_are_described_in_toml(tmp_path):
    (tmp_path / "set.toml").write_text('path = "."\n[clean]\nsteps = ["crop"]\nsmoothing_pixels = 1.5\n')
    assert load_data_set(tmp_path / "set.toml").clean == CleanSettings(steps=("crop",), smoothing_pixels=1.5)


def test_a_mask_only_folder_form_is_kept_without_labels(tmp_path):
    for name, value in (("images/a.png", 80), ("images/b.png", 90)):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(np.full((30, 30), value, np.uint8)))
    (tmp_path / "set" / "masks").mkdir()
    (tmp_path / "set" / "masks" / "a.png").write_bytes(encode_png(np.eye(30, dtype=np.uint8) * 255))
    settings = DataSetSettings()
    write_cleaned(open_data_set(tmp_path / "set", settings), tmp_path / "out", settings, workers=1)
    first, second = (entry.load() for entry in open_data_set(tmp_path / "out", settings))
    np.testing.assert_array_equal(first.mask, np.eye(30, dtype=np.uint8))
    assert second.mask is None and (first.label, first.patient_id, first.spacing_mm) == ("", "a", None)
