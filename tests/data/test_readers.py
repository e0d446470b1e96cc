"""Every reader keeps one contract, masks are paired however they are spelled, and wrong input is answered."""

import collections
import os
import pickle
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ustoolkit.choices import DataSetFormat
from ustoolkit.data.image_files import encode_png, find_images
from ustoolkit.data.readers import READERS, detect, open_data_set
from ustoolkit.data.readers.pairing import pair_masks
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError, RecipeError, UstoolkitError
from ustoolkit.recipe import DataSetSettings, load_data_set

FILES = Path(__file__).parent.parent / "files"
SETTINGS = DataSetSettings()
IMAGE = (np.arange(80) * 3).astype(np.uint8).reshape(8, 10)
MASK = np.zeros((8, 10), np.uint8)
MASK[2:5, 3:7] = 255


def make(root, *names):
    """Image and mask files; a name with a mask's word in it becomes a mask."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(MASK if "mask" in name.lower() else IMAGE))
    return root


def make_table(root, text, images=("a", "b", "c")):
    make(root, *(f"images/{name}.png" for name in images), *(f"masks/{name}.png" for name in images))
    (root / "table.csv").write_text(text, encoding="utf-8")
    return root


def samples(root, **changes):
    return [entry.load() for entry in open_data_set(root, DataSetSettings(**changes))]


def masks_of(root):
    pairs, orphans = pair_masks(root)
    names = {
        image.relative_to(root).as_posix(): [mask.relative_to(root).as_posix() for mask in masks]
        for image, masks in pairs.items()
    }
    return names, [mask.relative_to(root).as_posix() for mask in orphans]


# --- what every reader keeps to; a new one brings tests/files/<its name>/ ---


@pytest.mark.parametrize("name", READERS)
class TestContract:
    def test_its_folder_is_detected_as_its_own(self, name):
        assert (FILES / name).is_dir(), f"tests/files/{name}: expected tiny files of this form, found none. Add three."
        assert READERS[name].matches(FILES / name)
        assert detect(FILES / name) == name

    def test_it_does_not_claim_an_empty_folder(self, name, tmp_path):
        assert not READERS[name].matches(tmp_path)

    def test_auto_and_its_name_read_the_same(self, name):
        auto = open_data_set(FILES / name, SETTINGS)
        named = open_data_set(FILES / name, DataSetSettings(format=name))
        assert [entry.source_id for entry in auto] == [entry.source_id for entry in named]

    def test_ids_are_sorted_unique_and_those_of_the_samples(self, name):
        entries = open_data_set(FILES / name, SETTINGS)
        ids = [entry.source_id for entry in entries]
        assert ids
        assert ids == sorted(set(ids))
        assert ids == [entry.load().source_id for entry in entries]

    def test_samples_are_valid(self, name):
        found = samples(FILES / name)
        for sample in found:
            assert isinstance(sample, Sample)
            assert sample.patient_id
            assert any((FILES / name).rglob(sample.filename))
            assert sample.mask is None or set(np.unique(sample.mask)) <= {0, 1}
            assert sample.spacing_mm is None or min(sample.spacing_mm) > 0
        assert any(sample.mask is not None and sample.mask.any() for sample in found)

    def test_entries_load_the_same_in_another_process(self, name):
        for entry in open_data_set(FILES / name, SETTINGS):
            here, there = entry.load(), pickle.loads(pickle.dumps(entry)).load()
            np.testing.assert_array_equal(here.image, there.image)
            assert (here.mask is None) == (there.mask is None)
            assert (here.label, here.patient_id, here.spacing_mm, here.attributes) == (
                there.label,
                there.patient_id,
                there.spacing_mm,
                there.attributes,
            )

    def test_what_it_found_does_not_depend_on_where_the_folder_lies(self, name, tmp_path):
        shutil.copytree(FILES / name, tmp_path / "mask annotations" / "copy")
        moved = samples(tmp_path / "mask annotations" / "copy")
        assert [(s.source_id, s.label) for s in moved] == [(s.source_id, s.label) for s in samples(FILES / name)]

    def test_listing_reads_no_pixels(self, name, tmp_path):
        if name in ("dicom", "video"):
            pytest.skip("pixels and their description are one file")
        shutil.copytree(FILES / name, tmp_path / "set")
        for path in find_images(tmp_path / "set"):
            path.write_bytes(b"")
        entries = open_data_set(tmp_path / "set", SETTINGS)
        assert len(entries) == len(open_data_set(FILES / name, SETTINGS))
        with pytest.raises(DataError):
            entries[0].load()

    def test_an_empty_folder_is_answered(self, name, tmp_path):
        with pytest.raises(DataError, match=str(tmp_path)):
            open_data_set(tmp_path, DataSetSettings(format=name))

    def test_a_file_in_place_of_the_folder_is_answered(self, name, tmp_path):
        (tmp_path / "a.png").write_bytes(b"")
        with pytest.raises(DataError, match="found a file"):
            open_data_set(tmp_path / "a.png", DataSetSettings(format=name))
        with pytest.raises(DataError, match="found nothing"):
            open_data_set(tmp_path / "nowhere", DataSetSettings(format=name))


def test_every_reader_can_be_asked_for():
    said = "`READERS` of data/readers/__init__.py and `DataSetFormat` of choices.py name different forms"
    assert set(READERS) == set(get_args(DataSetFormat)), said
    for name in READERS:
        assert DataSetSettings(format=name).format == name


def test_every_reader_has_a_description_to_begin_with():
    described = {load_data_set(path).format for path in (FILES.parents[1] / "tfrecords").glob("*.toml")}
    assert set(READERS) <= described, f"no description in tfrecords/ of {', '.join(set(READERS) - described)}"


# --- which mask belongs to which image ---


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.png", "masks/a.png"),
        ("Images/a.png", "Masks/a.png"),
        ("img/a.jpg", "gt/a.png"),
        ("images/a.JPG", "masks/a.PNG"),
        ("a.png", "a_mask.png"),
        ("a.png", "mask_a.png"),
        ("a.png", "a-mask.png"),
        ("a.png", "a_segmentation.tif"),
        ("a.bmp", "a_seg.png"),
        ("images/a.png", "labels/a_label.png"),
        ("images/a.png", "ground_truth/a.png"),
        ("images/a.png", "annotations/deep/a.png"),
        ("train_images/a.png", "train_masks/a.png"),
        ("benign (1).png", "benign (1)_mask.png"),
        ("A_Case.png", "a_case_Mask.png"),
        ("a.png", "masks/a_mask.png"),
    ],
)
def test_a_mask_is_paired_however_it_is_spelled(tmp_path, image, mask):
    make(tmp_path, image, mask)
    assert masks_of(tmp_path) == ({image: [mask]}, [])
    assert detect(tmp_path) == "mask-folder"


@pytest.mark.parametrize(
    "names",
    [
        ("1_image.png", "2_image.png", "1_mask.png", "2_mask.png"),
        ("image-1.png", "image-2.png", "mask-1.png", "mask-2.png"),
        ("Test_Image_1.png", "Test_Image_2.png", "mask_1.png", "mask_2.png"),
        ("img/1_img.png", "img/2_img.png", "gt/1.png", "gt/2.png"),
    ],
)
def test_a_word_for_image_may_stand_where_the_masks_word_does(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    first, second, *masks = names
    assert masks_of(tmp_path) == ({first: [masks[0]], second: [masks[1]]}, [])


def test_of_two_images_that_differ_in_the_place_of_a_word_each_gets_its_mask(tmp_path):
    make(tmp_path, "a_image.png", "image_a.png", "a_mask.png", "mask_a.png")
    assert masks_of(tmp_path)[0] == {"a_image.png": ["a_mask.png"], "image_a.png": ["mask_a.png"]}


def test_a_first_word_that_all_images_share_may_be_the_masks_word(tmp_path):
    make(tmp_path, "i/bus_0001-l.png", "i/bus_0001-r.png", "masks/mask_0001-l.png", "masks/mask_0001-r.png")
    assert masks_of(tmp_path)[0] == {
        "i/bus_0001-l.png": ["masks/mask_0001-l.png"],
        "i/bus_0001-r.png": ["masks/mask_0001-r.png"],
    }


def test_a_word_that_only_some_images_begin_with_is_part_of_their_name(tmp_path):
    make(tmp_path, "i/bus_0001.png", "i/other_0001.png", "masks/mask_0001.png")
    assert masks_of(tmp_path) == ({"i/bus_0001.png": [], "i/other_0001.png": []}, ["masks/mask_0001.png"])


def test_class_folders_pair_within_themselves(tmp_path):
    make(
        tmp_path,
        *(f"{kind}/{name}.png" for kind in ("benign", "malignant") for name in ("1", "1_mask", "2", "2_mask")),
    )
    names, orphans = masks_of(tmp_path)
    assert names == {f"{kind}/{n}.png": [f"{kind}/{n}_mask.png"] for kind in ("benign", "malignant") for n in (1, 2)}
    assert orphans == []


def test_class_folders_below_images_and_masks_pair_within_themselves(tmp_path):
    make(tmp_path, *(f"{top}/{kind}/1.png" for top in ("images", "masks") for kind in ("benign", "malignant")))
    assert masks_of(tmp_path)[0] == {
        f"images/{kind}/1.png": [f"masks/{kind}/1.png"] for kind in ("benign", "malignant")
    }


def test_several_masks_of_an_image_are_merged(tmp_path):
    make(tmp_path, "x.png", "y.png", "x_mask.png", "y_mask.png")
    other = np.zeros_like(MASK)
    other[6:, :2] = 255
    (tmp_path / "x_mask_1.png").write_bytes(encode_png(other))
    x, y = samples(tmp_path)
    np.testing.assert_array_equal(x.mask, (MASK > 0) | (other > 0))
    np.testing.assert_array_equal(y.mask, MASK > 0)


def test_of_merged_masks_the_higher_class_is_on_top(tmp_path):
    make(tmp_path, "x.png")
    (tmp_path / "x_mask.png").write_bytes(encode_png(np.full((8, 10), 1, np.uint8)))
    (tmp_path / "x_mask_1.png").write_bytes(encode_png((MASK > 0).astype(np.uint8) * 2))
    (sample,) = samples(tmp_path, classes=("background", "gland", "lesion"))
    np.testing.assert_array_equal(sample.mask, 1 + (MASK > 0))


def test_a_numbered_image_is_not_taken_for_a_second_mask(tmp_path):
    make(tmp_path, "x.png", "x_1.png", "x_mask.png", "x_1_mask.png")
    assert masks_of(tmp_path)[0] == {"x.png": ["x_mask.png"], "x_1.png": ["x_1_mask.png"]}


def test_a_word_that_only_holds_a_masks_word_makes_no_mask(tmp_path):
    make(tmp_path, "images/segovia.png", "images/unlabelled.png", "masks/segovia.png")
    assert masks_of(tmp_path)[0] == {"images/segovia.png": ["masks/segovia.png"], "images/unlabelled.png": []}


stems = st.text(st.sampled_from("abcB019_- .()éß"), min_size=1, max_size=8).filter(
    lambda stem: stem.strip(" .") == stem and stem.strip("_-. ")
)


@given(st.sets(stems, min_size=1, max_size=6))
@example({"a-b", "a_b"})
@example({"a", "A"})
@example({"a", "a_"})
@example({"b_1", "b_b_1"})
@example({"a_1", "a_a", "a_a_1"})
@settings(deadline=None, max_examples=150)
def test_a_mask_of_the_very_same_name_is_always_the_images_own(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("pairs")
    for name in names:
        for folder in ("images", "masks"):
            (root / folder).mkdir(exist_ok=True)
            (root / folder / f"{name}.png").write_bytes(b"")
    assert masks_of(root) == ({f"images/{name}.png": [f"masks/{name}.png"] for name in names}, [])


def test_a_mask_without_an_image_is_an_orphan(tmp_path):
    make(tmp_path, "images/a.png", "masks/a.png", "masks/b.png")
    assert masks_of(tmp_path) == ({"images/a.png": ["masks/a.png"]}, ["masks/b.png"])
    assert len(samples(tmp_path)) == 1


# --- images with masks beside them ---


def test_busi_folders_give_labels_and_merged_masks():
    found = {sample.source_id: sample for sample in samples(FILES / "mask-folder")}
    assert {name: sample.label for name, sample in found.items()} == {
        "benign (1)": "benign",
        "malignant (1)": "malignant",
        "normal (1)": "normal",
    }
    assert found["normal (1)"].mask is None
    assert found["benign (1)"].mask.sum() > found["malignant (1)"].mask.sum() > 0


def test_labels_come_from_folders_in_any_case(tmp_path):
    make(tmp_path, "Malignant/a.png", "Malignant/a_mask.png", "other/b.png")
    assert [sample.label for sample in samples(tmp_path)] == ["malignant", ""]


def test_images_of_one_stem_in_different_folders_are_told_apart(tmp_path):
    make(tmp_path, "benign/1.png", "benign/1_mask.png", "malignant/1.png", "malignant/2.png")
    assert [sample.source_id for sample in samples(tmp_path)] == ["2", "benign/1", "malignant/1"]


def test_images_that_differ_in_suffix_alone_are_refused_and_the_others_go_on(tmp_path):
    make(tmp_path, "a.png", "a.bmp", "a_mask.png", "b.png", "b_mask.png")
    entries = open_data_set(tmp_path, SETTINGS)
    assert [entry.source_id for entry in entries] == ["a.bmp", "a.png", "b"]
    assert entries[2].load().mask.any()
    for entry in entries[:2]:
        with pytest.raises(DataError, match=r"a\.(png|bmp): several images have this name"):
            entry.load()


def test_label_folders_are_those_of_the_settings_in_any_case_the_nearest_first(tmp_path):
    make(tmp_path, "cyst/a.png", "SOLID/b.png", "benign/c.png", "cyst/Solid/d.png", "a_mask.png")
    found = {s.source_id: s.label for s in samples(tmp_path, format="mask-folder", labels=("Cyst", "solid"))}
    assert found == {"a": "Cyst", "b": "solid", "c": "", "d": "solid"}


@pytest.mark.parametrize(
    ("image", "mask", "part"),
    [
        ("train/images/a.png", "train/masks/a.png", "train"),
        ("images/Validation/a.png", "masks/Validation/a.png", "val"),
        ("TestImages/a.png", "TestMasks/a.png", "test"),
        ("train_images/a.png", "train_masks/a.png", "train"),
        ("test/valid/a.png", "test/valid/a_mask.png", "val"),
        ("trainval-image/a.png", "trainval-mask/a.png", ""),
        ("images/a.png", "masks/a.png", ""),
        ("contest/a.png", "contest/a_mask.png", ""),
    ],
)
def test_a_folder_of_the_sets_own_part_is_an_attribute(tmp_path, image, mask, part):
    make(tmp_path, image, mask)
    (sample,) = samples(tmp_path, format="mask-folder")
    assert sample.attributes == ({"split": part} if part else {})
    assert sample.mask.any()


def test_images_without_any_mask_are_read_where_the_format_is_told(tmp_path):
    make(tmp_path, "a.png", "deep/b.png")
    assert [(s.source_id, s.mask) for s in samples(tmp_path, format="mask-folder")] == [("a", None), ("b", None)]


def test_coloured_masks_are_read_by_the_settings_colours(tmp_path):
    make(tmp_path, "images/a.png")
    (tmp_path / "masks").mkdir()
    classes = (np.arange(80) % 3).astype(np.uint8).reshape(8, 10)
    colours = {"gland": (0, 128, 0), "lesion": (255, 0, 0)}
    pixels = np.array([(0, 0, 0), *colours.values()], np.uint8)[classes]
    (tmp_path / "masks" / "a.png").write_bytes(encode_png(pixels))
    (sample,) = samples(tmp_path, classes=("background", "gland", "lesion"), colours=colours)
    np.testing.assert_array_equal(sample.mask, classes)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("stored", [True, False])
def test_a_mask_of_a_turned_photograph_may_be_upright_or_as_stored(tmp_path, orientation, stored):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(IMAGE).save(tmp_path / "a.png", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    turns = {5: np.transpose, 6: lambda m: np.rot90(m, -1), 7: lambda m: m[::-1, ::-1].T, 8: np.rot90}
    expected = turns[orientation](MASK)
    (tmp_path / "a_mask.png").write_bytes(encode_png(MASK if stored else np.ascontiguousarray(expected)))
    (sample,) = samples(tmp_path)
    np.testing.assert_array_equal(sample.image[..., 0], upright)
    np.testing.assert_array_equal(sample.mask, expected > 0)
    assert sample.attributes == {"exif_orientation": orientation}


@pytest.mark.parametrize("content", [b"", b"no image", encode_png(MASK)[:40]])
@pytest.mark.parametrize("name", ["images/bad.png", "masks/bad.png"])
def test_a_broken_file_is_refused_by_name_and_the_others_go_on(tmp_path, name, content):
    make(tmp_path, *(f"{folder}/{stem}.png" for folder in ("images", "masks") for stem in ("good", "bad")))
    (tmp_path / "images" / "folder.png").mkdir()
    (tmp_path / name).write_bytes(content)
    bad, good = open_data_set(tmp_path, SETTINGS)
    assert good.load().mask.any()
    with pytest.raises(DataError, match=name):
        bad.load()


def test_an_image_without_a_mask_is_a_sample_without_one(tmp_path):
    make(tmp_path, "images/a.png", "images/b.png", "masks/a.png")
    a, b = samples(tmp_path)
    assert a.mask is not None
    assert b.mask is None


def test_a_mask_of_another_size_names_both_sizes(tmp_path):
    make(tmp_path, "a.png", "a_mask.png")
    (tmp_path / "a_mask.png").write_bytes(encode_png(MASK[:6, :5]))
    with pytest.raises(DataError, match=r"a_mask\.png: the mask is 5 × 6 pixels, its image a\.png is 10 × 8"):
        samples(tmp_path)


def test_a_folder_without_masks_is_answered_with_where_to_put_them(tmp_path):
    make(tmp_path, "a.png", "b.png")
    with pytest.raises(DataError, match=r"2 files and no image with a mask \(a\.png, b\.png\).*masks/.*NAME_mask"):
        open_data_set(tmp_path, SETTINGS)


def test_an_empty_folder_is_called_empty(tmp_path):
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match="an empty folder"):
        open_data_set(tmp_path, SETTINGS)


def test_a_name_that_is_no_utf8_is_refused_and_the_others_go_on(tmp_path):
    make(tmp_path, "images/a.png", "images/b.png", "masks/a.png", "masks/b.png")
    folder = os.fsencode(tmp_path / "images")
    Path(os.fsdecode(folder + b"/b.png")).rename(os.fsdecode(folder + b"/caf\xe9.png"))
    good, bad = open_data_set(tmp_path, SETTINGS)
    assert good.load().source_id == "a"
    bad.source_id.encode()
    with pytest.raises(DataError, match="not valid UTF-8"):
        bad.load()


# --- tables ---


def test_a_table_gives_patient_label_spacing_and_the_rest_as_attributes():
    first, second, third = samples(FILES / "table")
    assert [sample.source_id for sample in (first, second, third)] == ["bus_0001", "bus_0002", "bus_0003"]
    assert [sample.patient_id for sample in (first, second, third)] == ["1", "1", "2"]
    assert [sample.label for sample in (first, second, third)] == ["benign", "benign", "malignant"]
    assert first.spacing_mm == (0.1, 0.2)
    assert third.spacing_mm is None
    assert first.attributes == {"BIRADS": "3", "Fold": "1"}
    assert third.attributes == {"BIRADS": "5", "Fold": "2"}
    assert all(sample.mask.any() for sample in (first, second, third))


def test_images_may_be_named_with_or_without_suffix(tmp_path):
    make_table(tmp_path, "file,label\na.png,benign\nb,malignant\n")
    assert [(s.source_id, s.label) for s in samples(tmp_path)] == [("a", "benign"), ("b", "malignant")]


@pytest.mark.parametrize(
    "text",
    [
        "id;patient;label\na;p;benign\nb;q;malignant\n",
        "id\tpatient\tlabel\na\tp\tbenign\nb\tq\tmalignant\n",
        "\ufeffpatient,id,label\np,a,benign\nq,b,malignant\n",
        "id,patient,label\r\na,p,benign\r\n\r\nb,q,malignant\r\n",
        "id,patient,label\n a , p , Benign \n b , q , MALIGNANT \n",
        'id,patient,label\n"a","p","benign"\n"b","q","malignant"',
        "label,Patient ID,id\nbenign,p,a\nmalignant,q,b\n",
        "id,Case,Pathology\na,p,benign\nb,q,malignant\n",
    ],
    ids=[
        "semicolons",
        "tabs",
        "byte order mark",
        "blank lines",
        "spaces",
        "quotes",
        "any order",
        "other words",
    ],
)
def test_a_table_is_read_however_it_is_saved(tmp_path, text):
    make_table(tmp_path, text, images=("a", "b"))
    found = [(s.source_id, s.patient_id, s.label) for s in samples(tmp_path)]
    assert found == [("a", "p", "benign"), ("b", "q", "malignant")]


def test_columns_can_be_named_in_the_settings(tmp_path):
    make_table(tmp_path, "which,woman,verdict,dy,dx,case\na,p,benign,0.1,0.2,9\nb,q,malignant,0.3,0.4,9\n")
    table = {
        "source_id": "which",
        "patient": "woman",
        "label": "verdict",
        "spacing_row_mm": "dy",
        "spacing_column_mm": "dx",
    }
    first, second = samples(tmp_path, table=table)
    assert (first.patient_id, first.label, first.spacing_mm) == ("p", "benign", (0.1, 0.2))
    assert (second.patient_id, second.label, second.spacing_mm) == ("q", "malignant", (0.3, 0.4))
    assert first.attributes == {"case": "9"}


@pytest.mark.parametrize("column", ["source_id", "patient", "label", "spacing_row_mm"])
@pytest.mark.parametrize("file", ["", "table.csv"])
def test_a_column_that_is_not_there_is_answered(tmp_path, column, file):
    make_table(tmp_path, "id,label\na,benign\n")
    with pytest.raises(DataError, match="column"):
        open_data_set(tmp_path, DataSetSettings(format="table", table={"file": file, column: "verdict"}))


def test_a_named_table_that_is_not_there_is_answered(tmp_path):
    make_table(tmp_path, "id\na\n")
    with pytest.raises(DataError, match=r"other\.csv: no such table"):
        open_data_set(tmp_path, DataSetSettings(format="table", table={"file": "other.csv"}))


@pytest.mark.parametrize("text", ["", "id\n", "id,label\n", "name\nnobody\n"])
@pytest.mark.parametrize("file", ["", "table.csv"])
def test_a_table_that_names_no_image_is_answered(tmp_path, text, file):
    make_table(tmp_path, text)
    with pytest.raises(DataError, match=r"expected a CSV table with a column of image names"):
        open_data_set(tmp_path, DataSetSettings(format="table", table={"file": file}))
    assert detect(tmp_path) == "mask-folder"


def test_row_numbers_that_pandas_writes_mean_nothing(tmp_path):
    make_table(tmp_path, ",id\n0,a\n1,b\n")
    first, second = samples(tmp_path)
    assert (first.patient_id, first.label, first.spacing_mm) == ("a", "", None)
    assert (second.patient_id, second.label, second.spacing_mm) == ("b", "", None)


def test_a_row_without_an_image_is_refused_and_the_others_go_on(tmp_path):
    make_table(tmp_path, "id,patient\na,p\nlost,q\nb,r\n")
    loaded, refused = [], []
    for entry in open_data_set(tmp_path, DataSetSettings(patient="^([ab])$")):
        try:
            loaded.append(entry.load().source_id)
        except DataError as problem:
            refused.append(str(problem))
    assert loaded == ["a", "b"]
    assert len(refused) == 1
    assert "table.csv, row 3: 'lost' has no image" in refused[0]


def test_an_image_that_no_row_names_is_left_out(tmp_path):
    make_table(tmp_path, "id\na\nb\n", images=("a", "b", "c"))
    assert [sample.source_id for sample in samples(tmp_path)] == ["a", "b"]


def test_a_second_row_for_an_image_is_refused(tmp_path):
    make_table(tmp_path, "id,label\na,benign\nb,benign\na.png,malignant\n")
    entries = open_data_set(tmp_path, SETTINGS)
    assert len({entry.source_id for entry in entries}) == 3
    refused = []
    for entry in entries:
        try:
            assert entry.load().label == "benign"
        except DataError as problem:
            refused.append(str(problem))
    assert len(refused) == 1
    assert "row 4: 'a.png' stands in the table twice" in refused[0]


@pytest.mark.parametrize("spacing", ["-0.1", "0", "wide", "nan", "inf", "100", "0,1"])
def test_a_spacing_that_is_no_length_is_refused_and_the_others_go_on(tmp_path, spacing):
    make_table(tmp_path, f'id,spacing_mm\na,"{spacing}"\nb,0.2\n')
    first, second = open_data_set(tmp_path, SETTINGS)
    with pytest.raises(DataError, match=r"row 2: expected a pixel spacing in millimetres"):
        first.load()
    assert second.load().spacing_mm == (0.2, 0.2)


@pytest.mark.parametrize("row", ["a", "a,b,c"])
def test_a_row_of_another_number_of_columns_is_answered(tmp_path, row):
    make_table(tmp_path, f"id,label\n{row}\n")
    with pytest.raises(DataError, match=r"table\.csv, row 2: expected 2 columns"):
        open_data_set(tmp_path, SETTINGS)


@pytest.mark.parametrize("content", [b"id,label\na,b\xe9nin\n", b"id,label\na," + b"x" * 200_000 + b"\n"])
def test_a_table_that_is_no_csv_is_answered(tmp_path, content):
    make_table(tmp_path, "")
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"table\.csv: expected a CSV table"):
        open_data_set(tmp_path, SETTINGS)


def refusals(root, **changes):
    """What was read, by id, and why the rest was not."""
    read, refused = {}, []
    for entry in open_data_set(root, DataSetSettings(**changes)):
        try:
            read[entry.source_id] = entry.load()
        except DataError as problem:
            refused.append(str(problem))
    return read, refused


@pytest.mark.parametrize("column", ["bbox", "Box", "lesion_box", "Bounding Box"])
@pytest.mark.parametrize("box", ["[91,24,103.5,79]", "91 24 103.5 79", "(91; 24; 103.5; 79)", "91, 24, 103.5, 79"])
def test_a_box_is_read_however_it_is_spelled(tmp_path, column, box):
    make_table(tmp_path, f'id,{column}\na,"{box}"\nb,\n', images=("a", "b"))
    a, b = samples(tmp_path)
    assert a.attributes == {"lesion_box": [91.0, 24.0, 103.5, 79.0]}
    assert "lesion_box" not in b.attributes


@pytest.mark.parametrize(
    "box", ["[1,2,3]", "[1,2,3,4,5]", "[1,2,0,4]", "[1,2,3,-4]", "[1,2,3,nan]", "1e999 2 3 4", "x"]
)
def test_a_box_that_is_none_is_refused_and_the_others_go_on(tmp_path, box):
    make_table(tmp_path, f'id,box\na,"{box}"\nb,[1 2 3 4]\n', images=("a", "b"))
    read, refused = refusals(tmp_path)
    assert list(read) == ["b"]
    assert "table.csv, row 2: expected a lesion's box" in refused[0]


def test_a_column_called_box_that_holds_none_is_an_attribute(tmp_path):
    make_table(tmp_path, "id,box\na,shelf 7\n", images=("a",))
    assert samples(tmp_path)[0].attributes == {"box": "shelf 7"}
    assert "row 2: expected a lesion's box" in refusals(tmp_path, format="table", table={"box": "box"})[1][0]


def test_columns_may_name_image_and_mask_by_path(tmp_path):
    make(tmp_path, "x/one.png", "y/two.png", "z/drawn mask.png")
    (tmp_path / "t.csv").write_text("scan,truth,who\nx/one.png,z\\drawn mask.png,p\ny/two.png,,q\n")
    settings = {"format": "table", "table": {"image": "scan", "mask": "truth", "patient": "who"}}
    one, two = samples(tmp_path, **settings)
    assert (one.source_id, one.patient_id, one.attributes) == ("one", "p", {})
    np.testing.assert_array_equal(one.mask, MASK > 0)
    assert (two.source_id, two.mask) == ("two", None)


@pytest.mark.parametrize("column", ["scan", "truth"])
@pytest.mark.parametrize(("path", "reason"), [("../secret.png", "leads out of"), ("lost.png", "there is no image")])
def test_a_path_in_a_column_must_lie_in_the_folder(tmp_path, column, path, reason):
    make(tmp_path, "secret.png", "set/a.png", "set/b.png", "set/c_mask.png")
    bad = {"scan": "a.png", "truth": "c_mask.png"} | {column: path}
    rows = f"{bad['scan']},{bad['truth']}\nb.png,c_mask.png\n"
    (tmp_path / "set" / "t.csv").write_text("scan,truth\n" + rows)
    read, refused = refusals(tmp_path / "set", format="table", table={"image": "scan", "mask": "truth"})
    assert list(read) == ["b"]
    assert "t.csv, row 2" in refused[0] and reason in refused[0]


def test_images_of_one_stem_are_told_apart_by_their_folder_or_refused(tmp_path):
    make(tmp_path, *(f"{top}/{kind}/1.png" for top in ("images", "masks") for kind in ("benign", "malignant")))
    (tmp_path / "t.csv").write_text("file,label\nbenign/1.png,benign\nimages\\malignant\\1.png,malignant\n1,benign\n")
    read, refused = refusals(tmp_path, format="table", table={"source_id": "file"})
    assert {name: sample.label for name, sample in read.items()} == {
        "images/benign/1": "benign",
        "images/malignant/1": "malignant",
    }
    assert "row 4: '1' fits several images (images/benign/1.png, images/malignant/1.png)" in refused[0]


def test_a_name_whose_folder_is_not_the_images_is_not_taken(tmp_path):
    make_table(tmp_path, "file\nother/a.png\nimages/b.png\n", images=("a", "b"))
    read, refused = refusals(tmp_path)
    assert list(read) == ["b"] and "'other/a.png' has no image" in refused[0]


@pytest.mark.parametrize(
    ("text", "encoding", "answer"),
    [
        ("id,label\na,benigno\n", "utf-16", r"found UTF-16\. Save it again as 'CSV UTF-8"),
        ("id,label\na,tumör\n", "latin-1", r"Save it again as 'CSV UTF-8 \(comma delimited\)'"),
    ],
)
def test_an_encoding_of_excels_is_answered_with_how_to_save(tmp_path, text, encoding, answer):
    make_table(tmp_path, "")
    (tmp_path / "table.csv").write_text(text, encoding=encoding)
    with pytest.raises(DataError, match=answer):
        open_data_set(tmp_path, SETTINGS)


@pytest.mark.parametrize("header", ["id,label,label", "id,label, label ", "id,id,label"])
def test_two_columns_of_one_name_are_refused(tmp_path, header):
    make_table(tmp_path, f"{header}\na,b,c\n")
    with pytest.raises(DataError, match=r"table\.csv: several columns are called '(id|label)'"):
        open_data_set(tmp_path, SETTINGS)


def test_stray_separators_at_the_end_are_let_be(tmp_path):
    make_table(tmp_path, "id,label,,\na,benign,,\n,,,\nb,benign,,\n", images=("a", "b"))
    assert [s.attributes for s in samples(tmp_path)] == [{}, {}]


def test_row_numbers_are_those_of_a_spreadsheet(tmp_path):
    make_table(tmp_path, 'id,note\n\na,"two\nlines"\n,\nlost,x\n')
    assert "table.csv, row 5: 'lost' has no image" in refusals(tmp_path)[1][0]


def test_a_broken_table_beside_the_main_one_is_left_out_with_a_warning(tmp_path):
    make_table(tmp_path, "id,label,patient\na,benign,p\n", images=("a",))
    (tmp_path / "notes.csv").write_bytes(b"id,note\na,\xe9\n")
    with pytest.warns(UserWarning, match=r"notes\.csv.*the data set is read without it"):
        (sample,) = samples(tmp_path)
    assert (sample.label, sample.patient_id, sample.attributes) == ("benign", "p", {})


def test_a_broken_table_that_would_be_the_main_one_is_not_left_out(tmp_path):
    make_table(tmp_path, "id,patient,label,device\na,p,benign\n", images=("a",))
    (tmp_path / "folds.csv").write_text("id,Fold\na,1\n")
    with pytest.raises(DataError, match=r"table\.csv, row 2: expected 4 columns"):
        open_data_set(tmp_path, SETTINGS)


def test_where_tables_contradict_each_other_the_main_one_is_right_and_the_label_is_told(tmp_path):
    make_table(tmp_path, "id,Pathology,BIRADS,age,side\na,benign,3,50,l\nb,Malignant,5,60,r\nc,,4,70,l\n")
    (tmp_path / "folds.csv").write_text(
        "id,Pathology,BIRADS,Fold\na,malignant,2,1\nb.png,malignant,5,2\nc,benign,4,3\n"
    )
    a, b, c = samples(tmp_path)
    assert (a.label, b.label, c.label) == ("benign", "malignant", "benign")
    assert a.attributes == {
        "BIRADS": "3",
        "age": "50",
        "side": "l",
        "Fold": "1",
        "label_conflict": "folds.csv: malignant",
    }
    assert b.attributes == {"BIRADS": "5", "age": "60", "side": "r", "Fold": "2"}


def test_patients_may_stand_in_another_table(tmp_path):
    make_table(tmp_path, "id,label,device\na,benign,x\nb,benign,x\nc,benign,x\n")
    (tmp_path / "women.csv").write_text("id,patient\na,p\nb,p\n")
    assert [s.patient_id for s in samples(tmp_path)] == ["p", "p", "c"]


@pytest.mark.parametrize("value", ["nan", "NaN", "None", "NULL", "N/A", " "])
def test_a_patient_or_label_that_a_program_left_empty_is_none(tmp_path, value):
    make_table(tmp_path, f"id,patient,label\na,{value},{value}\nb,{value},benign\n", images=("a", "b"))
    assert [(s.patient_id, s.label) for s in samples(tmp_path)] == [("a", ""), ("b", "benign")]


@pytest.mark.parametrize("column", ["split", "Set", "subset"])
def test_the_tables_own_parts_stay_an_attribute(tmp_path, column):
    make_table(tmp_path, f"id,{column}\na,train\n", images=("a",))
    assert samples(tmp_path)[0].attributes == {column: "train"}


def test_a_quoted_value_may_hold_line_ends_and_separators(tmp_path):
    make_table(tmp_path, 'id,note\na,"two\nlines, one value\u2028here"\n')
    assert samples(tmp_path)[0].attributes == {"note": "two\nlines, one value\u2028here"}


# --- patients ---


def test_a_patient_is_the_expressions_first_group(tmp_path):
    make(
        tmp_path,
        *(f"{kind}/bus_{name}.png" for kind in ("images", "masks") for name in ("0001-l", "0001-r", "0002-l")),
    )
    assert [s.patient_id for s in samples(tmp_path, patient=r"bus_(\d+)-([lr])")] == ["0001", "0001", "0002"]
    assert [s.patient_id for s in samples(tmp_path)] == ["bus_0001-l", "bus_0001-r", "bus_0002-l"]


def test_the_sources_own_patient_is_kept_unless_the_user_says_otherwise():
    own = [sample.patient_id for sample in samples(FILES / "table")]
    told = [sample.patient_id for sample in samples(FILES / "table", patient=r"bus_(\d+)")]
    assert own == ["1", "1", "2"] and told == ["0001", "0002", "0003"]


@pytest.mark.parametrize(
    ("files", "expected", "loose"),
    [
        (
            ("train/images/1.png", "train/masks/1.png", "test/images/2.png", "test/masks/1.png"),
            {"train/images/1.png": ["train/masks/1.png"], "test/images/2.png": []},
            ["test/masks/1.png"],
        ),
        (
            ("benign/1.png", "benign/1_mask.png", "malignant/1_mask.png", "malignant/2.png"),
            {"benign/1.png": ["benign/1_mask.png"], "malignant/2.png": []},
            ["malignant/1_mask.png"],
        ),
        (
            ("benign/1.png", "benign/1_mask.png", "malignant/1_mask.png"),
            {"benign/1.png": ["benign/1_mask.png"]},
            ["malignant/1_mask.png"],
        ),
        (
            ("case1/image.png", "case1/mask.png", "case2/image.png", "case2/mask.png"),
            {"case1/image.png": ["case1/mask.png"], "case2/image.png": ["case2/mask.png"]},
            [],
        ),
        (
            ("scans/a.png", "drawn_masks/a.png"),
            {"scans/a.png": ["drawn_masks/a.png"]},
            [],
        ),
    ],
)
def test_a_mask_is_never_given_to_an_image_elsewhere_that_has_its_own(tmp_path, files, expected, loose):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    pairs, orphans = pair_masks(tmp_path)
    relative = {str(image.relative_to(tmp_path)): masks for image, masks in pairs.items()}
    assert {name: [str(mask.relative_to(tmp_path)) for mask in masks] for name, masks in relative.items()} == expected
    assert [str(mask.relative_to(tmp_path)) for mask in orphans] == loose


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        (r"bus_\d+", "expected a group in parentheses"),
        (r"bus_(\d+", "not a regular expression"),
        (r"case_(\d+)", "does not match this name"),
        (r"bus_(x?)", "does not match this name"),
        (r"bus_(x)?", "does not match this name"),
    ],
)
def test_a_patient_expression_that_does_not_fit_is_answered(tmp_path, expression, answer):
    make(tmp_path, "bus_1.png", "bus_1_mask.png")
    with pytest.raises(DataError, match=answer):
        open_data_set(tmp_path, DataSetSettings(patient=expression))


# --- whatever is in the files, the answer is a sample or a message ---


def open_and_load(root):
    """What there is to see of a data set; only the family of errors that a command prints may come out."""
    outcomes = collections.Counter()
    try:
        entries = open_data_set(root, SETTINGS)
    except UstoolkitError as problem:
        assert str(problem)
        return {"refused": 1}
    for entry in entries:
        try:
            assert isinstance(entry.load(), Sample)
            outcomes["read"] += 1
        except UstoolkitError as problem:
            assert str(problem)
            outcomes["refused"] += 1
    return outcomes


@st.composite
def damage(draw):
    """Some bytes changed, and now and then the end cut off."""
    changes = draw(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6))
    return changes, draw(st.one_of(st.just(1.0), st.floats(0, 1)))


def damaged(content, how):
    changes, kept = how
    changed = bytearray(content)
    for place, value in changes:
        changed[int(place * len(changed))] = value
    return bytes(changed[: round(kept * len(changed))])


@pytest.mark.filterwarnings("ignore:.*the data set is read without it")
@pytest.mark.parametrize("name", ["images/bus_0001.png", "masks/mask_0001.png", "bus_data.csv", "folds.csv"])
def test_a_damaged_file_is_read_or_refused(name, tmp_path):
    root = shutil.copytree(FILES / "table", tmp_path / "set")
    whole = (root / name).read_bytes()
    seen = collections.Counter()

    @given(damage())
    @settings(deadline=None, max_examples=150, database=None)
    def check(how):
        (root / name).write_bytes(damaged(whole, how))
        seen.update(open_and_load(root))

    check()
    # the damage is neither nothing nor always fatal; a table beside the main one is never missed
    assert seen["read"] and (seen["refused"] or name == "folds.csv")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of the regular expressions themselves
def test_a_random_expression_for_patients_is_used_or_refused():
    @given(st.text(st.sampled_from("bus_0123()[]?*+\\d.|^$"), max_size=10))
    @settings(deadline=None, max_examples=100, database=None)
    def check(expression):
        try:
            assert len(open_data_set(FILES / "table", DataSetSettings(patient=expression))) == 3
        except (DataError, RecipeError) as problem:
            assert str(problem)

    check()


# --- the examples, and real images ---


@pytest.mark.parametrize("name", ["busi", "mask-folder"])
def test_the_examples_are_descriptions(name):
    settings = load_data_set(FILES.parents[1] / "tfrecords" / f"{name}.toml")
    assert settings.format == "mask-folder" and settings.path


@pytest.mark.data
def test_the_boxes_of_bus_bra_count_from_one_and_to_the_last_pixel(real_data):
    agree = 0
    found = [entry.load() for entry in open_data_set(real_data / "busbra", SETTINGS)[::10]]
    for sample in found:
        rows, columns = np.nonzero(sample.mask)
        top, left, bottom, right = rows.min(), columns.min(), rows.max(), columns.max()
        agree += sample.attributes["lesion_box"] == [left + 1, top + 1, right - left, bottom - top]
    assert agree >= 0.98 * len(found)


@pytest.mark.data
def test_bus_bra_opens_with_patients_labels_and_folds(real_data):
    assert detect(real_data / "busbra") == "table"
    found = samples(real_data / "busbra")
    assert len(found) == 1127
    assert len({sample.patient_id for sample in found}) == 638
    assert collections.Counter(sample.label for sample in found) == {"benign": 760, "malignant": 367}
    assert {sample.attributes["Fold"] for sample in found} == {"1", "2", "3"}
    assert all(0 < sample.mask.mean() < 0.9 for sample in found)
    assert all(sample.image.shape[2] == 1 for sample in found)


@pytest.mark.data
@pytest.mark.parametrize(("name", "count"), [("chest_xray", 200), ("natural", 1500)])
def test_other_sets_open_as_folders_of_masks(real_data, name, count):
    entries = open_data_set(real_data / name, SETTINGS)
    assert len(entries) == count
    for entry in entries[:: count // 5]:
        assert 0 < entry.load().mask.mean() < 1


# --- tables that are nearly right ---


@pytest.mark.parametrize("spelled", ["A.PNG", "A", "a.jpg"])
def test_case_and_suffix_of_a_name_do_not_matter_where_they_tell_nothing(tmp_path, spelled):
    make_table(tmp_path, f"image,patient\n{spelled},p\nb,p\n", images=("a", "b"))
    assert [(s.source_id, s.patient_id) for s in samples(tmp_path)] == [("a", "p"), ("b", "p")]


def test_a_table_of_a_larger_study_is_used_where_it_names_the_images(tmp_path):
    rows = "".join(f"x{number},q\n" for number in range(20))
    make_table(tmp_path, f"image,patient\na,p\nb,p\n{rows}", images=("a", "b"))
    found = [entry for entry in open_data_set(tmp_path, SETTINGS) if entry.source_id in "ab"]
    assert [entry.load().patient_id for entry in found] == ["p", "p"]


def test_a_table_that_names_no_image_is_not_passed_over_silently(tmp_path):
    make(tmp_path, "a.png", "a_mask.png")
    (tmp_path / "patients.csv").write_text("number,patient\n1,p\n")
    with pytest.warns(UserWarning, match=r"patients\.csv: not used"):
        assert detect(tmp_path) == "mask-folder"
        open_data_set(tmp_path, SETTINGS)


def test_a_column_of_masks_is_found(tmp_path):
    make(tmp_path, "x/a.png", "x/b.png")
    for name in ("k7", "k9"):
        (tmp_path / "y").mkdir(exist_ok=True)
        (tmp_path / "y" / f"{name}.png").write_bytes(encode_png(MASK))
    (tmp_path / "t.csv").write_text("image,mask,patient\nx\\a.png,y/k9.png,p\nx/b.png,y/k7.png,q\n")
    found = samples(tmp_path)
    assert [(s.source_id, s.patient_id) for s in found] == [("a", "p"), ("b", "q")]
    assert all(s.mask.any() for s in found)


def test_a_numbered_mask_is_the_second_of_its_image_where_the_numbered_image_has_its_own(tmp_path):
    make(tmp_path, "a.png", "a_1.png", "a_mask.png", "a_mask_1.png", "a_1_mask.png")
    assert masks_of(tmp_path)[0] == {"a.png": ["a_mask.png", "a_mask_1.png"], "a_1.png": ["a_1_mask.png"]}


def test_a_pipe_called_like_a_table_does_not_stop_the_reading(tmp_path):
    make(tmp_path, "a.png", "a_mask.png")
    os.mkfifo(tmp_path / "t.csv")
    assert len(samples(tmp_path)) == 1


def test_a_link_to_itself_is_no_reason_to_refuse_the_rest(tmp_path):
    make(tmp_path, "a.png", "a_mask.png")
    (tmp_path / "l.png").symlink_to(tmp_path / "l.png")
    assert len(samples(tmp_path)) == 1
