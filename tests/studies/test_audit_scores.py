"""Scores of audited runs, and how far they lie above others, by hand."""

import json

import numpy as np
import pytest

from tests.studies.audited_runs import segmented
from tests.studies.classifiers import scored, write_evaluation
from ustoolkit.studies.audit_scores import AuditedRun, KnownShare, estimate_above, estimate_score, scores_of_classifier
from ustoolkit.studies.audit_tables import AuditedModel, audit_rows
from ustoolkit.studies.classification_scores import ClassifierScores

UNET = AuditedModel("unet", "U-net", classifies=False)


def test_scores_above_by_hand():
    patients = [f"p{number % 5}" for number in range(10)]
    low, high = segmented([0.5] * 10, patients), segmented([0.7] * 10, ["q" + name for name in patients])
    found = estimate_above([(high, low)], "dice")
    assert [found.mean, found.interval_low, found.interval_high] == pytest.approx([0.2] * 3)
    assert found.verdict == "better" and estimate_above([(low, high)], "dice").verdict == "worse"
    # The same images in both parts: what patients vary in cancels.
    values = np.linspace(0.1, 1, 10)
    found = estimate_above([(segmented(values, patients), segmented(values - 0.05, patients))], "dice")
    assert [found.interval_low, found.interval_high] == pytest.approx([0.05] * 2)


def test_of_other_patients_the_interval_is_that_of_two_independent_means():
    generator = np.random.default_rng(0)
    first, second = generator.normal(0.8, 0.1, 400), generator.normal(0.7, 0.1, 400)
    runs = [
        segmented(values, [f"{name}{number}" for number in range(400)])
        for name, values in zip("ab", (first, second), strict=True)
    ]
    found = estimate_above([tuple(runs)], "dice")
    expected = 1.96 * np.sqrt(first.var(ddof=1) / 400 + second.var(ddof=1) / 400)
    assert (found.interval_high - found.interval_low) / 2 == pytest.approx(expected, rel=0.08)
    assert found.mean == pytest.approx(first.mean() - second.mean())


def test_images_without_a_value_do_not_count():
    run = segmented([0.4, np.nan, 0.8], ["a", "b", "c"])
    assert run.score("dice") == pytest.approx(0.6) == pytest.approx(estimate_score([run], "dice").mean)
    nothing = segmented([np.nan] * 2, ["a", "b"])
    assert np.isnan(nothing.score("dice")) and np.isnan(estimate_score([nothing], "dice").interval_low)


def test_rows_by_hand():
    known = KnownShare(8.0, 4.0, 0.75, 0.5)
    patients = ["a", "b", "c", "d"]
    runs = {
        "unet-patient-wise": [segmented([0.5] * 4, patients, 0), segmented([0.6] * 4, patients, 1)],
        "unet-image-wise": [segmented([0.9] * 4, patients, 1, known)],
    }
    baseline, leaking, missing = audit_rows(runs, [UNET])
    assert baseline["dice_mean"] == pytest.approx(0.55) and baseline["dice_deviation"] == pytest.approx(0.1 / 2**0.5)
    assert baseline["verdict"] == "baseline" and np.isnan(baseline["dice_above"])
    assert leaking["dice_above"] == pytest.approx(0.3), "of the same seed alone"
    assert leaking["hausdorff95_pixel_above"] == pytest.approx(-3) and leaking["verdict"] == "inflated"
    assert (leaking["of_trained_patients"], leaking["of_trained_images"]) == (0.75, 0.5)
    assert missing["seeds"] == 0 and missing["verdict"] == "" and np.isnan(missing["dice_low"])
    lower = {**runs, "unet-image-wise": [segmented([0.1] * 4, patients, 1)]}
    assert audit_rows(lower, [UNET])[1]["verdict"] == "lower"
    alone = {"unet-image-wise": runs["unet-image-wise"]}
    assert audit_rows(alone, [UNET])[1]["verdict"] == "", "with what is it compared?"


def test_scores_of_a_classifier_are_those_of_its_evaluation(tmp_path):
    generator = np.random.default_rng(4)
    found = scored(generator.random(40) < 0.4, generator.random(40).round(2), [f"p{n % 25}" for n in range(40)])
    write_evaluation(tmp_path / "evaluation" / "test", found, threshold=0.3)
    told = json.loads((tmp_path / "evaluation" / "test" / "metrics.json").read_text())["by_image"]
    _, patients, values, probabilities = scores_of_classifier(
        ClassifierScores(tmp_path, 0, {"image": found}, {}, 0.5, 1.0)
    )
    run = AuditedRun(0, patients, values, probabilities, KnownShare(1, 1, 0, 0))
    for name in ("roc_auc", "sensitivity", "specificity", "accuracy", "brier"):
        assert run.score(name) == pytest.approx(told[name]["value"]), name


def test_of_three_labels_the_most_probable_one_is_right_or_not(tmp_path):
    folder = tmp_path / "evaluation" / "test"
    folder.mkdir(parents=True)
    labels = ["benign", "normal", "malignant"]
    (folder / "metrics.json").write_text(json.dumps({"labels": labels, "by_image": {"threshold": 0.3}}))
    found = scored([False, False, True, True], [0.4, 0.1, 0.6, 0.35])
    predicted = [("benign", "benign"), ("normal", "benign"), ("malignant", "malignant"), ("malignant", "normal")]
    lines = [
        "source_id,label,predicted",
        *(f"{name},{','.join(of)}" for name, of in zip(found.names, predicted, strict=True)),
    ]
    (folder / "per_image.csv").write_text("\n".join(lines))
    values = scores_of_classifier(ClassifierScores(tmp_path, 0, {"image": found}, {}, 0.5, 1.0))[2]
    assert values["accuracy"].tolist() == [1, 0, 1, 0], "by the label predicted"
    assert values["sensitivity"][2:].tolist() == [1, 1] and values["specificity"][:2].tolist() == [0, 1]
