"""Diagnose, and export of a classifier, on the command line, with right and wrong input."""

import json

import pytest

from tests.classifiers import MEASURES, trained
from ustoolkit.cli import main


@pytest.fixture(scope="module")
def classifier(labelled_records):
    return trained(labelled_records, MEASURES).folder


def refused(capsys, *words):
    assert main([str(word) for word in words]) == 2
    message = capsys.readouterr().err
    assert message.startswith("ustoolkit: ") and "Traceback" not in message
    return message


def test_a_folder_is_diagnosed(capsys, trained_run, classifier, phantom_folder, tmp_path):
    words = ["diagnose", phantom_folder, "--segmenter", trained_run.folder, "--classifier", classifier]
    assert main([str(word) for word in (*words, "--out", tmp_path / "text")]) == 0
    text = capsys.readouterr().out
    assert text.count("no medical device") == 1 and "30 images" in text and "… and 10 more" in text
    assert main([str(word) for word in (*words, "--out", tmp_path / "json", "--json")]) == 0
    content = json.loads(capsys.readouterr().out)
    assert len(content["diagnoses"]) == 30 and content["labels"] == ["benign", "malignant"]
    assert "no medical device" in content["notice"]


def test_wrong_input_is_answered(capsys, trained_run, classifier, phantom_folder, tmp_path):
    segmenter, empty, text = trained_run.folder, tmp_path / "empty", tmp_path / "text.png"
    empty.mkdir()
    text.write_text("no image")

    def diagnose(images, segmenter, *classifiers):
        words = ("diagnose", images, "--segmenter", segmenter, "--classifier", *classifiers, "--out", tmp_path / "out")
        return refused(capsys, *words)

    assert "found nothing" in diagnose(tmp_path / "nowhere", segmenter, classifier)
    assert "found none" in diagnose(empty, segmenter, classifier)
    assert "text.png" in diagnose(text, segmenter, classifier)
    assert "found one that classifies" in diagnose(phantom_folder, classifier, classifier)
    assert "which segments" in diagnose(phantom_folder, segmenter, segmenter)
    assert "named twice" in diagnose(phantom_folder, segmenter, classifier, classifier)
    assert "expected a run folder" in diagnose(phantom_folder, segmenter, tmp_path / "nothing")
    assert not (tmp_path / "out").exists()


def test_a_classifier_is_exported_with_a_segmenter(capsys, trained_run, classifier, tmp_path):
    out = ("--out", tmp_path / "model")
    assert "--segmenter" in refused(capsys, "export", classifier, *out)
    assert "found 2 runs" in refused(capsys, "export", classifier, trained_run.folder, *out)
    assert "fine-tuned" in refused(capsys, "export", classifier, "--segmenter", trained_run.folder, *out)
    assert "Leave it out" in refused(capsys, "export", trained_run.folder, "--segmenter", trained_run.folder, *out)
    assert not (tmp_path / "model").exists()
