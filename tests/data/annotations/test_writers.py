"""Every writer keeps one contract: what it writes, the reader of that form reads back, masks within a pixel."""

import json
from typing import get_args

import numpy as np
import pytest

from tests.data.annotations.test_outlines import blobs, farthest
from ustoolkit.choices import AnnotationFormat
from ustoolkit.data.annotations import WRITERS, write_annotations
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.readers import detect, open_data_set
from ustoolkit.data.readers.entry import Entry, Refused
from ustoolkit.data.sample import Sample
from ustoolkit.errors import DataError, OutputError
from ustoolkit.recipe import load_data_set

CLASSES = ("background", "organ", "lesion")
LABELS = ("benign", "malignant", "normal")


class Given:
    """An entry's load that hands out a sample."""

    def __init__(self, sample):
        self.sample = sample

    def __call__(self):
        return self.sample


def sample(name, seed, label="benign", patient="p1", channels=1, mask=True):
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 60, channels), dtype=np.uint8)
    drawn = np.zeros((48, 60), np.uint8)
    if mask:
        drawn[8:40, 6:50] = 1
        drawn[15:30, 15:30] = 2
        drawn[20:24, 20:24] = 0
        drawn[2, 55] = 2
    return Sample(name, pixels, drawn if mask else None, label, patient)


SAMPLES = [
    sample("a", 0),
    sample("b/c", 1, label="malignant", patient="Å 2", channels=3),
    sample("unseen", 2, label="", mask=False),
]
ENTRIES = [Entry(item.source_id, Given(item)) for item in SAMPLES]


def written(tmp_path, form, entries=ENTRIES, classes=CLASSES, **options):
    out = tmp_path / "out"
    count, refused = write_annotations(entries, out, form, classes, LABELS, **options)
    return out, count, refused


def read_back(out):
    settings = load_data_set(out / "data_set.toml")
    return {entry.source_id.split("/")[-1]: entry.load() for entry in open_data_set(out, settings)}


@pytest.mark.parametrize("form", WRITERS)
class TestContract:
    def test_what_is_written_is_detected_and_read_back(self, form, tmp_path):
        out, count, refused = written(tmp_path, form)
        assert (count, refused) == (3, [])
        assert detect(out) == form
        found = read_back(out)
        assert sorted(found) == ["a", "b__c", "unseen"]
        for before in SAMPLES:
            after = found[before.source_id.replace("/", "__")]
            np.testing.assert_array_equal(before.image, after.image)
            assert (before.label, before.patient_id) == (after.label, after.patient_id)

    def test_masks_come_back_within_a_pixel(self, form, tmp_path):
        out, *_ = written(tmp_path, form)
        found = read_back(out)
        for before in SAMPLES[:2]:
            after = found[before.source_id.replace("/", "__")]
            for index in (1, 2):
                assert farthest(before.mask == index, after.mask == index) <= 1

    def test_blobs_with_holes_come_back_within_a_pixel(self, form, tmp_path):
        shapes = [blobs(seed, 0.2 + 0.15 * (seed % 5)) for seed in range(25)]
        items = [
            Sample(f"s{number:02}", np.zeros((*shape.shape, 1), np.uint8), shape.astype(np.uint8), "", "p")
            for number, shape in enumerate(shapes)
        ]
        entries = [Entry(item.source_id, Given(item)) for item in items]
        out, *_ = written(tmp_path, form, entries, classes=("background", "lesion"))
        for (_, after), before in zip(sorted(read_back(out).items()), items, strict=True):
            assert farthest(before.mask > 0, after.mask > 0) <= 1

    def test_two_classes_need_no_description(self, form, tmp_path):
        item = sample("a", 0)
        lesion = Sample("a", item.image, (item.mask > 0).astype(np.uint8), "benign", "p")
        out, *_ = written(tmp_path, form, [Entry("a", Given(lesion))], classes=("background", "lesion"))
        (entry,) = open_data_set(out, load_data_set(out / "data_set.toml").model_copy(update={"format": "auto"}))
        assert entry.load().mask.any()

    def test_an_image_that_cannot_be_read_is_named_and_the_others_are_written(self, form, tmp_path):
        entries = [*ENTRIES, Entry("bad", Refused("bad.png: damaged."))]
        _, count, refused = written(tmp_path, form, entries)
        assert (count, refused) == (3, ["bad.png: damaged."])

    def test_nothing_written_leaves_nothing_behind(self, form, tmp_path):
        with pytest.raises(DataError, match=r"bad\.png: damaged"):
            written(tmp_path, form, [Entry("bad", Refused("bad.png: damaged."))])
        assert not list(tmp_path.iterdir())

    def test_predicted_masks_stand_in_for_the_truth(self, form, tmp_path):
        predicted = np.zeros((48, 60), np.uint8)
        predicted[30:40, 40:55] = 2
        (tmp_path / "predicted").mkdir()
        (tmp_path / "predicted" / "b__c_mask.png").write_bytes(encode_png(predicted))
        out, count, _ = written(tmp_path, form, masks=tmp_path / "predicted")
        assert count == 1
        np.testing.assert_array_equal(read_back(out)["b__c"].mask, predicted)

    def test_a_predicted_mask_of_another_size_is_refused(self, form, tmp_path):
        (tmp_path / "a_mask.png").write_bytes(encode_png(np.zeros((5, 5), np.uint8)))
        with pytest.raises(DataError, match=r"a_mask\.png: the mask is 5 × 5"):
            written(tmp_path, form, masks=tmp_path)

    def test_a_folder_of_something_else_is_never_replaced(self, form, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("years of work")
        with pytest.raises(OutputError, match="not empty"):
            written(tmp_path, form)
        with pytest.raises(OutputError, match=r"only replaces a folder that holds data_set\.toml"):
            written(tmp_path, form, overwrite=True)


def test_a_coco_file_has_what_its_tools_look_for(tmp_path):
    from pycocotools.coco import COCO

    out, *_ = written(tmp_path, "coco")
    data = COCO(str(out / "annotations.json"))
    assert [data.cats[index]["name"] for index in sorted(data.cats)] == ["organ", "lesion"]
    for annotation in data.anns.values():
        drawn = data.annToMask(annotation)
        rows, columns = np.nonzero(drawn)
        left, top, width, height = annotation["bbox"]
        assert abs(int(drawn.sum()) - annotation["area"]) <= 2 * (width + height)
        assert abs(columns.min() - left) <= 1
        assert abs(rows.max() - (top + height - 1)) <= 1


def test_a_labelme_file_has_its_shapes_beside_the_image(tmp_path):
    out, *_ = written(tmp_path, "labelme")
    content = json.loads((out / "b__c.json").read_text())
    assert content["flags"] == {"benign": False, "malignant": True, "normal": False}
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"]) == ("b__c.png", 48, 60)
    assert {shape["label"] for shape in content["shapes"]} == {"organ", "lesion"}
    assert all(shape["shape_type"] == "polygon" for shape in content["shapes"])


@pytest.mark.parametrize("form", WRITERS)
def test_no_mask_and_an_empty_mask_stay_two_things(form, tmp_path):
    empty = Sample("b", SAMPLES[0].image, np.zeros((48, 60), np.uint8), "normal", "p")
    entries = [*ENTRIES[::2], Entry("b", Given(empty))]
    out, *_ = written(tmp_path, form, entries)
    found = read_back(out)
    assert found["unseen"].mask is None
    assert found["b"].mask is not None and not found["b"].mask.any()
    assert "annotated" not in found["b"].attributes


def test_every_writer_can_be_asked_for():
    said = "`WRITERS` of data/annotations/__init__.py and `AnnotationFormat` of choices.py name different forms"
    assert set(WRITERS) == set(get_args(AnnotationFormat)), said
