"""The export of segmenter and classifier: that it says what `diagnose` says, and what cannot be exported."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tests.classifiers import BOTTLENECK, FINE_TUNING, MEASURES, trained
from ustoolkit.data.image_files import decode_png, encode_png
from ustoolkit.data.sample import Sample
from ustoolkit.errors import OutputError, RunError
from ustoolkit.export.exports import ExportSettings, export_runs
from ustoolkit.files import read_json
from ustoolkit.inference.classifier import RunClassifier, decision_of
from ustoolkit.inference.diagnosis import Diagnostician
from ustoolkit.inference.run_segmenter import RunSegmenter
from ustoolkit.run import Run

KINDS = {
    "plain": ((), {"fill_holes": True}),
    "mask channel": (
        ("classification.region.mask_channel=true", "data.keep_aspect=true"),
        {"opening_radius_pixels": 1, "smallest_region_pixels": 5},
    ),
}


@pytest.fixture(scope="module")
def images(labelled_records):
    """Phantoms as they are, in colour, of another size, and an empty picture."""
    samples = list(labelled_records.read())[:10]
    wide = samples[1].image[5:50]
    return [
        *(sample.image for sample in samples),
        np.repeat(samples[0].image, 3, axis=2),
        wide,
        np.zeros((33, 47, 1), np.uint8),
    ]


def tuned(trained_run, folder, images, **changes):
    """The segmenter, with a threshold at which it finds a lesion in half of the images."""
    run = Run(shutil.copytree(trained_run.folder, folder))
    highest = [found.max() for found in RunSegmenter(run).probabilities(images)]
    run.keep_tuned("threshold", {"threshold": round(float(np.median(highest)), 6), **changes}, {})
    return run


def diagnosed(classifier, segmenter, images):
    """What `diagnose` finds."""
    from ustoolkit.data.sample import Sample

    samples = [Sample(str(number), image, None, "", str(number)) for number, image in enumerate(images)]
    return Diagnostician(RunSegmenter(segmenter), [RunClassifier(classifier)])(samples)


@pytest.fixture(scope="module")
def exported(trained_run, labelled_records, images, tmp_path_factory):
    """Exports by kind, each made once: classifier, segmenter and folder."""
    folder, made = tmp_path_factory.mktemp("exports"), {}

    def of(kind):
        if kind not in made:
            settings, inference = KINDS[kind]
            classifier = trained(labelled_records, FINE_TUNING, *settings)
            segmenter = tuned(trained_run, folder / f"{kind}-segmenter", images, **inference)
            exported = export_runs([segmenter], folder / kind, ExportSettings(name="both"), classifier)
            made[kind] = classifier, segmenter, exported
        return made[kind]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "mask channel"])
def test_it_says_what_diagnose_says(exported, images, kind):
    classifier, segmenter, folder = exported(kind)
    call = tf.saved_model.load(str(folder)).signatures["serving_default"]
    expected = diagnosed(classifier, segmenter, images)
    assert 0 < sum(one.probability is not None for one in expected) < len(images)
    for image, diagnosis in zip(images, expected, strict=True):
        found = {name: output.numpy()[0] for name, output in call(images=tf.constant(image[np.newaxis])).items()}
        np.testing.assert_array_equal(found["mask"], diagnosis.mask)
        assert found["probability"].shape == (*image.shape[:2], 1)
        assert found["area_pixels"] == diagnosis.mask.sum()
        if diagnosis.probability is None:
            assert not found["lesion_found"] and found["decision"] == b""
            assert np.isnan(found["label_probability"]).all() and np.isnan(found["long_diameter_pixels"])
            continue
        assert found["lesion_found"]
        assert found["label_probability"][-1] == pytest.approx(diagnosis.probability, abs=1e-4)
        assert found["label_probability"].sum() == pytest.approx(1, abs=1e-5)
        assert found["decision"].decode() == diagnosis.decision
        assert found["long_diameter_pixels"] == pytest.approx(diagnosis.size_pixels.long_diameter, rel=1e-5)
        assert found["short_diameter_pixels"] == pytest.approx(diagnosis.size_pixels.short_diameter, rel=1e-5)


def test_all_signatures_agree_and_measure_in_mm(exported, images):
    classifier, segmenter, folder = exported("plain")
    call = tf.saved_model.load(str(folder)).signatures
    spacing = np.array([[0.2, 0.1], [0, 0]] * (len(images) // 2 + 1), np.float32)[: len(images)]
    files = tf.constant([encode_png(image) for image in images])
    compact = call["compact"](image_bytes=files, spacing_mm=tf.constant(spacing))
    of_files = call["image_bytes"](image_bytes=files)
    samples = [Sample(str(number), image, None, "", "", tuple(spacing[number])) for number, image in enumerate(images)]
    diagnostician = Diagnostician(RunSegmenter(segmenter), [RunClassifier(classifier)])
    for number, sample in enumerate(samples):
        height, width = sample.image.shape[:2]
        with_spacing = call["with_spacing"](
            images=tf.constant(sample.image[np.newaxis]), spacing_mm=tf.constant(spacing[number : number + 1])
        )
        known = spacing[number].all()
        expected = diagnostician([replace(sample, spacing_mm=sample.spacing_mm if known else None)])[0]
        np.testing.assert_array_equal(of_files["mask"][number, :height, :width], expected.mask)
        np.testing.assert_array_equal(decode_png(compact["mask_bytes"][number].numpy()), expected.mask * 255)
        for name, unit in (("long_diameter", "mm"), ("short_diameter", "mm"), ("area", "mm2")):
            size = getattr(expected.size_mm, name) if expected.size_mm else np.nan
            for found in (with_spacing[f"{name}_{unit}"][0], compact[f"{name}_{unit}"][number]):
                if known and name == "area" and not expected.mask.any():
                    assert found == 0
                else:
                    np.testing.assert_allclose(found, size, rtol=1e-4)
        decision = compact["decision"][number].numpy().decode()
        assert decision == of_files["decision"][number].numpy().decode() == (expected.decision or "")


def test_metadata_says_how_to_read_the_outputs(exported):
    classifier, segmenter, folder = exported("plain")
    metadata, decision = read_json(folder / "metadata.json", RunError, ""), decision_of(classifier.folder)
    about = metadata["classifier"]
    assert about["labels"] == ["benign", "malignant"] and about["positive"] == "malignant"
    assert (about["temperature"], about["threshold"]) == (decision.temperature, decision.threshold)
    assert metadata["task"] == "diagnosis" and "no medical device" in metadata["notice"]
    outputs = metadata["signatures"]["compact"]["outputs"]
    assert (
        outputs["label_probability"]["shape"] == [None, 2] and "calibrated" in outputs["label_probability"]["meaning"]
    )
    card = (folder / "model_card.md").read_text()
    assert "benign or malignant" in card and f"{decision.temperature:.3f}" in card
    with pytest.raises(OutputError, match="--overwrite"):
        export_runs([segmenter], folder.parent, classifier=classifier)


@pytest.mark.parametrize("form", [MEASURES, BOTTLENECK], ids=["measurements", "bottleneck"])
def test_classifiers_of_scikit_learn_are_refused(trained_run, labelled_records, tmp_path, form):
    with pytest.raises(RunError, match=r"fine-tuned.*fine_tuning"):
        export_runs([trained_run], tmp_path / "model", classifier=trained(labelled_records, form))
    assert not (tmp_path / "model").exists()


def test_runs_in_each_others_place_are_refused(trained_run, labelled_records, tmp_path):
    classifier = trained(labelled_records, FINE_TUNING)
    with pytest.raises(RunError, match="which segments"):
        export_runs([trained_run], tmp_path / "model", classifier=trained_run)
    with pytest.raises(RunError, match="found one that classifies"):
        export_runs([classifier], tmp_path / "model", classifier=classifier)
