"""The export: what it takes, that it equals prediction, and who can load it."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.conftest import TINY
from tests.models.networks import randomized
from ustoolkit.data.image_files import encode_png
from ustoolkit.data.records import Records
from ustoolkit.errors import OutputError, RunError
from ustoolkit.export.exports import ExportSettings, export_runs
from ustoolkit.inference.postprocess import to_mask
from ustoolkit.inference.run_segmenter import RunSegmenter
from ustoolkit.inference.segmenter import load_segmenter
from ustoolkit.models import build_model
from ustoolkit.recipe import load_recipe
from ustoolkit.recipe.settings import InferenceSettings
from ustoolkit.training.start import start_run


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
    return export_runs([trained_run], tmp_path_factory.mktemp("export") / "model")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    shapes = [(64, 64, 1), (50, 90, 3), (33, 20, 1), (64, 64, 3)]
    return [rng.integers(0, 255, shape, np.uint8) for shape in shapes]


def test_any_size_in_the_same_probability_out(trained_run, exported, images):
    ours = RunSegmenter(trained_run).probabilities(images)
    theirs = load_segmenter(exported).probabilities(images)
    for image, expected, found in zip(images, ours, theirs, strict=True):
        assert found.shape == (*image.shape[:2], 1)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_batch_of_one_size(exported):
    images = np.random.default_rng(1).integers(0, 255, (3, 40, 70, 1), np.uint8)
    outputs = tf.saved_model.load(str(exported)).signatures["serving_default"](images=tf.constant(images))
    assert outputs["mask"].shape == (3, 40, 70) and outputs["mask"].dtype == tf.uint8
    for mask, probability in zip(outputs["mask"], outputs["probability"], strict=True):
        np.testing.assert_array_equal(mask, to_mask(probability.numpy(), InferenceSettings()))
    np.testing.assert_array_equal(outputs["area_pixels"], np.count_nonzero(outputs["mask"], axis=(1, 2)))
    np.testing.assert_allclose(tf.sigmoid(outputs["logits"]), outputs["probability"], atol=1e-6)


def test_encoded_images_of_different_sizes(trained_run, exported, images):
    call = tf.saved_model.load(str(exported)).signatures["image_bytes"]
    outputs = call(image_bytes=tf.constant([encode_png(image) for image in images]))
    expected = RunSegmenter(trained_run).probabilities(images)
    np.testing.assert_array_equal(outputs["size"], [image.shape[:2] for image in images])
    for number, (image, probability) in enumerate(zip(images, expected, strict=True)):
        height, width = image.shape[:2]
        np.testing.assert_allclose(outputs["probability"][number, :height, :width], probability, atol=1e-5)
        assert not outputs["probability"][number, height:].numpy().any()


def test_a_jpeg_is_taken_too(exported, tmp_path):
    Image.fromarray(np.random.default_rng(2).integers(0, 255, (30, 44), np.uint8)).save(tmp_path / "a.jpg")
    call = tf.saved_model.load(str(exported)).signatures["image_bytes"]
    outputs = call(image_bytes=tf.constant([(tmp_path / "a.jpg").read_bytes()]))
    assert outputs["probability"].shape == (1, 30, 44, 1)


def test_keras_3_loads_it(exported, images):
    import keras

    layer = keras.layers.TFSMLayer(str(exported), call_endpoint="serving_default")
    outputs = layer(images[0][np.newaxis])
    expected = next(load_segmenter(exported).probabilities(images[:1]))
    np.testing.assert_allclose(outputs["probability"][0], expected, atol=1e-6)


def as_if_trained(records, folder, *settings):
    """A run with weights as training might leave them."""
    run = start_run(load_recipe("demo", [*TINY, *settings]), records, folder)
    randomized(build_model(run.recipe, len(run.classes))).save_weights(run.best_weights)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("settings", [("data.keep_aspect=true",), ("data.channels=3",)])
def test_other_inputs_agree_too(records, tmp_path, images, settings):
    run = as_if_trained(records, tmp_path / "run", *settings)
    exported = load_segmenter(export_runs([run], tmp_path / "model"))
    for expected, found in zip(RunSegmenter(run).probabilities(images), exported.probabilities(images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_three_classes_end_in_a_softmax(records, tmp_path, images):
    three = Records(records.folder)
    three.manifest = {**three.manifest, "classes": ["background", "lesion", "cyst"]}
    run = as_if_trained(three, tmp_path / "run")
    exported = load_segmenter(export_runs([run], tmp_path / "model"))
    for expected, found in zip(RunSegmenter(run).probabilities(images), exported.probabilities(images), strict=True):
        assert found.shape[-1] == 3
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-4)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_a_tuned_threshold_is_what_is_exported(trained_run, images, tmp_path):
    import shutil

    from ustoolkit.files import read_json
    from ustoolkit.run import Run

    run = Run(shutil.copytree(trained_run.folder, tmp_path / "run"))
    image = images[0]
    threshold = round(float(np.median(next(RunSegmenter(run).probabilities([image])))), 4)
    assert threshold != 0.5
    run.keep_tuned("threshold", {"threshold": threshold, "crf": {"position_deviation": 21.0}}, {"images": 5})
    folder = export_runs([run], tmp_path / "model")
    model = tf.saved_model.load(str(folder))
    outputs = model.signatures["serving_default"](images=tf.constant(image[np.newaxis]))
    mask = outputs["mask"].numpy()
    np.testing.assert_array_equal(mask, outputs["probability"].numpy()[..., 0] >= np.float32(threshold))
    assert 0.2 < mask.mean() < 0.8
    of_bytes = model.signatures["image_bytes"](image_bytes=tf.constant([encode_png(image)]))
    np.testing.assert_array_equal(of_bytes["mask"], mask)
    assert load_segmenter(folder).inference == RunSegmenter(run).inference == run.inference
    assert read_json(folder / "metadata.json", RunError, "")["inference"]["threshold"] == threshold


def test_an_old_export_is_replaced_only_when_told(trained_run, exported, tmp_path):
    with pytest.raises(OutputError, match="--overwrite"):
        export_runs([trained_run], exported.parent)
    foreign = tmp_path / "7"
    foreign.mkdir()
    (foreign / "holiday.txt").write_text("dear")
    with pytest.raises(OutputError, match=r"metadata\.json"):
        export_runs([trained_run], foreign.parent, ExportSettings(name="photos", version=7), overwrite=True)
    assert (foreign / "holiday.txt").read_text() == "dear"


def test_a_damaged_export_is_refused(exported, tmp_path):
    import shutil

    copy = tmp_path / "model"
    shutil.copytree(exported, copy)
    (copy / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(RunError, match="damaged"):
        load_segmenter(copy)
    (copy / "metadata.json").unlink()
    with pytest.raises(RunError, match=r"metadata\.json"):
        load_segmenter(copy)
