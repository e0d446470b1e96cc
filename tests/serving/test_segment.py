"""What is said of one image: the run's own mask, sizes worked out by hand, outlines, and a diagnosis."""

import base64
import json
from types import SimpleNamespace

import numpy as np
import pytest

from tests.classifiers import FINE_TUNING, trained
from tests.data.readers_clips.making import data_set, grey_picture, region, save
from tests.serving.conftest import Client
from tests.serving.test_rest import refused
from ustoolkit.data.annotations.labelme import Writer
from ustoolkit.data.image_files import decode_png, encode_png
from ustoolkit.data.sample import Sample
from ustoolkit.data.shapes import Shape, rasterize
from ustoolkit.export.exports import export_runs
from ustoolkit.serving.answers import describe
from ustoolkit.serving.app import Server
from ustoolkit.serving.served_model import ServedModel
from ustoolkit.serving.settings import ServerSettings
from ustoolkit.serving.uploads import Upload

KEYS = {
    *("model", "width", "height", "spacing_mm", "lesion_found", "image_png", "mask_png", "probability_png", "contours"),
    *("measurements", "diagnosis", "labelme", "warnings", "notice", "milliseconds"),
}


def picture(content):
    return decode_png(base64.b64decode(content))


def described(mask, spacing=None, classes=("background", "lesion"), classifier=None, **outputs):
    """What is said of a drawn mask."""
    made = SimpleNamespace(name="m", version="1", task="t", classes=list(classes), metadata={"notice": "n"})
    if classifier:
        made.metadata["classifier"] = classifier
    channels = 1 if len(classes) == 2 else len(classes)
    probability = np.repeat(0.8 * (mask[..., np.newaxis] > 0), channels, -1).astype(np.float32)
    found = {"mask": mask[np.newaxis], "probability": probability[np.newaxis], **outputs}
    return describe(made, Upload(np.zeros((*mask.shape, 1), np.uint8), spacing), found)


def block(rows, columns, shape=(30, 40), value=1):
    mask = np.zeros(shape, np.uint8)
    mask[slice(*rows), slice(*columns)] = value
    return mask


def test_an_image_is_answered_as_the_run_sees_it(client, images, expected):
    for image, (probability, mask, certain) in zip(images, expected, strict=True):
        answer = client.post("/segment?spacing_mm=0.2,0.1", content=encode_png(image))
        assert answer.status_code == 200, answer.text
        content = answer.json()
        assert set(content) == KEYS
        assert content["model"] == {"name": "tiny", "version": "3", "task": "segmentation"}
        assert (content["height"], content["width"]) == image.shape[:2] and content["spacing_mm"] == [0.2, 0.1]
        np.testing.assert_array_equal(picture(content["image_png"]), image[..., 0])
        found = picture(content["mask_png"])
        np.testing.assert_array_equal(found[certain], 255 * mask[certain])
        np.testing.assert_allclose(picture(content["probability_png"]), 255 * probability[..., 0], atol=0.51)
        assert content["lesion_found"] == found.any()
        assert content["measurements"]["area_pixels"] == np.count_nonzero(found)
        assert content["diagnosis"] is None and "no medical device" in content["notice"]


def test_sizes_are_those_worked_out_by_hand():
    content = described(block((10, 14), (5, 25)), spacing=(0.5, 0.1))
    size = content["measurements"]
    # 20 pixels wide and 4 high; its outline runs through the middles of the outermost edges.
    assert size["area_pixels"] == 80 and size["area_mm2"] == pytest.approx(80 * 0.05)
    assert size["long_diameter_pixels"] == pytest.approx(np.hypot(20, 3))
    assert size["short_diameter_pixels"] < 5
    assert size["long_diameter_mm"] == pytest.approx(np.hypot(19 * 0.1, 4 * 0.5)), "in mm it is higher than wide"
    (x0, y0), (x1, y1) = size["long_ends"]
    assert np.hypot(0.1 * (x1 - x0), 0.5 * (y1 - y0)) == pytest.approx(size["long_diameter_mm"])
    (x0, y0), (x1, y1) = size["short_ends"]
    assert np.hypot(0.1 * (x1 - x0), 0.5 * (y1 - y0)) == pytest.approx(size["short_diameter_mm"])
    assert all(4 <= x <= 25 and 9 <= y <= 14 for x, y in size["long_ends"] + size["short_ends"])


def test_without_spacing_there_are_no_millimetres():
    content = described(block((10, 14), (5, 25)))
    assert content["spacing_mm"] is None and "spacing_mm" in content["warnings"][0]
    assert [name for name, value in content["measurements"].items() if value is None] == [
        *("area_mm2", "long_diameter_mm", "short_diameter_mm")
    ]


def test_of_several_regions_the_largest_is_measured():
    content = described(block((2, 4), (2, 4)) | block((10, 14), (5, 25)), spacing=(1, 1))
    assert content["measurements"]["area_pixels"] == 80 and "largest" in content["warnings"][0]
    assert len(content["contours"]) == 2


def test_contours_fill_the_mask_again():
    mask = block((3, 9), (3, 12)) | block((12, 25), (15, 33), value=2)
    content = described(mask, spacing=(1, 1), classes=("background", "cyst", "tumour"))
    filled = np.zeros_like(mask)
    for contour in content["contours"]:
        shape = Shape("", "", "polygon", tuple(map(tuple, contour["points"])))
        filled[rasterize(shape, *mask.shape)] = ("background", "cyst", "tumour").index(contour["class"])
    np.testing.assert_array_equal(filled, mask)
    np.testing.assert_array_equal(picture(content["mask_png"]), mask)
    assert content["probability_png"] is None


def test_labelme_is_what_the_annotation_writer_writes(tmp_path):
    mask = block((3, 9), (3, 12))
    content = described(mask)["labelme"]
    Writer(tmp_path, ["background", "lesion"], []).add("image", Sample("image", mask[..., np.newaxis], mask, "", ""))
    written = json.loads((tmp_path / "image.json").read_text())
    assert content == {key: value for key, value in written.items() if key not in ("patient_id", "annotated")}


def test_nothing_found():
    content = described(block((0, 0), (0, 0)), spacing=(1, 1))
    assert content["lesion_found"] is False and content["contours"] == [] and content["measurements"] is None
    assert content["labelme"]["shapes"] == [] and not picture(content["mask_png"]).any()


CLASSIFIER = {"labels": ["benign", "malignant"], "positive": "malignant", "threshold": 0.4, "temperature": 1.5}


def test_a_diagnosis_and_none_without_a_lesion():
    share = np.array([[0.25, 0.75]], np.float32)
    outputs = {"label_probability": share, "decision": np.array([b"malignant"], object)}
    diagnosis = described(block((3, 9), (3, 12)), classifier=CLASSIFIER, **outputs)["diagnosis"]
    note = diagnosis.pop("note")
    assert "1.50" in note and "share of labels" in note
    assert diagnosis == {
        "labels": ["benign", "malignant"],
        "label_probability": [0.25, 0.75],
        "positive": "malignant",
        "threshold": 0.4,
        "decision": "malignant",
    }
    outputs = {"label_probability": share * np.nan, "decision": np.array([b""], object)}
    content = described(block((0, 0), (0, 0)), classifier=CLASSIFIER, **outputs)
    assert content["diagnosis"] is None and "no diagnosis" in content["warnings"][-1]


def test_dicom_brings_its_spacing_and_an_address_can_correct_it(client, tmp_path):
    regions = [region((0, 0, 20, 16), delta=(0.02, 0.03))]
    path = save(data_set(pixels=grey_picture(), SequenceOfUltrasoundRegions=regions), tmp_path / "a.dcm")
    headers = {"Content-Type": "application/dicom"}
    content = client.post("/segment", content=path.read_bytes(), headers=headers).json()
    assert content["spacing_mm"] == pytest.approx([0.3, 0.2])
    np.testing.assert_array_equal(picture(content["image_png"]), grey_picture())
    corrected = client.post("/segment?spacing_mm=0.5", content=path.read_bytes(), headers=headers).json()
    assert corrected["spacing_mm"] == [0.5, 0.5]
    assert corrected["measurements"]["area_mm2"] == pytest.approx(0.25 * corrected["measurements"]["area_pixels"])


def test_what_is_no_image_is_refused(client, png):
    refused(client.post("/segment", content=b""), 400, "found none")
    refused(client.post("/segment", content=b"text"), 415, "PNG, JPEG, BMP, TIFF")
    refused(client.post("/segment", content=png[: len(png) // 2]), 400, "cut short")
    refused(client.post("/segment", content=encode_png(np.zeros((600, 500), np.uint8))), 413, "500 × 600")
    refused(client.post("/segment", content=b"a" * 1_000_001), 413, "1,000,000 bytes")
    refused(client.post("/segment", json={}), 415, "octet-stream")
    refused(client.post("/segment", files={"file": png}), 415, "not as a form")
    refused(client.post("/segment?spacing_mm=0", content=png), 400, "spacing_mm")
    refused(client.post("/segment?threshold=0.3", content=png), 400, "no parameter but spacing_mm")
    refused(client.post("/segment?spacing_mm=1&spacing_mm=2", content=png), 400, "once")
    refused(client.get("/segment"), 405)


def test_images_at_once_are_answered_as_if_alone(client, images, png):
    sent = [*(encode_png(image) for image in images), png[:100], b"no image"] * 2
    together = client.together(*(("POST", "/segment", {"content": each}) for each in sent))
    for content, answer in zip(sent, together, strict=True):
        alone = client.post("/segment", content=content)
        first, second = alone.json(), answer.json()
        assert alone.status_code == answer.status_code
        assert {**first, "milliseconds": 0} == {**second, "milliseconds": 0}


@pytest.mark.slow
def test_a_real_classifier_is_asked(served_run, labelled_records, images, tmp_path):
    classifier = trained(labelled_records, FINE_TUNING)
    model = ServedModel(export_runs([served_run], tmp_path / "both", classifier=classifier))
    server = Server(model, ServerSettings(tmp_path))
    content = Client(server.gate).post("/segment?spacing_mm=0.1", content=encode_png(images[0])).json()
    server.close()
    assert content["model"]["task"] == "diagnosis"
    diagnosis, size = content["diagnosis"], content["measurements"]
    assert sum(diagnosis["label_probability"]) == pytest.approx(1) and diagnosis["decision"] in diagnosis["labels"]
    told = model.call("with_spacing", {"images": images[:1], "spacing_mm": np.full((1, 2), 0.1, np.float32)})
    for name in ("area_pixels", "area_mm2", "long_diameter_mm", "short_diameter_mm", "long_diameter_pixels"):
        assert size[name] == pytest.approx(float(told[name][0]), rel=1e-4), name
