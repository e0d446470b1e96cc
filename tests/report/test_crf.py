"""What a report says of the CRF: numbers by hand, pictures, and what it makes of evaluations that do not match."""

import json
import math

import numpy as np
import pytest

from tests.report.page import Page
from tests.report.runs import make_all, make_evaluation, make_records, make_run, make_samples, renamed
from ustoolkit.errors import RunError
from ustoolkit.evaluation.statistics import paired_difference
from ustoolkit.evaluation.tables import read_rows
from ustoolkit.report.crf import changed_most, compare_crf, size_rows
from ustoolkit.report.html import write_report
from ustoolkit.report.scores import ImageScore

NEARER = {"name": "test-crf", "shift": lambda number: max(0, number - 2) if number % 4 else number + 3}


def score(number, dice, size=5.0, patient=None):
    patient = patient or f"p{number}"
    return ImageScore(f"scan {number:02}", patient, "benign", dice, 1.0, "mm", size, dice == 0, False)


def pair(number, without, refined, **kwargs):
    return score(number, without, **kwargs), score(number, refined, **kwargs)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    run, records = make_all(tmp_path_factory.mktemp("crf"))
    make_evaluation(run, records, **NEARER)
    return run, records, compare_crf(run, "test", records), write_report(run, records).read_text(encoding="utf-8")


def test_thirds_by_hand():
    """Seven lesions: three small ones, two and two; the one without a size and the one without a Dice are left out."""
    sizes = (7, 1, 5, 2, 6, 3, 4)
    pairs = [pair(number, 0.5, 0.5 + size / 100, size=float(size)) for number, size in enumerate(sizes)]
    pairs += [pair(8, 0.1, 0.9, size=0.0), pair(9, math.nan, 0.9), pair(10, 0.9, math.nan)]
    rows = size_rows(pairs)
    assert [(row["name"], row["low"], row["high"], row["images"]) for row in rows] == [
        ("small", 1, 3, 3),
        ("middle", 4, 5, 2),
        ("large", 6, 7, 2),
    ]
    assert [row["refined"] for row in rows] == pytest.approx([0.52, 0.545, 0.565])
    assert [row["without"] for row in rows] == pytest.approx([0.5] * 3)
    assert [row["difference"].mean for row in rows] == pytest.approx([0.02, 0.045, 0.065])
    assert all(row["difference"].verdict == "better" for row in rows)
    assert size_rows(pairs[:2]) == []


def test_a_patient_of_several_images_is_one_patient():
    rows = size_rows([pair(number, 0.5, 0.6, patient="p") for number in range(6)])
    assert [(row["images"], row["patients"]) for row in rows] == [(2, 1)] * 3
    assert all(math.isnan(row["difference"].interval_low) for row in rows)


def test_the_largest_changes_are_chosen():
    changes = (0.1, -0.2, 0.0, 0.3, 0.2, -0.1, -0.4, math.nan)
    chosen = changed_most([pair(number, 0.5, 0.5 + change) for number, change in enumerate(changes)])
    assert {name: [without.source_id for without, _ in pairs] for name, pairs in chosen.items()} == {
        "better": ["scan 03", "scan 04"],
        "worse": ["scan 06", "scan 01"],
    }
    assert changed_most([pair(0, 0.5, 0.5)]) == {"better": [], "worse": []}


def test_differences_are_those_of_the_tables(compared):
    run, _, found, text = compared
    without, refined = (read_rows(run.evaluation(name)) for name in ("test", "test-crf"))
    expected = paired_difference(
        [[row["dice"] for row in refined]],
        [[row["dice"] for row in without]],
        groups=[row["patient_id"] for row in without],
    )
    assert found["dice"] == expected
    dice, distance, penalised = found["rows"]
    assert dice["difference"] == expected and dice["verdict"] == expected.verdict
    both = [
        (row["hausdorff95_mm"], other["hausdorff95_mm"])
        for row, other in zip(without, refined, strict=True)
        if not math.isnan(row["hausdorff95_mm"] + other["hausdorff95_mm"])
    ]
    assert (distance["unit"], distance["difference"].images) == ("mm", len(both))
    assert [distance["without"], distance["refined"]] == pytest.approx(np.mean(both, axis=0))
    assert penalised["difference"].images == len(without)
    page = Page(text)
    assert page.faults == [] and len(page.ids()) == len(set(page.ids()))
    assert f"Dice {dice['without']:.3f} {dice['refined']:.3f} +{expected.mean:.3f}" in page.words()
    assert f"(95 % interval over patients {signed(expected.interval_low)} to " in page.words()


def signed(value):
    return f"{value:+.3f}".replace("-", "−")


def test_a_shorter_distance_is_better(tmp_path):
    run, records = make_all(tmp_path)
    make_evaluation(run, records, name="test-crf", shift=lambda number: 0)
    dice, distance, _ = compare_crf(run, "test", records)["rows"]
    assert distance["difference"].mean < 0 < dice["difference"].mean
    assert (dice["verdict"], distance["verdict"]) == ("better", "better")


def test_lesions_that_vanish_do_not_look_better(tmp_path):
    """Most lesions are lost, and those that are left have short distances; the penalised distance counts both."""
    run, records = make_all(tmp_path)
    make_evaluation(run, records, name="test-crf", shift=lambda number: 0, keep=lambda number: number < 3)
    dice, distance, penalised = compare_crf(run, "test", records)["rows"]
    assert distance["difference"].images == 3
    assert distance["difference"].mean < 0 < penalised["difference"].mean
    assert (dice["verdict"], penalised["verdict"]) == ("worse", "worse")


def test_all_pixels_are_compared(compared):
    run, _, found, text = compared
    contents = [json.loads((run.evaluation(name) / "metrics.json").read_text()) for name in ("test", "test-crf")]
    first, second = (content["confusion"] for content in contents)
    assert found["pixel_rows"] == [
        ("IoU, background", first["iou"][0], second["iou"][0]),
        ("IoU, lesion", first["iou"][1], second["iou"][1]),
        ("Mean IoU", first["mean_iou"], second["mean_iou"]),
        ("Pixel accuracy", first["pixel_accuracy"], second["pixel_accuracy"]),
    ]
    words = Page(text).words()
    assert f"Mean IoU all pixels {first['mean_iou']:.4f} {second['mean_iou']:.4f} +" in words
    assert "All pixels together" in words
    assert f"test {first['iou'][0]:.4f} {first['iou'][1]:.4f} {first['mean_iou']:.4f}" in words


def test_pictures_show_both_masks(compared):
    _, _, found, text = compared
    section = text.split('<section id="crf"')[1].split('<section id="cases"')[0]
    shown = [case for cases in found["cases"].values() for case in cases]
    assert shown and all(without.overlay != refined.overlay for without, refined in shown)
    assert section.count("<img ") == 2 * len(shown)
    assert all(refined.score.dice > without.score.dice for without, refined in found["cases"]["better"])
    assert all(refined.score.dice < without.score.dice for without, refined in found["cases"]["worse"])


def test_the_page_of_either_evaluation_compares_both(compared):
    run, records, found, _ = compared
    other = compare_crf(run, "test-crf", records)
    assert other["dice"] == found["dice"]
    assert (other["name"], other["with_name"]) == ("test", "test-crf")


def test_without_a_second_evaluation_there_is_no_section(tmp_path):
    run, records = make_all(tmp_path)
    assert compare_crf(run, "test", records) is None
    page = Page(write_report(run, records).read_text(encoding="utf-8"))
    assert "crf" not in page.ids() and "CRF" not in page.words()
    make_evaluation(run, records, name="validation-crf", part="validation")
    assert compare_crf(run, "test", records) is None


def test_settings_of_the_evaluation_and_where_they_come_from(tmp_path):
    run, records = make_all(tmp_path)
    used = {**run.recipe.inference.crf.model_dump(), "enabled": True, "position_deviation": 33.0}
    make_evaluation(run, records, crf=used, **NEARER)
    again = f"Run 'ustoolkit evaluate {run.folder} --crf' again."
    stale = [f"The CRF was evaluated with other settings than the run has now. {again}"]
    found = compare_crf(run, "test", records)
    assert ("Appearance, deviation of position σp", "33 pixels") in found["settings"]
    assert (found["tuned"], found["warnings"]) == ("They are not those of the run.", stale)
    evidence = {"trials": 20, "images": 8, "dice_without_crf": 0.7, "dice_tuned": 0.7149}
    run.keep_tuned("crf", {"crf": {"position_deviation": 33.0}}, evidence)
    found = compare_crf(run, "test", records)
    assert found["warnings"] == []
    assert found["tuned"] == (
        "They were tuned on the validation part in 20 trials on 8 images, where they took the mean Dice from 0.700 "
        "to 0.715; chosen there, they flatter there."
    )
    run.keep_tuned("crf", {"crf": {"position_deviation": 50.0}}, {})
    assert compare_crf(run, "test", records)["warnings"] == stale


def test_the_recipes_settings_are_called_so(compared):
    run, records, _, _ = compared
    make_evaluation(run, records, crf={**run.recipe.inference.crf.model_dump(), "enabled": True}, **NEARER)
    found = compare_crf(run, "test", records)
    assert (found["tuned"], found["warnings"]) == ("They were not tuned: they are the recipe’s.", [])


def test_settings_that_are_none_are_said(tmp_path):
    run, records = make_all(tmp_path)
    make_evaluation(run, records, crf={"position_deviation": "far"}, **NEARER)
    with pytest.raises(RunError, match="expected settings of a CRF"):
        compare_crf(run, "test", records)


def test_evaluations_that_do_not_match_are_not_compared(tmp_path):
    run, records = make_all(tmp_path)
    make_evaluation(run, records, name="test-crf", part="validation")
    found = compare_crf(run, "test", records)
    assert list(found) == ["warnings"] and "not of the same images" in found["warnings"][0]
    page = Page(write_report(run, records).read_text(encoding="utf-8"))
    assert page.faults == []
    assert "‘test’ and ‘test-crf’ are not of the same images" in page.words()


def test_what_else_differs_is_said(tmp_path):
    run, records = make_all(tmp_path)
    make_evaluation(run, records, threshold=0.4, **NEARER)
    assert compare_crf(run, "test", records)["warnings"] == [
        "The two evaluations differ in more than the CRF: threshold. Make both anew."
    ]


def test_several_classes_and_none_annotated(tmp_path):
    samples = [
        renamed(s, s.source_id, mask=(s.mask * (number % 3)).astype(np.uint8), spacing_mm=None)
        for number, s in enumerate(make_samples())
    ]
    records = make_records(tmp_path / "records", samples, classes=("background", "benign", "malignant"))
    run = make_run(tmp_path / "run", records)
    make_evaluation(run, records)
    make_evaluation(run, records, **NEARER)
    found = compare_crf(run, "test", records)
    assert [(row["name"], row["unit"], row["class"]) for row in found["rows"]] == [
        ("Dice", "", "benign"),
        ("HD95", "pixels", "benign"),
        ("HD95, penalised", "pixels", "benign"),
        ("Dice", "", "malignant"),
        ("HD95", "pixels", "malignant"),
        ("HD95, penalised", "pixels", "malignant"),
    ]
    assert len(found["pixel_rows"]) == 5
    words = Page(write_report(run, records).read_text(encoding="utf-8")).words()
    assert "HD95, malignant pixels" in words and "mean Dice over the classes" in words
    assert "nan" not in words.lower().split()


def test_nothing_annotated_and_nothing_predicted(tmp_path):
    samples = [renamed(s, s.source_id, mask=np.zeros_like(s.mask)) for s in make_samples()]
    records = make_records(tmp_path / "records", samples)
    run = make_run(tmp_path / "run", records)
    make_evaluation(run, records)
    make_evaluation(run, records, **NEARER)
    page = Page(write_report(run, records).read_text(encoding="utf-8"))
    assert page.faults == []
    assert "the mean Dice is not defined." in page.words()
    assert "nan" not in page.words().lower().split()
