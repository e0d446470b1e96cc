"""Every reader keeps one contract, masks are paired however they are spelled, and wrong input is answered."""

import collections
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ustoolkit.data.image_files import encode_png, find_images
from ustoolkit.data.readers import READERS, detect, open_data_set
from ustoolkit.data.readers.pairing import pair_masks
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError, RecipeError, UstoolkitError
from ustoolkit.recipe import DataSetSettings

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
    for name in READERS:
        assert DataSetSettings(format=name).format == name


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


def test_images_that_differ_in_suffix_alone_are_refused(tmp_path):
    make(tmp_path, "a.png", "a.bmp", "a_mask.png")
    with pytest.raises(DataError, match="several images are called 'a'"):
        open_data_set(tmp_path, SETTINGS)


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
    assert seen["read"] and seen["refused"]  # the damage is neither nothing nor always fatal


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


# --- real images ---


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
