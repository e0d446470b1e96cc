"""COCO's JSON becomes the pixels that COCO's own tools give, or a message that names the file."""

import json
import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy
from PIL import Image
from pycocotools import mask as coco_mask

from ustoolkit.data.annotations.coco import Writer
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.readers import describe, open_data_set
from ustoolkit.data.readers.coco_regions import region_shape
from ustoolkit.data.sample import Sample
from ustoolkit.data.shapes import rasterize
from ustoolkit.errors import DataError, UstoolkitError
from ustoolkit.recipe import DataSetSettings, load_data_set

ROOT = Path(__file__).parents[3]
FILES = ROOT / "tests" / "files" / "coco"
HEIGHT, WIDTH = 8, 10
PICTURE = (np.arange(80) * 3).astype(np.uint8).reshape(HEIGHT, WIDTH)
SQUARE = [2, 1, 6, 1, 6, 4, 2, 4]
SQUARE_MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
SQUARE_MASK[1:4, 2:6] = 1
CATEGORIES = [{"id": 5, "name": "lesion"}]


def an_image(number=1, name="a.png", **more):
    return {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH, **more}


def a_region(segmentation, image=1, category=5, **more):
    return {"id": 70, "image_id": image, "category_id": category, "segmentation": segmentation, **more}


def content(*regions, images=None, categories=CATEGORIES):
    return {"images": images or [an_image()], "annotations": list(regions), "categories": categories}


def write(root, said, file="annotations.json", pictures=("a.png",)):
    for name in pictures:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(PICTURE))
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(said), encoding="utf-8")
    return root


def samples(root, **changes):
    return [entry.load() for entry in open_data_set(root, DataSetSettings(format="coco", **changes))]


def only(root, **changes):
    (sample,) = samples(root, **changes)
    return sample


def reasons(root):
    """What was read, by id, and why the rest was not."""
    read, refused = {}, []
    for entry in open_data_set(root, DataSetSettings(format="coco")):
        try:
            read[entry.source_id] = entry.load()
        except DataError as problem:
            refused.append(str(problem))
    return read, refused


def run_lengths(mask):
    flat = mask.astype(np.int8).flatten(order="F")
    ends = [0, *np.flatnonzero(np.diff(flat)) + 1, flat.size]
    return [0] * int(flat[0]) + np.diff(ends).tolist()


def compressed(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


# --- what the files say ---


def test_a_folder_of_two_files_is_read_as_one():
    found = {sample.source_id: sample for sample in samples(FILES)}
    assert {name: (s.label, s.patient_id, s.attributes["split"]) for name, s in found.items()} == {
        "scan_1": ("benign", "p1", "train"),
        "scan_2": ("malignant", "p2", "train"),
        "scan_3": ("normal", "p3", "train"),
        "scan_4": ("malignant", "p4", "val"),
    }
    boxes = {"scan_1": (4, 10, 3, 12), "scan_2": (8, 14, 10, 18), "scan_3": (0, 0, 0, 0), "scan_4": (2, 7, 5, 15)}
    for name, (top, bottom, left, right) in boxes.items():
        drawn = np.zeros((18, 24), np.uint8)
        drawn[top:bottom, left:right] = 1
        np.testing.assert_array_equal(found[name].mask, drawn)
    assert found["scan_1"].attributes == {"split": "train", "device": "linear"}


@pytest.mark.parametrize(
    "segmentation",
    [
        [SQUARE],
        SQUARE,
        [[2, 1, 4, 1, 4, 4, 2, 4], [4, 1, 6, 1, 6, 4, 4, 4]],
        {"size": [HEIGHT, WIDTH], "counts": run_lengths(SQUARE_MASK)},
        {"size": [HEIGHT, WIDTH], "counts": compressed(SQUARE_MASK)},
    ],
    ids=["outline", "outline not in a list", "two outlines", "run lengths", "compressed"],
)
def test_every_spelling_of_a_region_means_the_same(tmp_path, segmentation):
    sample = only(write(tmp_path, content(a_region(segmentation))))
    np.testing.assert_array_equal(sample.mask, SQUARE_MASK)


@given(hypothesis_numpy.arrays(bool, st.tuples(st.integers(1, 30), st.integers(1, 30))), st.booleans())
@settings(deadline=None, max_examples=150)
def test_run_lengths_lose_nothing(mask, as_text):
    height, width = mask.shape
    counts = compressed(mask) if as_text else run_lengths(mask)
    shape = region_shape({"size": [height, width], "counts": counts}, "lesion", "a.json", height, width)
    np.testing.assert_array_equal(rasterize(shape, height, width), mask)


corners = st.lists(st.tuples(st.floats(0, 30), st.floats(0, 20)), min_size=3, max_size=12)


@given(st.lists(corners, min_size=1, max_size=3))
@settings(deadline=None, max_examples=150)
def test_outlines_set_the_pixels_that_coco_sets(polygons):
    flat = [[float(value) for corner in polygon for value in corner] for polygon in polygons]
    reference = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, 20, 30)))
    np.testing.assert_array_equal(rasterize(region_shape(flat, "lesion", "a.json", 20, 30), 20, 30), reference)


def test_what_was_written_as_coco_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    masks = [np.kron(rng.integers(0, 3, (4, 5)), np.ones((3, 4), int)).astype(np.uint8) for _ in range(4)]
    writer = Writer(tmp_path, ["background", "gland", "cyst"], ["benign"])
    image = rng.integers(0, 255, (12, 20, 1), np.uint8)
    for number, mask in enumerate(masks):
        writer.add(f"scan_{number}", Sample(f"scan_{number}", image, mask, "benign", f"p{number}"))
    writer.close()
    found = samples(tmp_path, classes=("background", "gland", "cyst"))
    for sample, mask in zip(found, masks, strict=True):
        np.testing.assert_array_equal(sample.mask, mask)
        np.testing.assert_array_equal(sample.image, image)
        assert (sample.label, sample.patient_id) == ("benign", sample.source_id.replace("scan_", "p"))


def test_a_crowd_is_a_region_and_a_later_region_lies_on_top(tmp_path):
    whole = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
    categories = [{"id": 1, "name": "gland"}, {"id": 2, "name": "cyst"}]
    said = content(a_region(whole, category=1, iscrowd=1), a_region([SQUARE], category=2), categories=categories)
    sample = only(write(tmp_path, said), classes=("background", "gland", "cyst"))
    np.testing.assert_array_equal(sample.mask, 1 + SQUARE_MASK)


def test_an_image_without_annotation_has_no_lesion_and_one_of_a_file_without_annotations_no_mask(tmp_path):
    write(tmp_path, content())
    assert not only(tmp_path).mask.any()
    write(tmp_path, {"images": [an_image()], "categories": CATEGORIES})
    assert only(tmp_path).mask is None


@pytest.mark.parametrize("number", [1, "1", 1.0])
def test_ids_may_be_numbers_or_text(tmp_path, number):
    said = content(a_region([SQUARE], image=1, category="5"), images=[an_image(number)])
    np.testing.assert_array_equal(only(write(tmp_path, said)).mask, SQUARE_MASK)


def test_categories_become_classes_or_labels(tmp_path):
    categories = [{"id": 40, "name": "cyst"}, {"id": 7, "name": "gland"}]
    write(tmp_path, content(a_region([SQUARE], category=40), categories=categories))
    assert describe(tmp_path, DataSetSettings()).classes == ("background", "cyst", "gland")
    np.testing.assert_array_equal(only(tmp_path).mask, SQUARE_MASK)
    assert describe(FILES, DataSetSettings()).classes == ("background", "lesion")


def test_a_heading_of_categories_is_no_class(tmp_path):
    categories = [
        {"id": 0, "name": "scans-x7", "supercategory": "none"},
        {"id": 1, "name": "cyst", "supercategory": "scans-x7"},
    ]
    write(tmp_path, content(a_region([SQUARE], category=1), categories=categories))
    assert describe(tmp_path, DataSetSettings()).classes == ("background", "cyst")


def test_fields_of_the_image_become_patient_label_and_attributes(tmp_path):
    image = an_image(patient_id=17, label="Benign", device="convex", depth_cm=math.nan, odd="\ud800")
    sample = only(write(tmp_path, content(images=[image])))
    assert (sample.patient_id, sample.label) == ("17", "benign")
    assert sample.attributes == {"device": "convex", "depth_cm": None, "odd": "?"}
    json.dumps(sample.attributes, allow_nan=False, ensure_ascii=False).encode()


def test_boxes_alone_make_no_mask_but_a_label_and_a_box(tmp_path):
    categories = [{"id": 5, "name": "malignant"}]
    write(tmp_path, content(a_region([], bbox=[2, 1, 4, 3]), categories=categories))
    sample = only(tmp_path)
    assert (sample.mask, sample.label) == (None, "malignant")
    assert sample.attributes["lesion_box"] == [2.0, 1.0, 4.0, 3.0]


def test_a_box_beside_outlines_is_refused(tmp_path):
    write(tmp_path, content(a_region([SQUARE]), a_region(None, id=71, bbox=[2, 1, 4, 3])))
    assert "annotation 71: expected an outline" in reasons(tmp_path)[1][0]


@pytest.mark.parametrize(("orientation", "told"), [(1, True), (1, False), (3, True), (3, False), (6, True)])
def test_a_photograph_that_exif_turns_keeps_its_regions(tmp_path, orientation, told):
    size = {} if told else {"height": None, "width": None}
    write(tmp_path, content(a_region([SQUARE]), images=[an_image() | size]), pictures=())
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PICTURE).save(tmp_path / "a.png", exif=exif)
    # 8 high is the stored picture where 6 turns it to 10 high; else nothing tells, and annotators show it upright
    expected = np.rot90(SQUARE_MASK, -1) if orientation == 6 else SQUARE_MASK
    np.testing.assert_array_equal(only(tmp_path).mask, expected)


# --- where images lie ---


@pytest.mark.parametrize(
    ("file", "name", "picture"),
    [
        ("a.json", "a.png", "a.png"),
        ("a.json", "a.png", "images/a.png"),
        ("annotations/a.json", "a.png", "a.png"),
        ("annotations/a.json", "a.png", "images/a.png"),
        ("annotations/a.json", "../images/a.png", "images/a.png"),
        ("annotations/a.json", "images/a.png", "images/a.png"),
        ("annotations/instances_val2017.json", "a.png", "val2017/a.png"),
        ("annotations/instances_val2017.json", "a.png", "images/val2017/a.png"),
        ("valid/_annotations.coco.json", "a.png", "valid/a.png"),
        ("a.json", "images\\a.png", "images/a.png"),
        ("a.json", "C:\\study\\images\\a.png", "images/a.png"),
        ("a.json", "/home/me/a.png", "deep/er/a.png"),
    ],
)
def test_an_image_is_found_where_people_put_it(tmp_path, file, name, picture):
    sample = only(write(tmp_path, content(images=[an_image(name=name)]), file, pictures=(picture,)))
    np.testing.assert_array_equal(sample.image[..., 0], PICTURE)


def test_of_two_images_of_one_name_the_one_of_the_files_own_part_is_taken(tmp_path):
    for part in ("train", "val"):
        write(tmp_path, content(), f"annotations/instances_{part}.json", pictures=(f"images/{part}/a.png",))
    found = samples(tmp_path)
    assert {s.source_id: s.attributes["split"] for s in found} == {"images/train/a": "train", "images/val/a": "val"}


@pytest.mark.parametrize("name", ["../../secret.png", "../secret.png", "..\\secret.png", "x/../../secret.png"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, name):
    (tmp_path / "secret.png").write_bytes(encode_png(PICTURE))
    root = write(tmp_path / "set", content(images=[an_image(), an_image(2, name)]))
    read, refused = reasons(root)
    assert list(read) == ["a"]
    assert len(refused) == 1 and "leads out of" in refused[0]


def test_a_name_that_fits_several_images_is_refused(tmp_path):
    write(tmp_path, content(), "deep/down/a.json", pictures=("one/a.png", "two/a.png"))
    assert "fits several images" in reasons(tmp_path)[1][0]


# --- what is wrong is refused by name, and the rest goes on ---


def good_and(region=None, image=None, **more):
    """A good image and region, and one more of either."""
    images = [an_image(1, "good.png"), image or an_image(2, "bad.png")]
    regions = [a_region([SQUARE]), *([region] if region else [])]
    return content(*regions, images=images, **more)


WRONG_RUNS = [
    [-1, 81],
    [10, 10],
    [100],
    [],
    [2**31, 2**31],
    [2**70],
    [40.0, 40.0],
    [math.nan, 80],
    [True, 79],
    ["40", "40"],
    [[40], [40]],
    None,
    7,
    {},
    "",
    "P",
    "PPPPPPPPPPPPPPPPPP",
    "oooooooooooooooo0",
    "\ud800",
    "ä",
    "\0\0\0",
    " ",
    "~~~~",
    compressed(SQUARE_MASK)[:-1],
    compressed(SQUARE_MASK) + "0P",
]


@pytest.mark.parametrize("counts", WRONG_RUNS, ids=[repr(counts)[:20] for counts in WRONG_RUNS])
def test_run_lengths_that_are_none_are_refused_before_they_are_decoded(tmp_path, counts):
    region = a_region({"size": [HEIGHT, WIDTH], "counts": counts}, image=2, id=99)
    read, refused = reasons(write(tmp_path, good_and(region), pictures=("good.png", "bad.png")))
    assert list(read) == ["good"] and len(refused) == 1
    assert "annotations.json, annotation 99: expected run lengths" in refused[0]


@pytest.mark.parametrize("size", [[8, 9], [10, 8], [-8, -10], [10**9, 10**9], [8], "8x10", None, [math.nan, 10]])
def test_run_lengths_of_another_size_are_refused(tmp_path, size):
    region = a_region({"size": size, "counts": [10, 70]}, image=2)
    read, refused = reasons(write(tmp_path, good_and(region), pictures=("good.png", "bad.png")))
    assert list(read) == ["good"]
    assert "expected run lengths of size [8, 10]" in refused[0]


@given(st.text(max_size=30) | st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=30))
@settings(deadline=None, max_examples=300)
def test_any_text_for_run_lengths_is_decoded_or_refused(counts):
    try:
        shape = region_shape({"size": [HEIGHT, WIDTH], "counts": counts}, "lesion", "a.json", HEIGHT, WIDTH)
    except DataError:
        return
    encoded = {"size": [HEIGHT, WIDTH], "counts": counts.encode()}
    np.testing.assert_array_equal(rasterize(shape, HEIGHT, WIDTH), coco_mask.decode(encoded))


WRONG_OUTLINES = [
    [[1, 1, 5, 1]],
    [[1, 1, 5, 1, 5]],
    [[1, 1, 5, 1, 5, "5"]],
    [[1, 1, 5, 1, 5, None]],
    [[1, 1, 5, 1, 5, math.nan]],
    [[1, 1, 5, 1, 5, math.inf]],
    [[1, 1, 5, 1, 5, 1e300]],
    [[1, 1, 5, 1, 5, 10**400]],
    [[1, 1, 5, 1, 5, True]],
    [[1, 1, 50, 1, 50, 50]],
    [SQUARE, []],
    [SQUARE, None],
    [[SQUARE]],
    "outline",
    7,
    True,
    [None],
]


@pytest.mark.parametrize("outline", WRONG_OUTLINES, ids=[repr(outline)[:30] for outline in WRONG_OUTLINES])
def test_outlines_that_are_none_are_refused(tmp_path, outline):
    read, refused = reasons(
        write(tmp_path, good_and(a_region(outline, image=2, id=99)), pictures=("good.png", "bad.png"))
    )
    assert list(read) == ["good"] and len(refused) == 1
    assert "annotations.json, annotation 99" in refused[0]


def test_an_outline_that_would_fill_the_memory_is_refused():
    zigzag = [float(value) for _ in range(40_000) for value in (0, 0, 6000, 6000)]
    with pytest.raises(DataError, match="corners all over"):
        region_shape([zigzag], "lesion", "a.json", 6000, 6000)


def test_a_picture_that_would_fill_the_memory_is_refused():
    with pytest.raises(DataError, match="at most 64,000,000 pixels"):
        region_shape({"size": [60_000, 60_000], "counts": [60_000**2]}, "lesion", "a.json", 60_000, 60_000)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ({"id": 2}, "expected an image with an 'id' and a 'file_name'"),
        ({"file_name": "bad.png"}, "expected an image with an 'id' and a 'file_name'"),
        (an_image(2, 7), "expected an image with an 'id' and a 'file_name'"),
        (an_image(2, " "), "expected an image with an 'id' and a 'file_name'"),
        (an_image(None, "bad.png"), "expected an image with an 'id' and a 'file_name'"),
        (an_image(2, "lost.png"), "there is no image 'lost.png'"),
        (an_image(2, "\0.png"), "expected the name of an image|there is no image"),
        (an_image(2, "bad.png") | {"height": 9}, "drawn on one of 10 × 9"),
        (an_image(2, "bad.png") | {"height": "8"}, "expected height and width in pixels"),
        (an_image(2, "bad.png") | {"height": 0}, "expected height and width in pixels"),
        (an_image(2, "bad.png") | {"height": math.nan}, "expected height and width in pixels"),
        (an_image(2, "bad.png") | {"height": None}, "expected height and width in pixels"),
        (an_image(2, "good.png"), "expected one list of its regions, found 2, in annotations.json"),
        (an_image(1, "bad.png"), "several images have the id 1"),
    ],
)
def test_an_image_that_is_not_as_it_should_be_is_refused(tmp_path, image, reason):
    read, refused = reasons(write(tmp_path, good_and(image=image), pictures=("good.png", "bad.png")))
    assert set(read) <= {"good"} and refused
    assert any(part in refused[0] for part in reason.split("|")), refused
    assert all("annotations.json" in text or ".png" in text for text in refused)


@pytest.mark.parametrize("category", [6, None, "x", math.nan, [5], True])
def test_a_category_that_is_not_there_is_refused_with_the_file(tmp_path, category):
    region = a_region([SQUARE], image=2, category=category, id=99)
    read, refused = reasons(write(tmp_path, good_and(region), pictures=("good.png", "bad.png")))
    assert list(read) == ["good"]
    assert "annotations.json, annotation 99: expected the id of one category" in refused[0]


def test_a_category_id_that_two_names_have_is_refused(tmp_path):
    categories = [*CATEGORIES, {"id": 6, "name": "lesion"}, {"id": 6, "name": "cyst"}]
    said = good_and(a_region([SQUARE], image=2, category=6), categories=categories)
    read, refused = reasons(write(tmp_path, said, pictures=("good.png", "bad.png")))
    assert list(read) == ["good"] and "expected the id of one category" in refused[0]


def test_annotations_of_no_image_are_named(tmp_path):
    read, refused = reasons(write(tmp_path, good_and(a_region([SQUARE], image=77)), pictures=("good.png", "bad.png")))
    assert sorted(read) == ["bad", "good"]
    assert "1 annotations belong to no image that it lists (image_id 77)" in refused[0]


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"images": 7, "annotations": []}', '{"images": [7], "annotations": []}', "[" * 100_000],
)
def test_a_broken_file_beside_good_ones_is_refused_alone(tmp_path, text):
    write(tmp_path, content(a_region([SQUARE])), "train.json")
    (tmp_path / "val.json").write_text(text)
    read, refused = reasons(tmp_path)
    assert list(read) == ["a"] and len(refused) == 1
    assert "val.json" in refused[0]


def test_an_image_in_two_files_is_refused(tmp_path):
    write(tmp_path, content(a_region([SQUARE])), "train.json")
    write(tmp_path, content(), "all.json")
    assert "in all.json, train.json" in reasons(tmp_path)[1][0]


def test_other_json_and_captions_are_let_be(tmp_path):
    write(tmp_path, content(a_region([SQUARE])))
    (tmp_path / "notes.json").write_text('{"who": "me"}')
    captions = {"images": [an_image()], "annotations": [{"id": 1, "image_id": 1, "caption": "a cyst"}]}
    (tmp_path / "captions_train.json").write_text(json.dumps(captions))
    np.testing.assert_array_equal(only(tmp_path).mask, SQUARE_MASK)


def test_a_category_without_meaning_is_refused_with_the_remedy(tmp_path):
    categories = [{"id": 5, "name": "lesion"}, {"id": 6, "name": "caliper"}]
    said = good_and(a_region([SQUARE], image=2, category=6), categories=categories)
    write(tmp_path, said, pictures=("good.png", "bad.png"))
    assert '[shapes."caliper"]' in reasons(tmp_path)[1][0]
    bad, good = samples(tmp_path, ignore=("caliper",))
    assert bad.mask is None and good.mask.any()


def test_regions_are_decoded_when_loaded_in_another_process_too(tmp_path):
    region = a_region({"size": [HEIGHT, WIDTH], "counts": compressed(SQUARE_MASK)})
    (entry,) = open_data_set(write(tmp_path, content(region)), DataSetSettings(format="coco"))
    assert len(pickle.dumps(entry)) < 5000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(entry)).load().mask, SQUARE_MASK)


def test_a_damaged_file_is_read_or_refused(tmp_path):
    root = shutil.copytree(FILES, tmp_path / "set")
    path = root / "annotations" / "instances_train.json"
    whole = path.read_bytes()
    seen = {"read": 0, "refused": 0}

    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(32, 126)), max_size=4), st.floats(0.8, 1.2))
    @settings(deadline=None, max_examples=150, database=None)
    def check(changes, kept):
        changed = bytearray(whole)
        for place, value in changes:
            changed[place] = value
        path.write_bytes(bytes(changed[: round(min(kept, 1) * len(changed))]))
        try:
            entries = open_data_set(root, DataSetSettings(format="coco"))
        except UstoolkitError as problem:
            assert str(problem)
            return
        for entry in entries:
            try:
                entry.load()
                seen["read"] += 1
            except UstoolkitError as problem:
                assert str(problem)
                seen["refused"] += 1

    check()
    assert seen["read"] and seen["refused"]


def test_the_example_is_a_description():
    assert load_data_set(ROOT / "tfrecords" / "coco.toml").format == "coco"
