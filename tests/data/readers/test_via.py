"""VIA's projects and exports, however they spell a region, give one and the same mask; anything else is answered."""

import csv
import io
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from ustoolkit.data.image_files import encode_png
from ustoolkit.data.readers import describe, detect, open_data_set, via
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings, load_data_set

FILES = Path(__file__).parent.parent.parent / "files" / "via"
HEIGHT, WIDTH = 20, 30
IMAGE = (np.arange(HEIGHT * WIDTH) % 251).astype(np.uint8).reshape(HEIGHT, WIDTH)
BOX = {"name": "rect", "x": 3, "y": 4, "width": 6, "height": 4}
BOX_MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
BOX_MASK[4:9, 3:10] = 1
COLUMNS = (
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)


def region(shape=BOX, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def image(*regions, name="a.png", **file_attributes):
    return {"filename": name, "size": 1234, "regions": list(regions), "file_attributes": file_attributes}


def as_export(*images):
    return {f"{told['filename']}{told['size']}": told for told in images}


def as_project(*images):
    return {"_via_settings": {"core": {}}, "_via_img_metadata": as_export(*images), "_via_attributes": {}}


def as_version_1(*images):
    return {
        key: told
        | {"fileref": "", "base64_img_data": "", "regions": {str(i): r for i, r in enumerate(told["regions"])}}
        for key, told in as_export(*images).items()
    }


def as_table(*images, header="filename", separator=","):
    file = io.StringIO()
    rows = csv.writer(file, delimiter=separator)
    rows.writerow([header, *COLUMNS])
    for told in images:
        start = [told["filename"], told["size"], json.dumps(told["file_attributes"]), len(told["regions"])]
        for number, drawn in enumerate(told["regions"]):
            shape, attributes = json.dumps(drawn["shape_attributes"]), json.dumps(drawn["region_attributes"])
            rows.writerow([*start, number, shape, attributes])
        if not told["regions"]:
            rows.writerow([*start, 0, "{}", "{}"])
    return file.getvalue()


FORMS = {
    "project.json": as_project,
    "export.json": as_export,
    "version_1.json": as_version_1,
    "export.csv": as_table,
    "version_1.csv": lambda *images: as_table(*images, header="#filename"),
    "semicolons.csv": lambda *images: as_table(*images, separator=";"),
}


def save(root, name, content, *pictures):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    for picture in pictures:
        (root / picture).parent.mkdir(parents=True, exist_ok=True)
        (root / picture).write_bytes(encode_png(IMAGE))
    return root


def entries(root, **changes):
    return open_data_set(root, DataSetSettings(format="via", **changes))


def load(root, **changes):
    (entry,) = entries(root, **changes)
    return entry.load()


def answers(root, **changes):
    """What each entry comes to: a sample, or the message of its refusal."""
    found = {}
    for entry in entries(root, **changes):
        try:
            found[entry.source_id] = pickle.loads(pickle.dumps(entry)).load()
        except DataError as problem:
            found[entry.source_id] = str(problem)
    return found


def test_the_fixtures_samples():
    found = {entry.source_id: entry.load() for entry in open_data_set(FILES, DataSetSettings())}
    told = {name: (sample.label, sample.patient_id) for name, sample in found.items()}
    assert told == {
        "scan_a": ("benign", "p1"),
        "scan_b": ("malignant", "scan_b"),
        "scan_c": ("", "p2"),
        "scan_d": ("normal", "p2"),
    }
    assert found["scan_d"].mask is None
    assert found["scan_b"].mask[1:4, 1:4].all()


# --- every form says the same ---


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_samples(tmp_path, form):
    told = [
        image(region(**{"class": "benign"}), region({"name": "point", "cx": 20, "cy": 12}), patient="p 1", device="x"),
        image(name="b, c.png", pathology="normal"),
    ]
    save(tmp_path, form, FORMS[form](*told), "a.png", "b, c.png", "no one names it.png")
    assert detect(tmp_path) == "via"
    found = answers(tmp_path)
    assert list(found) == ["a", "b, c", "no one names it"]
    a, b, other = found.values()
    np.testing.assert_array_equal(a.mask[:, :10], BOX_MASK[:, :10])
    assert a.mask[12, 20]
    assert (a.label, a.patient_id, a.attributes) == ("benign", "p 1", {"device": "x"})
    assert (b.label, b.mask, b.patient_id) == ("normal", None, "b, c")
    assert (other.label, other.mask) == ("", None)


def test_all_forms_in_one_folder_are_one_annotation(tmp_path):
    told = image(region(), region({"name": "circle", "cx": 20, "cy": 10, "r": 3.5}, type="lesion"))
    for name, form in FORMS.items():
        save(tmp_path, name, form(told), "a.png")
    assert load(tmp_path).mask.sum() > BOX_MASK.sum()


def test_a_file_without_regions_does_not_gainsay_one_with(tmp_path):
    save(tmp_path, "a.json", as_project(image()), "a.png")
    save(tmp_path, "b.json", as_project(image(region())))
    np.testing.assert_array_equal(load(tmp_path).mask, BOX_MASK)


@pytest.mark.parametrize("other", [image(region(BOX | {"x": 4})), image(region(), region()), image(region(a="benign"))])
def test_two_files_that_say_different_things_are_refused_with_both(tmp_path, other):
    save(tmp_path, "one.json", as_project(image(region()), image(region(), name="good.png")), "a.png", "good.png")
    save(tmp_path, "two.csv", as_table(other))
    found = answers(tmp_path)
    assert "one.json, a.png: two.csv has other regions of this image" in found["a"]
    np.testing.assert_array_equal(found["good"].mask, BOX_MASK)


# --- shapes ---

SQUARE = {"all_points_x": [3, 9, 9, 3], "all_points_y": [4, 4, 8, 8]}


@pytest.mark.parametrize("shape", [BOX, {"name": "polygon"} | SQUARE])
def test_areas_hold_the_pixels_drawn(tmp_path, shape):
    save(tmp_path, "via.json", as_project(image(region(shape))), "a.png")
    np.testing.assert_array_equal(load(tmp_path).mask, BOX_MASK)


@pytest.mark.parametrize(
    ("shape", "inside", "outside"),
    [
        ({"name": "circle", "cx": 10, "cy": 10, "r": 4}, [(10, 6), (14, 10), (6, 10)], [(10, 5), (14, 14)]),
        ({"name": "ellipse", "cx": 14, "cy": 10, "rx": 10, "ry": 3}, [(4, 10), (24, 10), (14, 7)], [(14, 6), (5, 8)]),
        (
            {"name": "ellipse", "cx": 14, "cy": 10, "rx": 8, "ry": 2, "theta": math.pi / 2},
            [(14, 2), (14, 18), (12, 10)],
            [(11, 10), (17, 10)],
        ),
        (
            {"name": "ellipse", "cx": 14, "cy": 10, "rx": 8, "ry": 2, "theta": math.pi / 4},
            [(18, 14), (10, 6)],  # clockwise on the screen: the right end goes down
            [(18, 6), (10, 14)],
        ),
        ({"name": "polyline", "all_points_x": [2, 20], "all_points_y": [10, 10]}, [(10, 7), (10, 13)], [(10, 17)]),
        ({"name": "point", "cx": 10, "cy": 10}, [(10, 10), (13, 10)], [(17, 10)]),
        ({"name": "circle", "cx": 29, "cy": 10, "r": 9}, [(29, 10), (21, 10)], [(19, 10)]),
    ],
)
def test_round_shapes_and_lines_lie_where_they_were_drawn(tmp_path, shape, inside, outside):
    save(tmp_path, "via.json", as_project(image(region(shape))), "a.png")
    mask = load(tmp_path).mask
    assert [(x, y) for x, y in inside if not mask[y, x]] == []
    assert [(x, y) for x, y in outside if mask[y, x]] == []


# --- which class ---


@pytest.mark.parametrize(
    "attributes",
    [
        {"class": "benign"},
        {"Label": "benign"},
        {"whatever": "benign"},
        {"name": "benign", "remark": "blurred"},
        {"remark": "blurred", "Class": "benign", "name": "x"},
        {"class": {"benign": True}},
        {"class": {"malignant": False, "benign": True}},
        {"class": " Benign "},
        {"class": "benign", "number": 3, "empty": ""},
    ],
)
def test_the_class_is_found(tmp_path, attributes):
    save(tmp_path, "via.json", as_project(image(region(**attributes))), "a.png")
    sample = load(tmp_path)
    assert sample.label == "benign"
    np.testing.assert_array_equal(sample.mask, BOX_MASK)


def test_the_described_attribute_names_the_class(tmp_path):
    save(tmp_path, "via.json", as_project(image(region(kind="malignant", **{"class": "benign"}))), "a.png")
    assert load(tmp_path, region_attribute="kind").label == "malignant"
    with pytest.raises(DataError, match=r"no region has an attribute 'sort'; there are kind, class"):
        entries(tmp_path, region_attribute="sort")


def test_several_attributes_of_unknown_names_are_answered(tmp_path):
    save(tmp_path, "via.json", as_project(image(region(one="x", two="y"))), "a.png")
    with pytest.raises(DataError, match=r"several attributes: one, two\. Say which .* region_attribute"):
        entries(tmp_path)


def test_other_words_become_classes(tmp_path):
    told = image(region(organ="node"), region(BOX | {"x": 15}, organ="Gland"), region(BOX | {"x": 15, "y": 12}))
    save(tmp_path, "via.json", as_project(told), "a.png")
    settings = describe(tmp_path, DataSetSettings())
    assert settings.classes == ("background", "Gland", "node")
    (entry,) = open_data_set(tmp_path, DataSetSettings())
    with pytest.raises(DataError, match=r"via\.json, a\.png, region 3: label '' is not a class"):
        entry.load()
    told["regions"].pop()
    save(tmp_path, "via.json", as_project(told))
    assert (load(tmp_path).mask == np.roll(BOX_MASK, 12, 1) + 2 * BOX_MASK).all()


def test_two_ticks_are_refused(tmp_path):
    save(tmp_path, "via.json", as_project(image(region(kind={"x": True, "y": True}))), "a.png")
    with pytest.raises(DataError, match=r"via\.json, a\.png, region 1: expected one ticked kind, found x, y"):
        load(tmp_path)


# --- what is said of the image ---


@pytest.mark.parametrize(
    ("attributes", "label", "patient", "others"),
    [
        ({"anything": "malignant"}, "malignant", "a", {}),
        ({"anything": {"Malignant": True, "blurred": True}}, "malignant", "a", {}),
        ({"label": "fibroadenoma", "Case ID": 12}, "fibroadenoma", "12", {}),
        ({"subject": "s1", "patient": "p1", "caption": "", "public_domain": "no"}, "", "p1", {"public_domain": "no"}),
        ({"quality": {"good": True, "frontal": True, "bright": False}}, "", "a", {"quality": ["good", "frontal"]}),
    ],
)
def test_file_attributes_name_label_and_patient(tmp_path, attributes, label, patient, others):
    told = image(region())
    told["file_attributes"] = attributes
    save(tmp_path, "via.json", as_project(told), "a.png")
    sample = load(tmp_path)
    assert sample.label == label
    assert sample.patient_id == patient
    assert {name: value for name, value in sample.attributes.items() if name in others} == others


def test_two_labels_of_an_image_are_refused(tmp_path):
    save(tmp_path, "via.json", as_project(image(region(), one="benign", two="malignant")), "a.png")
    with pytest.raises(DataError, match="expected one label for the image, found benign, malignant"):
        load(tmp_path)


# --- where the image is ---


@pytest.mark.parametrize(
    ("file", "picture", "name"),
    [
        ("via.json", "a.png", "a.png"),
        ("via.json", "images/a.png", "a.png"),
        ("via.json", "images/a.png", "images/a.png"),
        ("annotations/via.json", "images/a.png", "../images/a.png"),
        ("annotations/via.json", "images/a.png", "a.png"),
        ("via.json", "a.png", "C:\\scans\\a.png"),
        ("via.json", "a.png", "https://example.org/scans/a.png?size=3"),
        ("via.json", "an image.png", "https://example.org/an%20image.png"),
        ("via.json", "a.png", "file:///home/someone/a.png"),
        ("via.json", "A.PNG", "a.png"),
    ],
)
def test_the_image_is_found_by_its_name_whatever_its_size(tmp_path, file, picture, name):
    save(tmp_path, file, as_project(image(region(), name=name)), picture)
    sample = load(tmp_path)
    assert sample.filename == Path(picture).name
    np.testing.assert_array_equal(sample.mask, BOX_MASK)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("../../secret.png", "leads out of"),
        ("b.png", "there is no image 'b.png'"),
        ("/etc/hostname", "there is no image"),
        ("x" * 5000, "there is no image"),
        ("a\0.png", "expected the name of an image"),
        ("\ud800.png", "there is no image"),
        ("", "expected a filename, found none"),
        (None, "expected a filename, found none"),
        (["a.png"], "expected a word as filename"),
    ],
)
def test_an_image_that_is_missing_is_refused_and_the_others_go_on(tmp_path, name, answer):
    (tmp_path / "secret.png").write_bytes(encode_png(IMAGE))
    told = as_export(image(region(), name="good.png")) | {"bad": image(region()) | {"filename": name}}
    root = save(tmp_path / "data" / "set", "via.json", told, "good.png")
    found = answers(root)
    np.testing.assert_array_equal(found.pop("good").mask, BOX_MASK)
    (message,) = found.values()
    assert message.startswith("via.json, ")
    assert answer in message
    message.encode()


# --- what VIA did not write ---

BAD_SHAPES = {
    "unknown": ({"name": "cube"}, "expected a shape of polygon, .*, found 'cube'"),
    "nothing": ({}, "expected a shape"),
    "list": ([], "expected an object as shape_attributes"),
    "negative radius": ({"name": "circle", "cx": 5, "cy": 5, "r": -2}, "expected r to be 0 or more, found -2"),
    "negative width": (BOX | {"width": -1}, "expected width to be 0 or more"),
    "words": (BOX | {"x": "3"}, "expected a number as x, found '3'"),
    "truth": (BOX | {"x": True}, "expected a number as x, found True"),
    "NaN": (BOX | {"y": math.nan}, "expected a number as y, found nan"),
    "infinity": ({"name": "point", "cx": 1e999, "cy": 1}, "expected a number as cx, found inf"),
    "too long": (BOX | {"x": 10**400}, "expected a number as x, found 1000"),
    "missing": ({"name": "circle", "cx": 5, "cy": 5}, "expected a number as r, found None"),
    "lengths": (
        {"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]},
        "expected two lists of one length",
    ),
    "no list": ({"name": "polygon", "all_points_x": 1, "all_points_y": [1, 2]}, "expected two lists"),
    "two corners": ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "expected 3 to"),
    "far away": (BOX | {"x": 900}, r"the point \(900, 4\) lies outside"),
    "large": ({"name": "circle", "cx": 5, "cy": 5, "r": 1e9}, "a radius of 1e.09 pixels does not fit"),
    "large ellipse": ({"name": "ellipse", "cx": 5, "cy": 5, "rx": 1e300, "ry": 1}, "a radius of"),
    "theta": ({"name": "ellipse", "cx": 5, "cy": 5, "rx": 1, "ry": 1, "theta": "x"}, "expected a number as theta"),
}


@pytest.mark.parametrize("name", BAD_SHAPES)
@pytest.mark.parametrize("form", ["project.json", "version_1.json", "export.csv"])
def test_a_region_that_cannot_be_drawn_is_named_and_the_others_go_on(tmp_path, form, name):
    shape, answer = BAD_SHAPES[name]
    told = image(region(), region(shape)), image(region(), name="good.png")
    save(tmp_path, form, FORMS[form](*told), "a.png", "good.png")
    found = answers(tmp_path)
    np.testing.assert_array_equal(found["good"].mask, BOX_MASK)
    with pytest.raises(DataError, match=rf"^{form}, a\.png, region 2: {answer}"):
        raise DataError(found["a"])


ODD = [None, True, -1, 1e999, "", "7", [], [[1]], {}, {"a": []}, [None] * 3, [{}]]


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("key", ["regions", "file_attributes", "filename", "size"])
def test_odd_values_are_read_or_refused_and_the_others_go_on(tmp_path, key, value):
    told = as_export(image(region(), name="good.png")) | {"bad": image(region()) | {key: value}}
    save(tmp_path, "via.json", told, "a.png", "good.png")
    found = answers(tmp_path)
    np.testing.assert_array_equal(found["good"].mask, BOX_MASK)
    bad = [message for message in found.values() if isinstance(message, str)]
    assert all(message.startswith("via.json, ") for message in bad)
    assert bad or key in ("regions", "file_attributes", "size")


@pytest.mark.parametrize("cell", ["{", "7", '"x"', "[]", "[" * 5000, '{"name": "rect"'])
def test_a_cell_that_is_no_json_is_refused_and_the_others_go_on(tmp_path, cell):
    table = (
        as_table(image(region(), name="good.png")) + f'a.png,1,{{}},1,0,"{cell.replace(chr(34), chr(34) * 2)}",{{}}\n'
    )
    save(tmp_path, "via.csv", table, "a.png", "good.png")
    found = answers(tmp_path)
    assert found["a"].startswith("via.csv, a.png, region 1: expected")
    np.testing.assert_array_equal(found["good"].mask, BOX_MASK)


def test_an_outline_of_many_points_fits_into_a_cell(tmp_path):
    shape = {"name": "polygon", "all_points_x": [3, 9, 9] + [3] * 40_000, "all_points_y": [4, 4, 8] + [8] * 40_000}
    limit = csv.field_size_limit()
    save(tmp_path, "via.csv", as_table(image(region(shape))), "a.png")
    np.testing.assert_array_equal(load(tmp_path).mask, BOX_MASK)
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("kept", [0.5, 0.98])
def test_a_file_that_is_cut_short_is_answered(tmp_path, kept):
    text = json.dumps(as_project(image(region())))
    save(tmp_path, "cut.json", text[: int(len(text) * kept)], "a.png", "good.png")
    with pytest.raises(DataError, match=r"cut\.json: expected JSON"):
        entries(tmp_path)
    save(tmp_path, "whole.json", as_project(image(region(), name="good.png")))
    found = answers(tmp_path)
    assert "cut.json: expected JSON" in found["cut.json"]
    np.testing.assert_array_equal(found["good"].mask, BOX_MASK)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", {"images": [{"filename": "a.png", "regions": []}]}),
        ("a.json", {"shapes": [], "imagePath": "a.png", "filename": "a.png", "regions": {}}),
        ("a.json", {"note": '"filename" "regions"'}),
        ("a.json", [image(region())]),
        ("a.json", '{"filename" "regions"'),
        ("a.csv", "filename,label\na.png,benign\n"),
        ("a.csv", ""),
    ],
)
def test_files_of_other_kinds_are_not_claimed(tmp_path, name, content):
    assert not via.matches(save(tmp_path, name, content, "a.png"))


def test_no_annotation_at_all_is_answered(tmp_path):
    save(tmp_path, "other.json", {"theme": "dark"}, "a.png")
    with pytest.raises(DataError, match="expected a JSON or CSV file that VIA saved, found none"):
        entries(tmp_path)


def test_the_example_of_a_description_is_valid():
    settings = load_data_set(Path(__file__).parents[3] / "tfrecords" / "via.toml")
    assert settings.region_attribute == "class"


@pytest.mark.data
def test_brain_slices_have_their_tumours(real_data):
    settings = describe(real_data / "via", DataSetSettings())
    assert (settings.format, settings.classes) == ("via", ("background", "lesion"))
    found = [entry.load() for entry in open_data_set(real_data / "via", DataSetSettings())]
    assert len(found) == 8
    told = json.loads((real_data / "via" / "via_region_data.json").read_text())
    for sample in found:
        (record,) = [record for record in told.values() if record["filename"] == sample.filename]
        xs = np.array(record["regions"]["0"]["shape_attributes"]["all_points_x"], float)
        ys = np.array(record["regions"]["0"]["shape_attributes"]["all_points_y"], float)
        area = abs(np.dot(xs, np.roll(ys, 1)) - np.dot(ys, np.roll(xs, 1))) / 2
        around = np.hypot(xs - np.roll(xs, 1), ys - np.roll(ys, 1)).sum()
        assert area <= sample.mask.sum() <= area + around  # the outline itself belongs to the mask
