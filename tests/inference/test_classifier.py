"""A run classifies images as it did while it was trained, one by one or many, and says what it cannot do."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.classifiers import BOTTLENECK, FINE_TUNING, MEASURES, trained
from ustoolkit.data.labelled import read_labelled
from ustoolkit.data.lesions import known_lesions
from ustoolkit.errors import RunError
from ustoolkit.inference.classifier import RunClassifier
from ustoolkit.models.estimator import ChosenEstimator
from ustoolkit.models.load import load_model
from ustoolkit.run import Run

FORMS = {"fine_tuning": FINE_TUNING, "bottleneck": BOTTLENECK, "measures": MEASURES}


@pytest.fixture(scope="module", params=FORMS)
def run(request, labelled_records):
    return trained(labelled_records, FORMS[request.param])


def raw(run, samples):
    return RunClassifier(run).raw(samples, known_lesions(run.recipe.classification.region)(samples), len(samples))


def test_probabilities_are_rows_of_labels_and_an_image_alone_gets_the_same(labelled_records, run):
    samples = list(labelled_records.read())[:10]
    found = raw(run, samples)
    assert found.shape == (1, 10, 2)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-6)
    for place in (0, 9):
        np.testing.assert_allclose(raw(run, [samples[place]])[0, 0], found[0, place], atol=1e-5)
    np.testing.assert_array_equal(RunClassifier(run).combined(found), found[0])


def test_a_network_says_what_its_logits_say(labelled_records):
    run = trained(labelled_records, FINE_TUNING)
    names = run.splits["test"]
    find = known_lesions(run.recipe.classification.region)
    regions = read_labelled(labelled_records, names, run.labels, run.recipe, find)
    logits = load_model(run)(regions.pixels.astype(np.float32), training=False)
    expected = tf.sigmoid(logits)[:, 0]
    found = raw(run, list(labelled_records.read(names)))
    np.testing.assert_allclose(found[0, :, 1], expected, atol=1e-5)


def test_a_bottleneck_says_what_its_estimator_says_of_the_features_that_were_kept(labelled_records):
    run = trained(labelled_records, BOTTLENECK)
    kept = np.load(run.features("validation"))
    found = raw(run, list(labelled_records.read(kept["source_ids"].tolist())))
    expected = ChosenEstimator.load(run.estimator).probability(kept["features"])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_it_knows_its_split_and_what_it_saw(labelled_records, records, run):
    classifier = RunClassifier(run)
    assert classifier.splits_of(labelled_records.digest) == run.splits and classifier.splits_of(records.digest) is None
    seen = {*run.splits["train"], *run.splits["validation"]}
    assert classifier.trained_on == {row.sha256 for row in labelled_records.index if row.source_id in seen}
    assert classifier.labels == ["benign", "malignant"] and classifier.members == 1 and classifier.needs_lesion


def test_a_run_that_segments_and_one_that_is_not_finished_are_refused(labelled_records, trained_run, run, tmp_path):
    with pytest.raises(RunError, match=r"expected a run that classifies.*ustoolkit train lesion_features"):
        RunClassifier(trained_run)
    cut = Run(shutil.copytree(run.folder, tmp_path / "cut"))
    shutil.rmtree(cut.estimator, ignore_errors=True)
    cut.best_weights.unlink(missing_ok=True)
    with pytest.raises(RunError, match=r"[Tt]rain"):
        RunClassifier(cut)
