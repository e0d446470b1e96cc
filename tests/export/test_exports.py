"""A version folder: ensembles, flips, records as input, what is measured, and what is refused before and after."""

import json
import shutil
import zipfile
from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import TINY
from tests.models.networks import randomized
from ustoolkit.choices import ExportFormat
from ustoolkit.cli import main
from ustoolkit.data.example import sample_to_features
from ustoolkit.data.records import Records
from ustoolkit.data.tfrecord import encode_example
from ustoolkit.errors import RecordsError, RunError
from ustoolkit.export.exports import ExportSettings, export_runs
from ustoolkit.export.formats import FORMATS
from ustoolkit.export.parity import measure_parity
from ustoolkit.files import read_json, write_json
from ustoolkit.inference.run_segmenter import RunSegmenter
from ustoolkit.inference.segmenter import load_segmenter, newest_version
from ustoolkit.models import build_model
from ustoolkit.recipe import load_recipe
from ustoolkit.run import Run
from ustoolkit.training.start import start_run


@pytest.fixture(scope="module")
def other_run(records, tmp_path_factory):
    """Another network for images of another size, with weights as training might leave them."""
    settings = (*TINY, "data.image_size=[48,32]")
    run = start_run(load_recipe("demo", settings), records, tmp_path_factory.mktemp("other") / "run")
    randomized(build_model(run.recipe, len(run.classes))).save_weights(run.best_weights)
    return run


@pytest.fixture(scope="module")
def ensemble(trained_run, other_run, tmp_path_factory):
    """Two networks, each image mirrored, as version 3."""
    settings = ExportSettings(name="both", version=3, flips="horizontal")
    return export_runs([trained_run, other_run], tmp_path_factory.mktemp("ensemble") / "model", settings)


@pytest.fixture(scope="module")
def images(records):
    samples = list(records.read())[:3]
    return [samples[0].image, samples[1].image[3:50], np.repeat(samples[2].image[:, 7:], 3, axis=2)]


def test_an_ensemble_with_flips_is_the_mean_of_all(ensemble, trained_run, other_run, images):
    members = [RunSegmenter(run) for run in (trained_run, other_run)]
    for image, found in zip(images, load_segmenter(ensemble.parent).probabilities(images), strict=True):
        views = [next(member.probabilities([image])) for member in members]
        views += [next(member.probabilities([np.ascontiguousarray(image[:, ::-1])]))[:, ::-1] for member in members]
        np.testing.assert_allclose(found, np.mean(views, axis=0), atol=1e-4)
    described = read_json(ensemble / "metadata.json", RunError, "")
    assert [run["recipe"] for run in described["segmenters"]] == ["demo", "demo"]
    assert described["inference"]["flips"] == "horizontal" and len(described["preprocessing"]) == 2


@pytest.mark.slow
def test_flips_average_mirrored_images(trained_run, images, tmp_path):
    one = RunSegmenter(trained_run)
    folder = export_runs([trained_run], tmp_path / "model", ExportSettings(flips="both"))
    for image, found in zip(images, load_segmenter(folder).probabilities(images), strict=True):
        turned = {(1, 1): image, (1, -1): image[:, ::-1], (-1, 1): image[::-1], (-1, -1): image[::-1, ::-1]}
        views = [
            next(one.probabilities([np.ascontiguousarray(view)]))[::down, ::across]
            for (down, across), view in turned.items()
        ]
        np.testing.assert_allclose(found, np.mean(views, axis=0), atol=1e-4)


def test_records_are_segmented_as_they_are_with_their_spacing(ensemble, records):
    samples = list(records.read())[:4]
    examples = [encode_example(sample_to_features(sample, {})) for sample in samples]
    without = sample_to_features(samples[0], {})
    without["image/spacing_mm"] = []
    outputs = tf.saved_model.load(str(ensemble)).signatures["tf_example"](
        examples=tf.constant([*examples, encode_example(without)])
    )
    expected = list(load_segmenter(ensemble).probabilities(sample.image for sample in samples))
    for number, (sample, probability) in enumerate(zip(samples, expected, strict=True)):
        np.testing.assert_allclose(outputs["probability"][number], probability, atol=1e-5)
        assert sample.spacing_mm is not None
        area = outputs["area_pixels"][number] * np.prod(sample.spacing_mm)
        np.testing.assert_allclose(outputs["area_mm2"][number], area, rtol=1e-5)
    assert np.isnan(outputs["area_mm2"][4]) and outputs["area_pixels"][4] == outputs["area_pixels"][0]


def test_the_newest_version_is_taken(ensemble, tmp_path):
    copy = tmp_path / "model"
    for version in ("2", "10", "9"):
        shutil.copytree(ensemble, copy / version)
    (copy / "11").mkdir()
    (copy / "notes").mkdir()
    assert newest_version(copy) == copy / "10" and newest_version(copy / "9") == copy / "9"
    assert newest_version(tmp_path) is None and newest_version(tmp_path / "nothing") is None


def test_a_graph_that_touches_files_is_refused_before_it_is_loaded(ensemble, tmp_path):
    class Spy(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, None], tf.uint8, name="images")])
        def look(self, images):
            tf.io.write_file(str(tmp_path / "marker"), "seen")
            return {"probability": tf.cast(images, tf.float32)}

    folder = tmp_path / "model"
    spy = Spy()
    tf.saved_model.save(spy, str(folder), signatures={"serving_default": spy.look.get_concrete_function()})
    shutil.copy(ensemble / "metadata.json", folder)
    with pytest.raises(RunError, match=r"computes only, found the operation WriteFile"):
        load_segmenter(folder)
    assert not (tmp_path / "marker").exists()


def test_the_card_says_what_a_reader_needs(trained_run, tmp_path):
    run = Run(shutil.copytree(trained_run.folder, tmp_path / "run"))
    dice = {"mean": 0.8125, "interval_low": 0.75, "interval_high": 0.875}
    table = {"images": 7, "patients": 5, "classes": {"lesion": {"dice": dice, "iou": dice}}}
    write_json(run.evaluation("test") / "metrics.json", table)
    folder = export_runs([run], tmp_path / "model", ExportSettings(name="breast-lesions", version=2))
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    assert card.startswith("# breast-lesions, version 2\n\n**Research software and no medical device")
    assert "0.812 (0.750 to 0.875)" in card and run.manifest["digest"][:12] in card
    for said in ("Intended use", "Limits", "lesion from a probability of 0.5 on", "`with_spacing`", "tensorflow 2"):
        assert said in card
    assert [line.count("|") for line in card.splitlines() if line.startswith("| `with")] == [4]


def test_agreement_is_counted():
    class Constant:
        classes = ("background", "lesion")

        def __init__(self, value, inference):
            self.value, self.inference = value, inference

        def probabilities(self, images):
            for image in images:
                yield np.full((*image.shape[:2], 1), self.value, np.float32)

    from ustoolkit.data.sample import Sample
    from ustoolkit.recipe.settings import InferenceSettings

    inference = InferenceSettings()
    image, mask = np.zeros((4, 5, 1), np.uint8), np.zeros((4, 5), np.uint8)
    mask[:2] = 1
    samples = [Sample("a", image, mask, "", "a"), Sample("b", image, mask * 0, "", "b")]
    parity = measure_parity(Constant(0.75, inference), Constant(0.25, inference), samples)
    # With the lesion in half of the image 2/3 and 0; without one 0 for the mask of everything, and 1 for the empty one.
    assert (parity.images, parity.dice_before, parity.dice) == (2, pytest.approx(1 / 3), 0.5)
    assert parity.dice_loss == pytest.approx(-1 / 6) and parity.largest_difference == 0.5
    assert (parity.pixels_decided_otherwise, parity.beyond_rounding) == (1, 40)
    nothing = measure_parity(Constant(0.25, inference), Constant(0.125, inference), samples[1:])
    assert np.isnan(nothing.dice_loss)
    with pytest.raises(RunError, match="no numbers"):
        measure_parity(Constant(0.25, inference), Constant(float("nan"), inference), samples)
    near = measure_parity(Constant(0.50005, inference), Constant(0.49999, inference), samples)
    assert near.pixels_decided_otherwise == 1 and near.beyond_rounding == 0


def test_other_records_and_names_are_refused(trained_run, records, tmp_path):
    others = Records(records.folder)
    others.manifest = {**others.manifest, "digest": "0" * 64}
    int8 = ExportSettings(formats=("litert-int8",))
    for given in (None, others):
        with pytest.raises(RecordsError, match="--records"):
            export_runs([trained_run], tmp_path / "model", int8, records=given)
    assert not (tmp_path / "model").exists()
    three = start_run(load_recipe("demo", TINY), records, tmp_path / "three")
    content = read_json(three.folder / "manifest.json", RunError, "")
    write_json(three.folder / "manifest.json", {**content, "classes": ["background", "lesion", "cyst"]})
    with pytest.raises(RunError, match="Name runs of one data set"):
        export_runs([trained_run, three], tmp_path / "model")


def test_what_loses_too_much_is_refused_or_written_with_a_warning(trained_run, records, tmp_path):
    keras = ExportSettings(formats=("keras",), largest_dice_loss=-0.5)
    with pytest.raises(RunError, match=r"at most -0\.5 below the run's.*Nothing was written"):
        export_runs([trained_run], tmp_path / "model", keras, records=records)
    assert not (tmp_path / "model" / "1").exists()
    said = []
    folder = export_runs(
        [trained_run], tmp_path / "model", replace(keras, allow_dice_loss=True), None, records, say=said.append
    )
    assert len(said) == 1 and "Written nevertheless" in said[0]
    about = read_json(folder / "metadata.json", RunError, "")["formats"]["keras"]
    assert about["bytes"] == (folder / "model.keras").stat().st_size
    assert about["parity"]["images"] == len(trained_run.splits["validation"]) and about["parity"]["dice_loss"] == 0
    with zipfile.ZipFile(folder / "model.keras") as archive:
        inside = json.loads(archive.read("ustoolkit/metadata.json"))
        card = archive.read("ustoolkit/model_card.md").decode()
    assert inside["formats"]["keras"]["parity"] == about["parity"] and list(inside["signatures"]) == ["call"]
    assert "left to whoever calls model.keras: resizing" in card and "the validation part" in card


def test_an_ensemble_is_measured_on_images_that_no_member_saw_where_there_are_any(trained_run, other_run, records):
    from ustoolkit.export.measured_files import MeasuredImages

    own = trained_run.splits["validation"]
    assert [sample.source_id for sample in MeasuredImages([trained_run], records).validation()] == sorted(own)
    # Both were trained on the same split, so that the other one chose its epoch by these images.
    both = MeasuredImages([trained_run, other_run], records)
    assert "from which other runs of the ensemble learned" in both.part
    assert {sample.source_id for sample in both.validation()} == set(own)
    stranger = SimpleNamespace(trained_on={row.sha256 for row in records.index if row.source_id == own[0]})
    fewer = MeasuredImages([trained_run, stranger], records)
    assert "never saw" in fewer.part and {sample.source_id for sample in fewer.validation()} == set(own[1:])


def refused(capsys, *words):
    assert main([str(word) for word in words]) == 2
    message = capsys.readouterr().err
    assert message.startswith("ustoolkit: ") and "Traceback" not in message
    return message


def test_the_command(capsys, trained_run, tmp_path):
    run, out = trained_run.folder, tmp_path / "model"
    assert main(["export", str(run), "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["files"] == [str(out / "1" / "saved_model.pb")]
    assert sorted(path.name for path in (out / "1").iterdir() if path.is_file()) == [
        "fingerprint.pb",
        "metadata.json",
        "model_card.md",
        "saved_model.pb",
    ]
    assert "--overwrite" in refused(capsys, "export", run, "--out", out)
    assert "name of the model" in refused(capsys, "export", run, "--out", tmp_path / "ü", "--name", "a/../b")
    assert "1 or more" in refused(capsys, "export", run, "--out", tmp_path / "x", "--model-version", 0)
    assert not (tmp_path / "x").exists()
    with pytest.raises(SystemExit):
        main(["export", str(run), "--format", "onnxx"])
    assert "litert-int8" in capsys.readouterr().err


def test_the_command_offers_what_there_is():
    assert tuple(FORMATS) == get_args(ExportFormat)
