"""nnU-Net's raw folders become the pixels and classes that nnU-Net itself would read."""

import json
import math
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ustoolkit.data.image_files import encode_png
from ustoolkit.data.readers import describe, detect, open_data_set
from ustoolkit.errors import DataError, UstoolkitError
from ustoolkit.recipe import DataSetSettings, load_data_set

ROOT = Path(__file__).parents[3]
FILES = ROOT / "tests" / "files" / "nnunet"
GREY = (np.arange(48) * 5).astype(np.uint8).reshape(6, 8)
MASK = np.zeros((6, 8), np.uint8)
MASK[1:4, 2:7] = 1
LABELS = {"background": 0, "lesion": 1}


def make(root, labels=None, ending=".png", **more):
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    said = {"channel_names": {"0": "us"}, "labels": labels or LABELS, "file_ending": ending, **more}
    (root / "dataset.json").write_text(json.dumps({name: value for name, value in said.items() if value is not None}))
    return root


def png(root, name, pixels):
    (root / name).write_bytes(encode_png(pixels))


def nii(root, name, values, spacing=(0.2, 0.3, 1.0), unit="mm"):
    """Saves [slice,] row, column as NIfTI stores it: column, row[, slice]."""
    stored = np.asarray(values).T
    image = nibabel.Nifti1Image(stored, np.eye(4))
    image.header.set_zooms(spacing[: stored.ndim])
    image.header.set_xyzt_units(unit)
    nibabel.save(image, root / name)


def opened(root, **changes):
    return open_data_set(root, DataSetSettings(format="nnunet", **changes))


def samples(root, **changes):
    return [entry.load() for entry in opened(root, **changes)]


def reasons(root):
    read, refused = {}, []
    for entry in opened(root):
        try:
            read[entry.source_id] = entry.load()
        except DataError as problem:
            refused.append(str(problem))
    return read, refused


def test_a_folder_gives_images_masks_and_its_own_parts():
    found = samples(FILES)
    assert [(s.source_id, s.attributes, s.filename) for s in found] == [
        ("breast_001", {"split": "train"}, "breast_001_0000.png"),
        ("breast_002", {"split": "train"}, "breast_002_0000.png"),
        ("breast_003", {"split": "test"}, "breast_003_0000.png"),
    ]
    drawn = np.zeros((18, 24), np.uint8)
    drawn[4:10, 3:12] = 1
    np.testing.assert_array_equal(found[0].mask, drawn)
    assert found[2].mask is None


def test_the_folder_above_will_do_where_it_holds_one_data_set(tmp_path):
    shutil.copytree(FILES, tmp_path / "Dataset007_Breast")
    assert detect(tmp_path) == "nnunet"
    assert [s.source_id for s in samples(tmp_path)] == ["breast_001", "breast_002", "breast_003"]
    shutil.copytree(FILES, tmp_path / "Dataset008_Other")
    with pytest.raises(DataError, match=r"expected one folder.*found Dataset007_Breast, Dataset008_Other"):
        samples(tmp_path)


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "vessel": 1, "cyst": 2, "artery": 3},
        {"artery": 3, "cyst": 2, "vessel": 1, "background": 0},
        {"0": "background", "1": "vessel", "2": "cyst", "3": "artery"},
        {"background": "0", "vessel": "1", "cyst": "2", "artery": "3"},
    ],
    ids=["version 2", "any order", "version 1", "numbers as text"],
)
def test_classes_are_in_the_order_of_their_values(tmp_path, labels):
    make(tmp_path, labels)
    classes = (np.arange(48) % 4).astype(np.uint8).reshape(6, 8)
    png(tmp_path, "imagesTr/a_0000.png", GREY)
    png(tmp_path, "labelsTr/a.png", classes)
    assert describe(tmp_path, DataSetSettings()).classes == ("background", "vessel", "cyst", "artery")
    np.testing.assert_array_equal(samples(tmp_path)[0].mask, classes)


def test_a_description_may_rename_the_classes_but_not_lose_one(tmp_path):
    make(tmp_path, {"background": 0, "one": 1, "two": 2})
    png(tmp_path, "imagesTr/a_0000.png", GREY)
    png(tmp_path, "labelsTr/a.png", MASK * 2)
    renamed = ("background", "gland", "cyst")
    assert describe(tmp_path, DataSetSettings(classes=renamed)).classes == renamed
    np.testing.assert_array_equal(samples(tmp_path, classes=renamed)[0].mask, MASK * 2)
    with pytest.raises(DataError, match=r"expected 2 labels.*found 3"):
        samples(tmp_path, classes=("background", "lesion"))


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"background": 0, "lesion": 1, "ignore": 2}, "found the label 'ignore'"),
        ({"0": "background", "1": "lesion", "2": "Ignore"}, "found the label 'Ignore'|found the label 'ignore'"),
        ({"background": 0, "whole": [1, 2], "core": [2]}, "regions of several"),
        ({"background": 0, "lesion": 2}, "expected labels 0 .background., 1"),
        ({"background": 0}, "expected labels 0"),
        ({"background": 0, "lesion": 0}, "expected labels 0"),
        ({"background": 0, "lesion": math.nan}, "expected labels 0"),
        ({"background": False, "lesion": True}, "expected labels 0"),
        ({"0": "lesion", "1": "lesion"}, "one name twice"),
        ({"background": 0, "lesion": None}, "expected labels 0"),
        ({"background": 0, "lesion": {}}, "expected labels 0"),
        ([], "expected 'labels' with a value each"),
        ("lesion", "expected 'labels' with a value each"),
        ({name: index for index, name in enumerate(map(str, range(1000, 1300)))}, "at most 255"),
    ],
)
def test_labels_that_are_no_classes_are_refused_with_the_file(tmp_path, labels, reason):
    make(tmp_path)
    said = json.loads((tmp_path / "dataset.json").read_text()) | {"labels": labels}
    (tmp_path / "dataset.json").write_text(json.dumps(said))
    png(tmp_path, "imagesTr/a_0000.png", GREY)
    with pytest.raises(DataError, match=reason) as problem:
        samples(tmp_path)
    assert "dataset.json" in str(problem.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "{}", '{"labels": 7}'])
def test_a_broken_description_is_refused(tmp_path, text):
    make(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset\.json"):
        samples(tmp_path)


@pytest.mark.parametrize("ending", [".mha", 7, None, [".png"]])
def test_an_ending_that_cannot_be_read_is_refused(tmp_path, ending):
    make(tmp_path, ending=".png")
    said = json.loads((tmp_path / "dataset.json").read_text()) | {"file_ending": ending}
    (tmp_path / "dataset.json").write_text(json.dumps(said))
    with pytest.raises(DataError, match=r"expected a file_ending of .*\.nii\.gz"):
        samples(tmp_path)


# --- channels ---


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_three_grey_channels_are_red_green_and_blue_and_one_file_may_hold_all(tmp_path, ending):
    make(tmp_path, ending=ending)
    channels = [GREY, 255 - GREY, GREY // 2]
    for number, channel in enumerate(channels):
        Image.fromarray(channel).save(tmp_path / f"imagesTr/apart_000{number}{ending}")
    Image.fromarray(MASK).save(tmp_path / f"labelsTr/apart{ending}")
    np.testing.assert_array_equal(samples(tmp_path)[0].image, np.stack(channels, -1))
    for path in (tmp_path / "imagesTr").iterdir():
        path.unlink()
    Image.fromarray(np.stack(channels, -1)).save(tmp_path / f"imagesTr/apart_0000{ending}")
    (together,) = samples(tmp_path)
    np.testing.assert_array_equal(together.image, np.stack(channels, -1))
    np.testing.assert_array_equal(together.mask, MASK)


def test_channels_that_do_not_fit_are_refused_and_the_others_go_on(tmp_path):
    make(tmp_path)
    for case in ("good", "coloured", "lacking", "sizes", "unnumbered"):
        for number in range(3):
            png(tmp_path, f"imagesTr/{case}_000{number}.png", GREY)
        png(tmp_path, f"labelsTr/{case}.png", MASK)
    png(tmp_path, "imagesTr/coloured_0001.png", np.stack([GREY, 255 - GREY, GREY], -1))
    (tmp_path / "imagesTr/lacking_0001.png").unlink()
    (tmp_path / "imagesTr/lacking_0002.png").unlink()
    png(tmp_path, "imagesTr/sizes_0002.png", GREY[:5])
    png(tmp_path, "imagesTr/unnumbered.png", GREY)
    read, refused = reasons(tmp_path)
    assert list(read) == ["good"] and len(refused) == 4
    told = "\n".join(refused)
    assert "coloured_0001.png: expected a grey channel of 8 × 6 pixels, found 8 × 6 in 3 colours" in told
    assert "lacking: expected 3 channels, from 0000 on, as most cases have, found lacking_0000.png" in told
    assert "sizes_0002.png: expected a grey channel of 8 × 6 pixels, found 8 × 5" in told
    assert "unnumbered.png: expected a name with the channel's number" in told


def test_two_channels_are_refused(tmp_path):
    make(tmp_path)
    for number in range(2):
        png(tmp_path, f"imagesTr/a_000{number}.png", GREY)
    assert "expected one channel, or three, found 2" in reasons(tmp_path)[1][0]


def test_a_value_that_is_no_class_is_refused_and_the_others_go_on(tmp_path):
    make(tmp_path)
    for case, mask in (("good", MASK), ("bad", MASK * 3)):
        png(tmp_path, f"imagesTr/{case}_0000.png", GREY)
        png(tmp_path, f"labelsTr/{case}.png", mask)
    read, refused = reasons(tmp_path)
    assert list(read) == ["good"]
    assert "bad.png: expected a mask with values 0 to 1" in refused[0]


def test_one_case_in_both_parts_is_told_apart(tmp_path):
    make(tmp_path)
    for part in ("Tr", "Ts"):
        png(tmp_path, f"images{part}/a_0000.png", GREY)
    assert {s.source_id: s.attributes["split"] for s in samples(tmp_path)} == {"train/a": "train", "test/a": "test"}


# --- NIfTI ---


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("axes", ["flat", "one slice"])
def test_a_picture_in_nifti_keeps_its_pixels_and_spacing(tmp_path, ending, axes):
    make(tmp_path, ending=ending)
    image, mask = (GREY, MASK) if axes == "flat" else (GREY[None], MASK[None])
    nii(tmp_path, f"imagesTr/a_0000{ending}", image)
    nii(tmp_path, f"labelsTr/a{ending}", mask)
    (sample,) = samples(tmp_path)
    np.testing.assert_array_equal(sample.image[..., 0], GREY)
    np.testing.assert_array_equal(sample.mask, MASK)
    assert sample.spacing_mm == pytest.approx((0.3, 0.2))
    assert (sample.source_id, sample.attributes) == ("a", {"split": "train"})


def test_the_first_version_knew_nifti_alone(tmp_path):
    make(tmp_path, {"0": "background", "1": "lesion"}, ending=None)
    nii(tmp_path, "imagesTr/a_0000.nii.gz", GREY)
    assert len(samples(tmp_path)) == 1


def test_of_a_volume_every_kth_slice_is_an_image_of_one_patient(tmp_path):
    make(tmp_path, ending=".nii.gz")
    volume = np.random.default_rng(0).integers(0, 256, (7, 6, 8), np.uint8)
    masks = (volume > 128).astype(np.int16)
    nii(tmp_path, "imagesTr/a_0000.nii.gz", volume)
    nii(tmp_path, "labelsTr/a.nii.gz", masks)
    found = samples(tmp_path, every_frame=3)
    assert [s.source_id for s in found] == ["a_slice0000", "a_slice0003", "a_slice0006"]
    for sample, number in zip(found, (0, 3, 6), strict=True):
        np.testing.assert_array_equal(sample.image[..., 0], volume[number])
        np.testing.assert_array_equal(sample.mask, masks[number])
        assert (sample.patient_id, sample.attributes) == ("a", {"split": "train", "slice": number})


def test_three_channels_in_nifti_are_red_green_and_blue(tmp_path):
    make(tmp_path, ending=".nii.gz")
    channels = [GREY, 255 - GREY, GREY // 2]
    for number, channel in enumerate(channels):
        nii(tmp_path, f"imagesTr/a_000{number}.nii.gz", channel)
    np.testing.assert_array_equal(samples(tmp_path)[0].image, np.stack(channels, -1))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (GREY.astype(np.float32), GREY),
        (GREY.astype(np.int16), GREY),
        (GREY.astype(np.uint16) * 257, GREY),
    ],
    ids=["float", "signed", "16 bit"],
)
def test_values_of_a_wider_type_become_eight_bits(tmp_path, values, expected):
    make(tmp_path, ending=".nii.gz")
    nii(tmp_path, "imagesTr/a_0000.nii.gz", values)
    np.testing.assert_array_equal(samples(tmp_path)[0].image[..., 0], expected)


def test_slices_of_a_volume_are_scaled_alike(tmp_path):
    make(tmp_path, ending=".nii.gz")
    nii(tmp_path, "imagesTr/a_0000.nii.gz", np.stack([GREY, GREY * 257.0]))
    dark, bright = samples(tmp_path, every_frame=1)
    np.testing.assert_array_equal(bright.image[..., 0], GREY)
    assert dark.image.max() <= 1


@pytest.mark.parametrize(
    ("spacing", "unit", "expected"),
    [
        ((0.2, 0.3, 1.0), "unknown", (0.3, 0.2)),
        ((0.0002, 0.0003, 1.0), "meter", (0.3, 0.2)),
        ((200.0, 300.0, 1.0), "micron", (0.3, 0.2)),
        ((1.0, 1.0, 1.0), "mm", (1.0, 1.0)),
        ((1.0, 1.0, 1.0), "unknown", None),
        ((999.0, 999.0, 1.0), "mm", None),
    ],
)
def test_spacing_is_in_millimetres_or_unknown(tmp_path, spacing, unit, expected):
    make(tmp_path, ending=".nii.gz")
    nii(tmp_path, "imagesTr/a_0000.nii.gz", GREY, spacing, unit)
    found = samples(tmp_path)[0].spacing_mm
    assert found is None if expected is None else found == pytest.approx(expected)


WRONG_VOLUMES = {
    "fractions": (GREY / 7.0, "found fractions"),
    "no numbers": (np.full((6, 8), np.nan), "found nan"),
    "below 0": (GREY.astype(np.int16) - 100, "found -100"),
    "four dimensions": (np.zeros((2, 3, 6, 8), np.uint8), "found 8 × 6 × 3 × 2"),
}


@pytest.mark.parametrize("kind", WRONG_VOLUMES)
def test_values_that_are_no_picture_are_refused_and_the_others_go_on(tmp_path, kind):
    values, reason = WRONG_VOLUMES[kind]
    make(tmp_path, ending=".nii.gz")
    nii(tmp_path, "imagesTr/good_0000.nii.gz", GREY)
    nii(tmp_path, "imagesTr/bad_0000.nii.gz", values, (1.0,) * values.ndim)
    read, refused = reasons(tmp_path)
    assert list(read) == ["good"] and len(refused) == 1
    assert "bad_0000.nii.gz" in refused[0] and reason in refused[0]


@pytest.mark.parametrize("mask", [MASK * 2, MASK * 0.5, MASK * np.nan, MASK.astype(np.int16) * -1, MASK[:5]])
def test_a_mask_that_does_not_fit_is_refused_by_name(tmp_path, mask):
    make(tmp_path, ending=".nii.gz")
    nii(tmp_path, "imagesTr/a_0000.nii.gz", GREY)
    nii(tmp_path, "labelsTr/a.nii.gz", mask)
    assert "labelsTr/a.nii.gz: expected" in reasons(tmp_path)[1][0]


@pytest.mark.parametrize("content", [b"", b"no image", b"\x1f\x8b\x08\0\0\0\0\0\0\xff", None])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_a_broken_volume_is_refused_and_the_others_go_on(tmp_path, content, ending):
    make(tmp_path, ending=ending)
    nii(tmp_path, f"imagesTr/good_0000{ending}", GREY)
    bad = tmp_path / f"imagesTr/bad_0000{ending}"
    if content is None:
        bad.mkdir()
    else:
        bad.write_bytes(content)
    read, refused = reasons(tmp_path)
    assert list(read) == ["good"] and len(refused) == 1
    assert bad.name in refused[0]


def test_a_header_that_claims_more_than_memory_is_refused(tmp_path):
    make(tmp_path, ending=".nii")
    nii(tmp_path, "imagesTr/a_0000.nii", GREY[None])
    path = tmp_path / "imagesTr/a_0000.nii"
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([32_000, 32_000, 32_000], "<i2").tobytes()
    path.write_bytes(bytes(content))
    assert "expected at most" in reasons(tmp_path)[1][0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_a_damaged_volume_is_read_or_refused(tmp_path):
    make(tmp_path, ending=".nii")
    nii(tmp_path, "imagesTr/a_0000.nii", GREY)
    path = tmp_path / "imagesTr/a_0000.nii"
    whole = path.read_bytes()
    seen = {"read": 0, "refused": 0}

    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4), st.floats(0.5, 1.5))
    @settings(deadline=None, max_examples=150, database=None)
    def check(changes, kept):
        changed = bytearray(whole)
        for place, value in changes:
            changed[place] = value
        path.write_bytes(bytes(changed[: round(min(kept, 1) * len(changed))]))
        for entry in opened(tmp_path):
            try:
                entry.load()
                seen["read"] += 1
            except UstoolkitError as problem:
                assert str(path) in str(problem) or entry.source_id in str(problem)
                seen["refused"] += 1

    check()
    assert seen["read"] and seen["refused"]


def test_the_example_is_a_description():
    assert load_data_set(ROOT / "tfrecords" / "nnunet.toml").format == "nnunet"
