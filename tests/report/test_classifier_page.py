"""The page of a classifier: what it says of scores, decisions and mistakes, of a run and of a fusion."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.report.classifier_runs import THRESHOLD, evaluate, make_classifier, write_decision
from tests.report.page import Page
from tests.report.runs import make_records, make_run, make_samples, renamed
from ustoolkit.errors import RecordsError, RunError
from ustoolkit.evaluation.diagnosis_tables import Probabilities, read_diagnosis, read_probabilities
from ustoolkit.files import write_json
from ustoolkit.report.classifier_cases import decided_images
from ustoolkit.report.classifier_page import write_classifier_page
from ustoolkit.report.classifier_scores import summary_sentences

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def with_device(sample):
    number = sum(sample.source_id.encode())
    return renamed(sample, sample.source_id, attributes={"device": f"scanner {number % 2}"})


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    run, records = make_classifier(tmp_path_factory.mktemp("classifier"), with_device)
    path = write_classifier_page(run.folder)
    return run, records, path, Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def copy(told, tmp_path):
    return Path(shutil.copytree(told[0].folder, tmp_path / "run"))


def words_of(folder, **named):
    return Page(write_classifier_page(folder, **named).read_text(encoding="utf-8")).words()


def test_the_page_stands_alone(told):
    run, _, path, page = told
    assert path == run.folder / "report.html" and 50_000 < path.stat().st_size < 2_000_000
    assert page.faults == [] and page.open == [] and len(page.ids()) == len(set(page.ids()))
    for address in page.addresses():
        assert address.startswith("data:image/") or address[1:] in page.ids(), address
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")


def test_the_summary_says_how_well_it_tells_and_what_it_decides(told):
    run, _, _, page = told
    tables, words = read_diagnosis(run.evaluation("test")), page.words()
    scores, counts = tables["by_image"], tables["by_image"]["counts"]
    area = scores["roc_auc"]
    assert (
        f"On {counts['images']} images of {counts['patients']} patients that training never saw, malignant was told "
        f"from benign with an area under the ROC curve of {area['value']:.2f} (95 % interval "
        f"{area['interval_low']:.2f} to {area['interval_high']:.2f}): of 100 pairs of one each, "
        f"{100 * area['value']:.0f} stood in the right order."
    ) in words
    positives = counts["true_positive"] + counts["false_negative"]
    assert f"it found {counts['true_positive']} of {positives} malignant images" in words
    assert f"raised a false alarm on {counts['false_positive']} of" in words
    assert f"The calibration slope is {scores['calibration_slope']['value']:.2f}" in words
    assert "It was given the annotated outline" in words


def test_every_score_stands_by_image_and_by_patient(told):
    tables, words = read_diagnosis(told[0].evaluation("test")), told[3].words()
    image, patient = tables["by_image"]["sensitivity"], tables["by_patient"]["sensitivity"]
    written = f"Sensitivity {image['value']:.3f} {image['interval_low']:.3f} to {image['interval_high']:.3f}"
    assert f"{written} {patient['value']:.3f} {patient['interval_low']:.3f} to" in words
    for unit in ("image", "patient"):
        counts = tables[f"by_{unit}"]["counts"]
        positives = counts["true_positive"] + counts["false_negative"]
        share = 100 * counts["false_negative"] / positives
        row = f"malignant {counts['false_negative']} {share:.0f} % {counts['true_positive']} {100 - share:.0f} %"
        assert row in words


def test_mistakes_come_first_the_surest_first(told):
    found = read_probabilities(told[0].evaluation("test"), "image")
    rows = [attributes for tag, attributes in told[3].elements if tag == "tr" and "data-probability" in attributes]
    assert len(rows) == len(found.names)
    wrong = [row["data-wrong"] == "yes" for row in rows]
    mistakes = [one != other for one, other in zip(found.truth, found.called, strict=True)]
    assert wrong == sorted(wrong, reverse=True) and 0 < sum(wrong) == sum(mistakes) < len(rows)
    given = [
        float(row["data-probability"]) if row["data-label"] == "malignant" else 1 - float(row["data-probability"])
        for row in rows
    ]
    assert given[: sum(wrong)] == sorted(given[: sum(wrong)]) and given[sum(wrong) :] == sorted(given[sum(wrong) :])
    assert f"Called wrongly {sum(wrong)} of {len(rows)} images" in told[3].words()
    thumbnails = [attributes for tag, attributes in told[3].elements if attributes.get("class") == "thumb"]
    assert len(thumbnails) == len(rows)


def test_kinds_of_mistakes_by_hand():
    labels = ["benign", "cyst", "malignant"]
    truth, called = ["malignant", "benign", "cyst", "cyst"], ["benign", "malignant", "benign", "cyst"]
    probability = np.array([[0.7, 0.1, 0.2], [0.05, 0.05, 0.9], [0.6, 0.3, 0.1], [0.2, 0.8, 0.0]])
    decided = decided_images(Probabilities(list("abcd"), list("pqrs"), truth, called, probability), labels)
    assert [(each.source_id, each.kind, each.of_truth) for each in decided] == [
        ("b", "false alarm", 0.05),
        ("a", "missed", 0.2),
        ("c", "other label", 0.3),
        ("d", "", 0.8),
    ]


def test_groups_are_scored_on_their_own(told):
    run, records, _, page = told
    found = read_probabilities(run.evaluation("test"), "image")
    index = {row.source_id: row for row in records.index}
    members = [index[name].attributes["device"] == "scanner 1" for name in found.names]
    positives = sum(m and label == "malignant" for m, label in zip(members, found.truth, strict=True))
    patients = len({p for m, p in zip(members, found.patients, strict=True) if m})
    called = [m and label == "malignant" == c for m, label, c in zip(members, found.truth, found.called, strict=True)]
    words = page.words()
    assert f"Device: scanner 1 {sum(members)} {patients} {positives} " in words
    row = words.split("Device: scanner 1 ")[1]
    assert f" {sum(called) / positives:.2f} " in row[: row.index("Device:") if "Device:" in row else 200]
    assert "Lesion size: " in words and "Label: " not in words


def test_what_is_known_of_an_image_stands_beside_it(told):
    rows = [attributes for tag, attributes in told[3].elements if tag == "tr" and "data-probability" in attributes]
    devices = {row.source_id: row.attributes["device"] for row in told[1].index}
    assert all(f"Device {devices[row['data-name'].split()[0]]}" in row["data-name"] for row in rows)


def test_decision_training_and_versions_are_told(told):
    words = told[3].words()
    assert "Operating point 0.400" in words and "Temperature 1.250" in words
    assert "30 images of 20 patients, of which 20 of the training part" in words
    assert "Classifier svm" in words and "logistic 0.900, svm 0.950" in words
    assert "inner_folds" in words
    for version in told[0].state["versions"].values():
        assert version in words


def test_other_evaluations_stand_beside(copy, told):
    evaluate(copy, told[1], told[0].splits["validation"], name="validation", part="validation")
    words = words_of(copy)
    assert f"validation {len(told[0].splits['validation'])} " in words
    words = words_of(copy, part="validation")
    assert "that chose the best epoch and the operating point, so that the scores flatter it" in words


def test_lesions_of_a_segmenter_are_called_so(copy, told):
    evaluate(copy, told[1], told[0].splits["test"], name="test-by-fast", lesions="fast", lesions_missed=["a", "b"])
    words = words_of(copy, part="test-by-fast")
    assert "those that the segmenter ‘fast’ found. On 2 images it found none" in words


def test_a_fusion_has_a_page_too(told, tmp_path):
    fused = tmp_path / "fused"
    members = [str(told[0].folder), str(tmp_path / "gone")]
    fusion = {"how": "simplex", "runs": 2, "labels": 2, "weights": [0.25, 0.75], "coefficients": [], "intercepts": []}
    content = {"runs": members, "labels": ["benign", "malignant"], "fusion": fusion, "records": str(told[1].folder)}
    write_json(fused / "fusion.json", content)
    write_decision(fused)
    with pytest.raises(RunError, match=r"fused: expected an evaluation 'test', found none\. Run 'ustoolkit evaluate"):
        write_classifier_page(fused)
    evaluate(fused, told[1], told[0].splits["test"])
    words = words_of(fused)
    assert "A fusion of 2 runs: told apart, gone" in words and "gone weight 0.750" in words
    (fused / "fusion.json").write_text('{"runs": []}')
    with pytest.raises(RunError, match="the fusion is damaged"):
        write_classifier_page(fused)


def test_one_label_alone_has_no_curves(copy, told):
    names = [row.source_id for row in told[1].index if row.label == "benign"]
    evaluate(copy, told[1], names)
    words = words_of(copy)
    assert "only one label occurs" in words and "There are no curves" in words
    assert "nan" not in words.lower().split()


def test_three_labels(tmp_path):
    def three(sample):
        label = "cyst" if sample.label == "benign" and sum(sample.source_id.encode()) % 2 else sample.label
        return renamed(sample, sample.source_id, label=label)

    run, _ = make_classifier(tmp_path, three, labels=["benign", "cyst", "malignant"])
    page = Page(write_classifier_page(run.folder).read_text(encoding="utf-8"))
    words = page.words()
    assert page.faults == [] and "malignant was told from benign or cyst" in words
    assert "called benign called cyst called malignant all" in words
    assert "Scores but accuracy are of malignant against the rest." in words


def test_calibration_is_judged_by_its_interval():
    def sentence(low, value, high):
        entry = {"value": value, "interval_low": low, "interval_high": high}
        nothing = {"value": 0.9, "interval_low": None, "interval_high": None}
        scores = {
            "counts": dict.fromkeys(("true_positive", "false_positive", "true_negative", "false_negative"), 5),
            "threshold": THRESHOLD,
            **dict.fromkeys(("roc_auc", "sensitivity", "specificity", "expected_calibration_error"), nothing),
            "calibration_slope": entry,
        }
        scores["counts"] |= {"images": 20, "patients": 20}
        tables = {"by_image": scores, "settings": {"part": "test"}, "labels": ["benign", "malignant"]}
        return summary_sentences(tables)["calibration"]

    assert "too timid" in sentence(1.2, 1.5, 2.0)
    assert "they are too extreme" in sentence(0.3, 0.5, 0.8)
    assert "its interval holds 1" in sentence(0.8, 0.9, 1.1)
    assert "too few images" in sentence(None, 0.9, None)


def test_other_records_are_refused(told, tmp_path):
    others = make_records(tmp_path / "others", make_samples(6, seed=5))
    with pytest.raises(RecordsError, match="was made on other records"):
        write_classifier_page(told[0].folder, others)


def test_records_that_are_gone_are_asked_for(copy):
    path = copy / "evaluation" / "test" / "metrics.json"
    content = json.loads(path.read_text())
    content["settings"]["records"] = "/gone"
    path.write_text(json.dumps(content))
    with pytest.raises(RecordsError, match=r"found nothing there.*--records DIR"):
        write_classifier_page(copy)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("metrics.json", "{}", "expected the scores of a classifier"),
        ("metrics.json", "nothing", "expected JSON"),
        ("per_image.csv", "a,b\n1,2\n", "expected a table of probabilities"),
        ("per_patient.csv", None, "no such file"),
    ],
)
def test_a_damaged_evaluation_is_refused(copy, file, content, said):
    path = copy / "evaluation" / "test" / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(RunError, match=f"{file}: {said}.*Evaluate again"):
        write_classifier_page(copy)


def test_a_label_that_is_none_of_the_run_s_is_refused(copy):
    path = copy / "evaluation" / "test" / "per_image.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    rows[1][2] = "cyst"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(RunError, match="expected the labels benign, malignant, found 'cyst'"):
        write_classifier_page(copy)


def test_a_run_that_segments_or_is_not_evaluated_is_refused(tmp_path, told):
    with pytest.raises(RunError, match="expected a run that classifies, found one that segments"):
        write_classifier_page(make_run(tmp_path / "masks", told[1]).folder)
    begun = make_run(tmp_path / "begun", told[1], recipe="lesion_features")
    with pytest.raises(RunError, match=r"begun: expected an evaluation 'test', found none\. Run 'ustoolkit evaluate"):
        write_classifier_page(begun.folder)
    begun.update(status="started")
    with pytest.raises(RunError, match="found one whose training has not finished"):
        write_classifier_page(begun.folder)


def test_nothing_in_a_name_is_markup(tmp_path):
    def odd(sample):
        label = EVIL if sample.label == "benign" else "malignant"
        return renamed(sample, f"{EVIL}{sample.source_id}", label=label, attributes={EVIL: sample.source_id[-1]})

    run, _ = make_classifier(tmp_path, odd, labels=[EVIL, "malignant"])
    run.update(command=EVIL, warnings=[EVIL])
    page = Page(write_classifier_page(run.folder).read_text(encoding="utf-8"))
    assert page.faults == [] and EVIL in page.text
    assert [attributes for tag, attributes in page.elements if tag == "script"] == [{"type": "module"}]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_tensorflow_is_not_loaded():
    code = "import sys, ustoolkit.report.classifier_page; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
