"""Temperature and operating point: found on images that were not learned from, and in their ranges."""

import json
import shutil

import numpy as np
import pytest

from tests.classifiers import BOTTLENECK, FINE_TUNING, MEASURES, trained
from ustoolkit.data.lesions import known_lesions
from ustoolkit.errors import DataError, RunError
from ustoolkit.evaluation.calibration import apply_temperature
from ustoolkit.inference.classifier import RunClassifier, calibrated, decision_of
from ustoolkit.inference.decide import HeldOut, decide, held_out, write_decision
from ustoolkit.recipe.classification import DecisionSettings
from ustoolkit.run import Run

FORMS = {"fine_tuning": FINE_TUNING, "bottleneck": BOTTLENECK, "measures": MEASURES}


def found_by(run, records):
    return held_out(RunClassifier(run), records, known_lesions(run.recipe.classification.region))


def hand_made(positive=(0.9, 0.8, 0.6), negative=(0.7, 0.3, 0.2, 0.1)):
    probability = np.array([*positive, *negative])
    truth = np.array([1] * len(positive) + [0] * len(negative))
    names = [f"scan {number}" for number in range(len(truth))]
    rows = np.stack([1 - probability, probability], axis=1)
    return HeldOut(names, np.array(names), truth, rows, np.ones(len(truth), bool))


@pytest.mark.parametrize("form", FORMS)
def test_both_are_in_range_and_kept(labelled_records, form):
    run = trained(labelled_records, FORMS[form])
    decision = decision_of(run.folder)
    assert decision.temperature > 0 and 0 <= decision.threshold <= 1
    found = found_by(run, labelled_records)
    evidence = decision.evidence
    assert evidence["images"] == len(found.truth)
    assert evidence["of_the_validation_part"] == len(run.splits["validation"])
    probability = apply_temperature(found.probability, decision.temperature)[:, -1]
    called, positive = probability >= decision.threshold, found.truth == 1
    assert evidence["sensitivity"] == pytest.approx(called[positive].mean())
    assert evidence["specificity"] == pytest.approx((~called[~positive]).mean())


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_decided_on_images_that_were_learned_from(labelled_records, form):
    run = trained(labelled_records, FORMS[form])
    found = found_by(run, labelled_records)
    expected = list(run.splits["validation"]) + ([] if form == "fine_tuning" else list(run.splits["train"]))
    assert sorted(found.source_ids) == sorted(expected)
    assert {n for n, own in zip(found.source_ids, found.validation, strict=True) if own} == {*run.splits["validation"]}
    labels = {row.source_id: row.label for row in labelled_records.index}
    assert [run.labels[index] for index in found.truth] == [labels[name] for name in found.source_ids]
    np.testing.assert_allclose(found.probability.sum(axis=1), 1, atol=1e-6)


def test_out_of_fold_are_used_as_they_stand(labelled_records, tmp_path):
    run = Run(shutil.copytree(trained(labelled_records, MEASURES).folder, tmp_path / "run"))
    rows = (run.folder / "out_of_fold.csv").read_text().splitlines()
    name, label, *_ = rows[1].split(",")
    (run.folder / "out_of_fold.csv").write_text("\n".join([rows[0], f"{name},{label},0.25,0.75"]) + "\n")
    found = found_by(run, labelled_records)
    assert found.source_ids[-1] == name and found.probability[-1].tolist() == [0.25, 0.75]
    assert len(found.source_ids) == len(run.splits["validation"]) + 1
    before = decision_of(run.folder)
    find = known_lesions(run.recipe.classification.region)
    assert decide(run, labelled_records, find).evidence["images"] == len(found.truth) != before.evidence["images"]


def test_out_of_fold_that_are_damaged_are_answered(labelled_records, tmp_path):
    run = Run(shutil.copytree(trained(labelled_records, MEASURES).folder, tmp_path / "run"))
    for content in ("source_id,label\nscan,benign\n", "source_id,label,benign,malignant\nscan,benign,no,1\n"):
        (run.folder / "out_of_fold.csv").write_text(content)
        with pytest.raises(RunError, match=r"out_of_fold.csv: expected out-of-fold probabilities .*Train again"):
            found_by(run, labelled_records)


def test_the_operating_point_is_asked_of_the_settings(tmp_path):
    plain = {"calibration": "off"}
    half = write_decision(tmp_path, hand_made(), DecisionSettings(operating_point="half", **plain))
    assert (half.temperature, half.threshold) == (1, 0.5)
    assert (half.evidence["sensitivity"], half.evidence["specificity"]) == (1, 0.75)
    every = write_decision(tmp_path, hand_made(), DecisionSettings(operating_point="sensitivity", **plain))
    assert 0.3 < every.threshold < 0.6 and every.evidence["sensitivity"] == 1
    assert decision_of(tmp_path) == every


def test_images_of_one_label_are_answered(tmp_path):
    with pytest.raises(DataError):
        write_decision(tmp_path, hand_made(negative=()), DecisionSettings())
    assert not (tmp_path / "decision.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"temperature": 0, "threshold": 0.5, "evidence": {}},
        {"temperature": 1, "threshold": 1.5, "evidence": {}},
        {"temperature": "warm", "threshold": 0.5, "evidence": {}},
        {"temperature": 1, "threshold": 0.5, "evidence": 3},
    ],
)
def test_a_damaged_decision_is_answered(tmp_path, content):
    (tmp_path / "decision.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"decision.json: expected temperature, threshold and evidence.*--resume"):
        decision_of(tmp_path)


def test_calibration_keeps_shape_and_order(labelled_records):
    decision = decision_of(trained(labelled_records, MEASURES).folder)
    raw = np.random.default_rng(0).dirichlet([1, 1], (3, 5))
    found = calibrated(raw, decision)
    assert found.shape == raw.shape
    for member in range(3):
        np.testing.assert_array_equal(np.argsort(found[member, :, 1]), np.argsort(raw[member, :, 1]))
        np.testing.assert_allclose(found[member], apply_temperature(raw[member], decision.temperature))
