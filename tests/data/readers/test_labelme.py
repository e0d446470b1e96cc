"""Labelme's files become the pixels that were drawn, on the picture they were drawn on; anything else is answered."""

import base64
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ustoolkit.data.image_files import encode_png, turn_upright
from ustoolkit.data.readers import describe, detect, labelme, open_data_set
from ustoolkit.errors import DataError
from ustoolkit.recipe import DataSetSettings, load_data_set

FILES = Path(__file__).parent.parent.parent / "files" / "labelme"
HEIGHT, WIDTH = 20, 30
IMAGE = (np.arange(HEIGHT * WIDTH) % 251).astype(np.uint8).reshape(HEIGHT, WIDTH)
BOX = [[3, 4], [9, 8]]
BOX_MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
BOX_MASK[4:9, 3:10] = 1


def drawn(kind="rectangle", points=BOX, label="lesion", **more):
    return {"label": label, "points": points, "shape_type": kind, **more}


def annotation(*shapes, image="a.png", **more):
    told = {"version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": None}
    return told | {"imageHeight": HEIGHT, "imageWidth": WIDTH} | more


def save(root, name, content, picture=""):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    if picture:
        (root / picture).parent.mkdir(parents=True, exist_ok=True)
        (root / picture).write_bytes(encode_png(IMAGE))
    return root


def entries(root, **changes):
    return open_data_set(root, DataSetSettings(format="labelme", **changes))


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


def encoded(pixels):
    return base64.b64encode(encode_png(pixels)).decode()


# --- the fixture ---


def test_the_fixtures_samples():
    found = {entry.source_id: entry.load() for entry in open_data_set(FILES, DataSetSettings())}
    assert {name: sample.label for name, sample in found.items()} == {
        "benign_1": "benign",
        "mass_2": "malignant",
        "normal_3": "normal",
        "stored_4": "",
        "unlabelled_5": "",
    }
    assert found["benign_1"].patient_id == "p1"
    assert not found["benign_1"].mask[:2, :2].any()  # what is to be ignored
    assert found["normal_3"].mask.sum() == 0
    assert found["normal_3"].attributes == {"flags": ["blurred"]}
    assert found["unlabelled_5"].mask is None
    expected = np.zeros((12, 16), np.uint8)
    expected[4:9, 4:10] = 1
    np.testing.assert_array_equal(found["stored_4"].mask, expected)


# --- types of shapes ---

MASK = np.array([[1, 0, 0], [1, 1, 1]], bool)
TYPES = {
    "rectangle": (drawn(), BOX_MASK),
    "rectangle from its lower right": (drawn(points=BOX[::-1]), BOX_MASK),
    "rectangle of four corners": (drawn(points=[[3, 4], [9, 4], [9, 8], [3, 8]]), BOX_MASK),
    "polygon": (drawn("polygon", [[3, 4], [9, 4], [9, 8], [3, 8]]), BOX_MASK),
    "rotation": (drawn("rotation", [[3, 4], [9, 4], [9, 8], [3, 8]], direction=0.0), BOX_MASK),
    "oriented_rectangle": (drawn("oriented_rectangle", [[3, 4], [9, 4], [9, 8], [3, 8]]), BOX_MASK),
    "no type": ({"label": "lesion", "points": [[3, 4], [9, 4], [9, 8], [3, 8]]}, BOX_MASK),
    "mask": (
        drawn("mask", [[5.4, 7.0], [7.4, 8.0]], mask=encoded(MASK.astype(np.uint8) * 255)),
        np.pad(MASK, ((7, HEIGHT - 9), (5, WIDTH - 8))),
    ),
    "mask of 0 and 1": (
        drawn("mask", [[5, 7], [7, 8]], mask=encoded(MASK.astype(np.uint8))),
        np.pad(MASK, ((7, HEIGHT - 9), (5, WIDTH - 8))),
    ),
}


@pytest.mark.parametrize("name", TYPES)
def test_a_type_sets_the_pixels_drawn(tmp_path, name):
    shape, expected = TYPES[name]
    save(tmp_path, "a.json", annotation(shape), "a.png")
    np.testing.assert_array_equal(load(tmp_path).mask, expected)


@pytest.mark.parametrize(
    ("shape", "inside", "outside"),
    [
        (drawn("circle", [[10, 10], [10, 14]]), [(10, 10), (6, 10), (14, 10), (10, 13)], [(5, 10), (14, 14)]),
        (drawn("ellipse", [[4, 6], [24, 14]]), [(5, 10), (23, 10), (14, 7), (14, 13)], [(5, 7), (23, 13), (14, 4)]),
        (drawn("line", [[2, 10], [20, 10]]), [(10, 7), (10, 13)], [(10, 4), (10, 17)]),
        (drawn("linestrip", [[2, 2], [20, 2], [20, 15]]), [(10, 2), (20, 10)], [(10, 10)]),
        (drawn("point", [[10, 10]]), [(10, 10), (6, 10), (10, 14)], [(3, 10), (14, 14)]),
        (drawn("points", [[5, 10], [20, 10]]), [(5, 10), (20, 10)], [(12, 10)]),
    ],
)
def test_round_shapes_and_lines_lie_where_they_were_drawn(tmp_path, shape, inside, outside):
    save(tmp_path, "a.json", annotation(shape), "a.png")
    mask = load(tmp_path).mask
    assert [(x, y) for x, y in inside if not mask[y, x]] == []
    assert [(x, y) for x, y in outside if mask[y, x]] == []


def test_lines_and_points_are_drawn_as_wide_as_described(tmp_path):
    save(tmp_path, "a.json", annotation(drawn("line", [[2, 10], [20, 10]]), drawn("point", [[25, 5]])), "a.png")
    mask = load(tmp_path, line_width=3, point_radius=1).mask
    assert mask[:, 10].sum() == 3
    assert mask[:, 25].sum() == 3


def test_a_later_shape_lies_on_top(tmp_path):
    shapes = drawn(label="tumour"), drawn(points=[[3, 4], [5, 8]], label="cyst")
    save(tmp_path, "a.json", annotation(*shapes), "a.png")
    expected = BOX_MASK.copy() * 2
    expected[4:9, 3:6] = 1
    settings = describe(tmp_path, DataSetSettings())
    assert settings.classes == ("background", "cyst", "tumour")
    np.testing.assert_array_equal(load(tmp_path).mask, expected)


def test_described_shapes_give_pixels_labels_or_both(tmp_path):
    shapes = drawn(label="TU"), drawn("point", [[25, 15]], label="caliper"), drawn("point", [[1, 1]], label="text")
    save(tmp_path, "a.json", annotation(*shapes), "a.png")
    told = {"TU": {"pixels": "lesion", "image": "malignant"}, "caliper": {"image": "malignant"}}
    sample = load(tmp_path, shapes=told, ignore=("text",))
    np.testing.assert_array_equal(sample.mask, BOX_MASK)
    assert sample.label == "malignant"


def test_a_shape_to_ignore_may_be_of_any_type(tmp_path):
    save(tmp_path, "a.json", annotation(drawn(), drawn("cuboid", "?", "__ignore__")), "a.png")
    np.testing.assert_array_equal(load(tmp_path).mask, BOX_MASK)


# --- no shapes, no annotation ---


def test_an_annotation_without_shapes_says_that_there_is_no_lesion(tmp_path):
    save(tmp_path, "a.json", annotation(), "a.png")
    (tmp_path / "b.png").write_bytes(encode_png(IMAGE))
    found = answers(tmp_path)
    np.testing.assert_array_equal(found["a"].mask, BOX_MASK * 0)
    assert found["b"].mask is None


def test_a_flag_that_is_set_names_the_images_label(tmp_path):
    flags = {"Benign": True, "malignant": False, "motion": True}
    save(tmp_path, "a.json", annotation(drawn(), flags=flags), "a.png")
    sample = load(tmp_path)
    assert (sample.label, sample.attributes) == ("benign", {"flags": ["motion"]})


def test_what_was_exported_beside_the_images_is_no_image(tmp_path):
    save(tmp_path, "a.json", annotation(drawn()), "a.png")
    for name in ("a_mask.png", "a_json/img.png", "a_json/label.png", "a_json/label_viz.png"):
        save(tmp_path, "note.txt", "", name)
    assert list(answers(tmp_path)) == ["a"]


# --- where the image is ---


@pytest.mark.parametrize(
    ("json_file", "picture", "name"),
    [
        ("a.json", "a.png", "a.png"),
        ("json/a.json", "images/a.png", "../images/a.png"),
        ("json/a.json", "images/a.png", "..\\images\\a.png"),
        ("json/a.json", "images/a.png", "a.png"),
        ("a.json", "a.png", "C:\\Users\\someone\\a.png"),
        ("a.json", "a.png", "/home/someone/a.png"),
        ("a.json", "a.png", "A.PNG"),
        ("a.json", "a.png", "old_name.png"),
        ("a.json", "a.png", "a.jpg"),
        ("a.json", "a.png", ""),
        ("a.json", "a.png", None),
        ("deep/er/a.json", "deep/er/a.png", "./a.png"),
    ],
)
def test_the_image_is_found(tmp_path, json_file, picture, name):
    save(tmp_path, json_file, annotation(drawn(), image=name), picture)
    sample = load(tmp_path)
    assert (sample.source_id, sample.filename) == ("a", "a.png")
    np.testing.assert_array_equal(sample.image[..., 0], IMAGE)
    np.testing.assert_array_equal(sample.mask, BOX_MASK)


def test_a_root_reached_by_dots_or_links_is_one_folder(tmp_path):
    save(tmp_path / "set", "json/a.json", annotation(drawn(), image="../images/a.png"), "images/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    for root in (tmp_path / "set" / ".." / "set", tmp_path / "link"):
        assert load(root).mask.sum() == BOX_MASK.sum()


def test_an_image_of_an_unusual_suffix_is_read_where_it_is_named(tmp_path):
    save(tmp_path / "set", "json/a.json", annotation(drawn(), image="../images/a.gif"), "images/b.png")
    Image.fromarray(IMAGE).save(tmp_path / "set" / "images" / "a.gif")
    for root in (tmp_path / "set", tmp_path / "set" / "json" / ".."):
        found = answers(root)
        assert list(found) == ["a", "b"]
        np.testing.assert_array_equal(found["a"].mask, BOX_MASK)


def test_images_of_one_name_in_several_folders_are_told_apart(tmp_path):
    for folder in ("one", "two"):
        save(tmp_path, f"{folder}/a.json", annotation(drawn()), f"{folder}/a.png")
    assert list(answers(tmp_path)) == ["one/a", "two/a"]


def test_the_picture_beside_wins_over_the_one_inside(tmp_path):
    inside = encoded(255 - IMAGE)
    save(tmp_path, "a.json", annotation(drawn(), imageData=inside))
    np.testing.assert_array_equal(load(tmp_path).image[..., 0], 255 - IMAGE)
    save(tmp_path, "a.json", annotation(drawn(), imageData=inside), "a.png")
    np.testing.assert_array_equal(load(tmp_path).image[..., 0], IMAGE)


REFUSED_IMAGES = {
    "leaves the folder": ("../../secret.png", "leads out of"),
    "leaves it by another slash": ("..\\..\\secret.png", "leads out of"),
    "is absolute": ("/etc/hostname.png", "there is no image"),
    "is not there": ("b.png", r"there is no image 'b\.png'"),
    "is no word": (["a.png"], "expected a word as imagePath, found a list"),
    "is too long": ("x" * 5000, "there is no image"),
    "holds a zero": ("a\0.png", "expected the name of an image"),
    "is half a character": ("\ud800.png", "there is no image"),
}


@pytest.mark.parametrize("name", REFUSED_IMAGES)
def test_an_image_path_that_leads_nowhere_is_refused_and_the_others_go_on(tmp_path, name):
    path, answer = REFUSED_IMAGES[name]
    (tmp_path / "secret.png").write_bytes(encode_png(IMAGE))
    root = save(tmp_path / "data" / "set", "good.json", annotation(drawn(), image="good.png"), "good.png")
    save(root, "bad.json", annotation(drawn(), image=path))
    found = answers(root)
    np.testing.assert_array_equal(found.pop("good").mask, BOX_MASK)
    (message,) = found.values()
    assert message.startswith("bad.json: ")
    with pytest.raises(DataError, match=answer):
        raise DataError(message)
    message.encode()


def test_a_path_that_leads_out_is_refused_though_an_image_is_beside(tmp_path):
    save(tmp_path / "set", "a.json", annotation(drawn(), image="../a.png"), "a.png")
    with pytest.raises(DataError, match=r"a\.json: the image path '\.\./a\.png' leads out of"):
        load(tmp_path / "set")


def test_an_image_that_two_files_name_is_refused_with_both(tmp_path):
    save(tmp_path, "a.json", annotation(drawn()), "a.png")
    save(tmp_path, "copy/b.json", annotation(image="../a.png"))
    save(tmp_path, "c.json", annotation(drawn(), image="c.png"), "c.png")
    found = answers(tmp_path)
    assert "a.png: annotated twice, in a.json and copy/b.json" in found["a"]
    assert found["c"].mask.sum() == BOX_MASK.sum()


def test_of_several_images_of_the_name_none_is_guessed(tmp_path):
    save(tmp_path, "json/x.json", annotation(drawn(), image="a.png"), "one/a.png")
    save(tmp_path, "note.txt", "", "two/a.png")
    assert "several images are called 'a.png': one/a.png, two/a.png" in answers(tmp_path)["x"]


def test_another_size_than_the_annotations_is_refused(tmp_path):
    save(tmp_path, "a.json", annotation(drawn(), imageHeight=40), "a.png")
    with pytest.raises(DataError, match=r"is 30 × 20 pixels, its annotation was drawn on one of 30 × 40"):
        load(tmp_path)


# --- photos that EXIF turns ---

BRIGHT = np.zeros((64, 96), np.uint8)
BRIGHT[8:24, 16:64] = 255  # whole JPEG blocks, so that they stay sharp


def corners(pixels):
    rows, columns = np.nonzero(pixels)
    return [[int(columns.min()), int(rows.min())], [int(columns.max()), int(rows.max())]]


@pytest.mark.parametrize("kind", ["rectangle", "polygon", "mask"])
@pytest.mark.parametrize(
    ("orientation", "on"),
    # where turning keeps the size nothing tells, and annotators show pictures upright
    [*((number, "upright") for number in range(1, 9)), *((number, "stored") for number in range(5, 9))],
)
def test_a_turned_photo_and_its_shapes_lie_over_each_other(tmp_path, orientation, kind, on):
    upright = turn_upright(BRIGHT, orientation)
    seen = upright if on == "upright" else BRIGHT
    (left, top), (right, bottom) = corners(seen)
    points = {"polygon": [[left, top], [right, top], [right, bottom], [left, bottom]]}.get(kind, corners(seen))
    mask = {"mask": encoded(seen[top : bottom + 1, left : right + 1])} if kind == "mask" else {}
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(BRIGHT).save(tmp_path / "a.jpg", exif=exif, quality=95)
    height, width = seen.shape
    told = annotation(drawn(kind, points, **mask), image="a.jpg", imageHeight=height, imageWidth=width)
    save(tmp_path, "a.json", told)
    sample = load(tmp_path)
    np.testing.assert_array_equal(sample.image[..., 0] > 128, upright > 0)
    np.testing.assert_array_equal(sample.mask > 0, upright > 0)


@pytest.mark.parametrize(
    ("orientation", "on"),
    [*((number, "upright") for number in range(1, 9)), *((number, "stored") for number in range(5, 9))],
)
def test_without_a_size_a_shape_lies_where_it_fits(tmp_path, orientation, on):
    stored = np.zeros((64, 96), np.uint8)
    stored[8:24, 56:88] = 255
    upright = turn_upright(stored, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=95)
    points = corners(upright if on == "upright" else stored)
    save(tmp_path, "a.json", annotation(drawn(points=points), image="a.jpg", imageHeight=None, imageWidth=None))
    np.testing.assert_array_equal(load(tmp_path).mask > 0, upright > 0)


def test_a_shape_along_the_right_edge_of_a_turned_photo_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(BRIGHT).save(tmp_path / "a.jpg", exif=exif)  # 64 wide and 96 high once turned
    told = annotation(drawn(points=[[60, 4], [64, 8]]), image="a.jpg", imageHeight=None, imageWidth=None)
    save(tmp_path, "a.json", told)
    assert corners(load(tmp_path).mask) == [[60, 4], [63, 8]]


# --- what labelme did not write ---

ODD = [None, True, -1, 10**400, 1e999, float("nan"), "", "7", "é", [], [[]], [[1]], {}, {"a": 1}, [[1e9, 1e9]] * 3]


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize(
    "path",
    [
        ("shapes",),
        ("shapes", 0),
        ("shapes", 0, "label"),
        ("shapes", 0, "points"),
        ("shapes", 0, "points", 0),
        ("shapes", 0, "points", 0, 1),
        ("shapes", 0, "shape_type"),
        ("shapes", 1, "mask"),
        ("shapes", 1, "points"),
        ("flags",),
        ("flags", "benign"),
        ("imagePath",),
        ("imageData",),
        ("imageHeight",),
        ("patient_id",),
    ],
    ids=str,
)
def test_odd_values_are_read_or_refused_and_the_others_go_on(tmp_path, path, value):
    told = annotation(
        drawn("polygon", [[3, 4], [9, 4], [9, 8]]),
        drawn("mask", [[5, 7], [7, 8]], mask=encoded(MASK.astype(np.uint8))),
        flags={"benign": True},
    )
    *parents, last = path
    holder = told
    for key in parents:
        holder = holder[key]
    holder[last] = value
    save(
        tmp_path,
        "bad.json",
        told | {"imagePath": told["imagePath"] if path == ("imagePath",) else "bad.png"},
        "bad.png",
    )
    save(tmp_path, "good.json", annotation(drawn(), image="good.png"), "good.png")
    found = answers(tmp_path, classes=("background", "lesion"))
    np.testing.assert_array_equal(found["good"].mask, BOX_MASK)
    bad = found["bad"]
    assert "/bad.png: the picture is" in bad or "bad.json" in bad if isinstance(bad, str) else bad.mask is not None


REFUSED = {
    "cuboid": (drawn("cuboid"), r"a\.json, shape 2: expected a shape_type of .*, found 'cuboid'"),
    "unknown label": (drawn(label="Zyste"), r"a\.json, shape 2: label 'Zyste' is not a class"),
    "words": (drawn(points=[["3", 4], [9, 8]]), r"shape 2: expected a number as x, found '3'"),
    "truth": (drawn(points=[[3, True], [9, 8]]), r"shape 2: expected a number as y, found True"),
    "infinity": (drawn("circle", [[3, 4], [1e999, 8]]), r"shape 2: expected a number as x, found inf"),
    "outside": (drawn(points=[[3, 4], [900, 8]]), r"shape 2: the point \(900, 8\) lies outside"),
    "two corners": (drawn("polygon"), r"shape 2: expected 3 to .* points for a polygon, found 2"),
    "three numbers": (drawn(points=[[1, 2, 3], [9, 8]]), r"shape 2: expected points as a list of \[x, y\]"),
    "no points": ({"label": "lesion", "shape_type": "circle"}, r"shape 2: expected points"),
    "no bitmap": (drawn("mask"), r"shape 2: expected mask as an image in base64 \(found None\)"),
    "no base64": (drawn("mask", mask="%%%%="), r"shape 2: expected"),
    "no image": (drawn("mask", mask="AAAA"), r"shape 2: expected an image"),
    "another box": (
        drawn("mask", mask=encoded(MASK.astype(np.uint8))),
        r"shape 2: a mask of 3 × 2 .* its box of 7 × 5",
    ),
    "no object": (7, r"shape 2: expected an object as shape, found 7"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_shape_that_cannot_be_drawn_is_named_by_file_and_number(tmp_path, name):
    shape, answer = REFUSED[name]
    save(tmp_path, "a.json", annotation(drawn(), shape), "a.png")
    with pytest.raises(DataError, match=answer):
        load(tmp_path, classes=("background", "lesion"))


@pytest.mark.parametrize(
    "content", ["", "{", "[" * 100_000, '{"shapes": ' + "[" * 900, "\0", '{"a": ' + "9" * 5000 + "}"]
)
def test_a_file_that_is_no_json_is_refused_under_its_images_name(tmp_path, content):
    save(tmp_path, "bad.json", content, "bad.png")
    save(tmp_path, "good.json", annotation(drawn(), image="good.png"), "good.png")
    found = answers(tmp_path)
    assert "bad.json: expected JSON" in found["bad"]
    assert found["good"].mask.any()


def test_a_file_larger_than_allowed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ustoolkit.data.readers.annotation_files.LARGEST_ANNOTATION_BYTES", 1000)
    save(tmp_path, "bad.json", annotation(*[drawn()] * 50, image="bad.png"), "bad.png")
    save(tmp_path, "good.json", annotation(drawn(), image="good.png"), "good.png")
    found = answers(tmp_path)
    assert "expected annotations of at most 1,000 bytes" in found["bad"]
    assert found["good"].mask.any()


def test_bitmaps_beyond_all_measure_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ustoolkit.data.readers.labelme_shapes._MOST_MASK_PIXELS", 10)
    told = drawn("mask", [[5, 7], [7, 8]], mask=encoded(MASK.astype(np.uint8)))
    save(tmp_path, "a.json", annotation(told, told), "a.png")
    with pytest.raises(DataError, match="shape 2: expected masks of at most 10 pixels"):
        load(tmp_path)


def test_two_flags_for_one_label_are_refused(tmp_path):
    save(tmp_path, "a.json", annotation(flags={"benign": True, "malignant": True}), "a.png")
    with pytest.raises(DataError, match=r"a\.json: expected one label for the image, found flags benign, malignant"):
        load(tmp_path)


def test_no_annotation_at_all_is_answered(tmp_path):
    save(tmp_path, "other.json", {"theme": "dark"}, "a.png")
    with pytest.raises(DataError, match="expected JSON files that labelme wrote, found none"):
        entries(tmp_path)


# --- which folders are labelme's ---


def test_an_annotation_is_known_wherever_its_keys_stand(tmp_path):
    keys = annotation(drawn())
    large = base64.b64encode(bytes(300_000)).decode()
    turned = {"imageData": large, **dict(reversed(keys.items()))} | {"imageData": large}
    assert next(iter(turned)) == "imageData"
    save(tmp_path, "a.json", turned)
    assert detect(tmp_path) == "labelme"


@pytest.mark.parametrize(
    "content",
    [
        {"images": [], "annotations": [], "categories": [{"name": "shapes"}]},
        {"shapes": {"imagePath": 1}},
        {"layers": {"shapes": [], "imagePath": "a.png"}},
        [{"shapes": [], "imagePath": "a.png"}],
        {"note": '"shapes" "imagePath"'},
        '{"shapes": [], "imagePath"',
        "[" * 100_000,
        "",
    ],
    ids=lambda value: str(value)[:30],
)
def test_json_files_of_other_kinds_are_not_claimed(tmp_path, content):
    assert not labelme.matches(save(tmp_path, "a.json", content, "a.png"))


def test_annotations_among_many_files_of_other_kinds_are_found_and_these_left_alone(tmp_path):
    for number in range(60):
        save(tmp_path, f"{number}.meta.json", {"device": "x", "number": number})
        save(tmp_path, f"{number}.json", annotation(drawn(), image=f"{number}.png"), f"{number}.png")
    assert detect(tmp_path) == "labelme"
    assert len(answers(tmp_path)) == 60


def test_listing_keeps_shapes_in_their_files(tmp_path):
    many = [[index % WIDTH, index % HEIGHT] for index in range(5000)]
    save(tmp_path, "a.json", annotation(drawn("polygon", many)), "a.png")
    (entry,) = entries(tmp_path)
    assert len(pickle.dumps(entry)) < 5000


def test_the_example_of_a_description_is_valid():
    settings = load_data_set(Path(__file__).parents[3] / "tfrecords" / "labelme.toml")
    assert settings.shapes["zyste"].pixels == "cyst"


# --- real files ---


@pytest.mark.data
def test_labelmes_own_examples_are_read(real_data, tmp_path):
    root = shutil.copytree(real_data / "labelme", tmp_path / "set")
    settings = describe(root, DataSetSettings())
    assert settings.format == "labelme"
    assert {"person", "bottle", "octagon", "line_strip"} <= set(settings.classes)
    assert not any("ignore" in name for name in settings.classes)
    people, primitives = (entry.load() for entry in open_data_set(root, DataSetSettings()))
    drawn_classes = {settings.classes[index] for index in np.unique(primitives.mask)}
    assert drawn_classes == set(settings.classes) - {"person", "bottle"}
    assert {settings.classes[index] for index in np.unique(people.mask)} == {"background", "person", "bottle"}
    circle = primitives.mask == settings.classes.index("circle")
    assert circle.sum() == pytest.approx(np.pi * (30**2 + 41**2), rel=0.02)  # its centre and rim are in the file
