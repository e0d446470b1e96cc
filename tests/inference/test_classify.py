"""Scores of a classifier: of its own parts, of other records, by image and by patient; never of what was learned."""

import csv
import dataclasses

import numpy as np
import pytest

from tests.classifiers import BOTTLENECK, MEASURES, trained
from ustoolkit.data.leaks import groups
from ustoolkit.data.phantom import write_phantoms
from ustoolkit.data.readers import open_data_set
from ustoolkit.data.records import write_records
from ustoolkit.errors import RecordsError, RunError
from ustoolkit.evaluation.diagnosis_tables import read_probabilities
from ustoolkit.files import read_json
from ustoolkit.inference.classifier import RunClassifier, calibrated, decision_of
from ustoolkit.inference.classify import evaluate_classifier, lesion_finder
from ustoolkit.inference.segmenter import load_segmenters
from ustoolkit.recipe import DataSetSettings
from ustoolkit.recipe.classification import RegionSettings
from ustoolkit.report.diagnosis_plots import write_plots


@pytest.fixture(scope="module")
def classifier(labelled_records):
    return RunClassifier(trained(labelled_records, MEASURES))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Records of other phantoms."""
    folder, settings = tmp_path_factory.mktemp("others"), DataSetSettings()
    images = write_phantoms(folder / "images", 12, seed=77, size=(64, 64))
    return write_records(open_data_set(images, settings), folder / "others", settings, workers=1)


def table(folder, unit):
    with (folder / f"per_{unit}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_image_of_the_part_has_its_probability_and_decision(labelled_records, classifier):
    folder = evaluate_classifier(classifier, labelled_records, "test")
    rows, decision = table(folder, "image"), decision_of(classifier.folder)
    names = classifier.run.splits["test"]
    assert sorted(row["source_id"] for row in rows) == sorted(names)
    samples = list(labelled_records.read([row["source_id"] for row in rows]))
    raw = classifier.raw(samples, [sample.mask for sample in samples], len(samples))
    expected = calibrated(raw, decision)[0]
    for row, sample, each in zip(rows, samples, expected, strict=True):
        assert row["label"] == sample.label and float(row["probability_malignant"]) == pytest.approx(each[1], abs=1e-6)
        assert row["predicted"] == ("malignant" if each[1] >= decision.threshold else "benign")
    metrics = read_json(folder / "metrics.json", RunError, "")
    right = np.mean([row["label"] == row["predicted"] for row in rows])
    assert metrics["by_image"]["accuracy"]["value"] == pytest.approx(right)
    assert metrics["settings"]["own_records"] and metrics["settings"]["lesions"] == "truth"
    assert metrics["labels"] == ["benign", "malignant"]


def test_a_patient_has_the_mean_of_its_images(labelled_records, classifier):
    folder = evaluate_classifier(classifier, labelled_records, "test")
    group_of = groups(labelled_records.index)
    patients = {row.source_id: group_of[row.patient_id] for row in labelled_records.index}
    found = {}
    for row in table(folder, "image"):
        assert row["patient_id"] == patients[row["source_id"]]
        found.setdefault(row["patient_id"], []).append(float(row["probability_malignant"]))
    assert any(len(each) > 1 for each in found.values())
    for row in table(folder, "patient"):
        assert float(row["probability_malignant"]) == pytest.approx(np.mean(found.pop(row["patient_id"])), abs=1e-6)
    assert not found


def test_what_is_written_is_read_and_drawn(labelled_records, classifier):
    folder = evaluate_classifier(classifier, labelled_records, "validation")
    for unit in ("image", "patient"):
        found = read_probabilities(folder, unit)
        columns = (found.names, found.patients, found.truth, found.called, found.probability)
        assert {len(column) for column in columns} == {len(table(folder, unit))}
        np.testing.assert_allclose(found.probability.sum(axis=1), 1, atol=1e-6)
    plots = write_plots(folder)
    assert plots and all(path.read_bytes().startswith(b"\x89PNG") for path in plots)
    (folder / "per_image.csv").write_text("source_id,patient_id,label,probability_b\na,b,c,d\n")
    with pytest.raises(RunError, match=r"per_image.csv: expected a table of probabilities.*Evaluate again"):
        read_probabilities(folder, "image")
    (folder / "per_image.csv").unlink()
    with pytest.raises(RunError, match="no such file"):
        read_probabilities(folder, "image")


def test_other_records_are_scored_as_a_whole(others, classifier):
    folder = evaluate_classifier(classifier, others, "all")
    assert folder.name == f"others-{others.digest[:8]}-all"
    assert len(table(folder, "image")) == 12
    assert not read_json(folder / "metrics.json", RunError, "")["settings"]["own_records"]
    for part in ("test", "train"):
        with pytest.raises(RecordsError, match=f"has no '{part}' part there. Use --split all"):
            evaluate_classifier(classifier, others, part)


def test_images_that_were_learned_from_are_refused_among_others(records, labelled_records, classifier):
    """The thirty phantoms are the first thirty of these."""
    shared = {row.sha256 for row in records.index} & classifier.trained_on
    assert shared
    with pytest.raises(RecordsError, match=f"{len(shared)} images are the same as images that"):
        evaluate_classifier(classifier, records, "all")


def _with_labels(records, label_of):
    """The same records, whose index says other labels."""
    found = type(records)(records.folder)
    found.index = [dataclasses.replace(row, label=label_of(row)) for row in records.index]
    return found


@pytest.mark.parametrize(
    ("label_of", "answer"),
    [(lambda row: "cyst", "labels benign, malignant, found 'cyst' too"), (lambda row: "", "has no labelled image")],
)
def test_labels_that_are_not_known_are_refused(others, classifier, label_of, answer):
    with pytest.raises(RecordsError, match=answer):
        evaluate_classifier(classifier, _with_labels(others, label_of), "all")


def test_a_part_of_one_label_has_scores_that_are_undefined_and_no_plots(others, classifier):
    folder = evaluate_classifier(classifier, _with_labels(others, lambda row: "benign"), "all")
    image = read_json(folder / "metrics.json", RunError, "")["by_image"]
    assert image["roc_auc"]["value"] is None and image["sensitivity"]["value"] is None
    assert image["specificity"]["value"] is not None and write_plots(folder) == []


def test_a_segmenter_that_learned_from_what_is_tested_is_refused(records, labelled_records, trained_run, classifier):
    segmenter = load_segmenters([trained_run.folder])
    tested = {row.sha256 for row in labelled_records.index if row.source_id in set(classifier.run.splits["test"])}
    assert tested & segmenter.trained_on
    with pytest.raises(RecordsError, match=r"the segmenter learned from .* of the images to test on"):
        evaluate_classifier(classifier, labelled_records, "test", segmenter, "tiny")


def test_a_segmenter_finds_the_lesions_in_place_of_the_annotated_ones(others, trained_run, classifier):
    segmenter = load_segmenters([trained_run.folder])
    folder = evaluate_classifier(classifier, others, "all", segmenter, "tiny")
    assert folder.name.endswith("-all-by-tiny")
    settings = read_json(folder / "metrics.json", RunError, "")["settings"]
    assert settings["lesions"] == "tiny" and set(settings["lesions_missed"]) <= {r.source_id for r in others.index}


def test_one_that_looks_at_found_lesions_needs_a_segmenter(classifier):
    class Predicted:
        folder, region = classifier.folder, RegionSettings(source="predicted", segmenters=("runs/a", "runs/b"))

    with pytest.raises(RunError, match="Name one by --segmenter runs/a runs/b"):
        lesion_finder(Predicted(), None)


def test_without_a_decision_there_is_no_score(labelled_records, tmp_path):
    run = trained(labelled_records, BOTTLENECK)
    classifier = RunClassifier(run)
    classifier.folder = tmp_path
    with pytest.raises(RunError, match=r"decision.json.*--resume"):
        evaluate_classifier(classifier, labelled_records, "test")
