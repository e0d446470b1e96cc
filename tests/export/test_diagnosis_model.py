"""The export of segmenter and classifier: that it says what `diagnose` says, and what cannot be exported."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.classifiers import BOTTLENECK, FINE_TUNING, MEASURES, trained
from ustoolkit.errors import OutputError, RunError
from ustoolkit.export.diagnosis_model import export_diagnosis_model
from ustoolkit.files import read_json
from ustoolkit.inference.classifier import RunClassifier, decision_of
from ustoolkit.inference.diagnosis import Diagnostician
from ustoolkit.inference.segmenter import RunSegmenter
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
            made[kind] = classifier, segmenter, export_diagnosis_model(classifier, segmenter, folder / kind)
        return made[kind]

    return of


@pytest.mark.parametrize("kind", ["plain", pytest.param("mask channel", marks=pytest.mark.slow)])
def test_it_says_what_diagnose_says(exported, images, kind):
    classifier, segmenter, folder = exported(kind)
    call = tf.saved_model.load(str(folder)).signatures["serving_default"]
    expected = diagnosed(classifier, segmenter, images)
    assert 0 < sum(one.probability is not None for one in expected) < len(images)
    for image, diagnosis in zip(images, expected, strict=True):
        found = {name: output.numpy()[0] for name, output in call(images=tf.constant(image[np.newaxis])).items()}
        np.testing.assert_array_equal(found["mask"], diagnosis.mask)
        assert found["lesion_probability"].shape == image.shape[:2]
        assert found["area"] == diagnosis.mask.sum()
        if diagnosis.probability is None:
            assert not found["lesion_found"] and found["decision"] == -1
            assert np.isnan(found["probability"]).all() and np.isnan(found["long_diameter"])
            continue
        assert found["lesion_found"]
        assert found["probability"][-1] == pytest.approx(diagnosis.probability, abs=1e-4)
        assert found["probability"].sum() == pytest.approx(1, abs=1e-5)
        assert classifier.labels[found["decision"]] == diagnosis.decision
        assert found["long_diameter"] == pytest.approx(diagnosis.size_pixels.long_diameter, rel=1e-5)
        assert found["short_diameter"] == pytest.approx(diagnosis.size_pixels.short_diameter, rel=1e-5)


def test_metadata_says_how_to_read_the_outputs(exported):
    classifier, segmenter, folder = exported("plain")
    metadata, decision = read_json(folder / "metadata.json", RunError, ""), decision_of(classifier.folder)
    assert metadata["labels"] == ["benign", "malignant"] and metadata["positive"] == "malignant"
    assert (metadata["temperature"], metadata["threshold"]) == (decision.temperature, decision.threshold)
    assert "uint8" in metadata["input"] and "no medical device" in metadata["notice"]
    with pytest.raises(OutputError, match="--overwrite"):
        export_diagnosis_model(classifier, segmenter, folder)


@pytest.mark.parametrize("form", [MEASURES, BOTTLENECK], ids=["measurements", "bottleneck"])
def test_classifiers_of_scikit_learn_are_refused(trained_run, labelled_records, tmp_path, form):
    with pytest.raises(RunError, match=r"fine-tuned.*fine_tuning"):
        export_diagnosis_model(trained(labelled_records, form), trained_run, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_runs_in_each_others_place_are_refused(trained_run, labelled_records, tmp_path):
    classifier = trained(labelled_records, FINE_TUNING)
    with pytest.raises(RunError, match="which segments"):
        export_diagnosis_model(trained_run, trained_run, tmp_path / "model")
    with pytest.raises(RunError, match="which classifies"):
        export_diagnosis_model(classifier, classifier, tmp_path / "model")
