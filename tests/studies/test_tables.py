"""Tables from hand-made run folders, against what comes out by hand."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.studies.runs import finish, finish_all, options, silent, toy_study
from ustoolkit.errors import RunError
from ustoolkit.studies import tables
from ustoolkit.studies.comparison import CRF, Comparison
from ustoolkit.studies.plan import plan_runs
from ustoolkit.studies.runner import run_study
from ustoolkit.studies.scores import METRIC_NAMES, PIXEL_METRIC_NAMES, ArmScores, ScoredImages
from ustoolkit.studies.stages import StudyData
from ustoolkit.studies.table_files import markdown_table


def images_of(fractions, patients=None):
    names = tuple(f"scan{number}" for number in range(len(fractions)))
    return ScoredImages(names, np.array(patients or names), np.array(fractions, dtype=float))


def scores_of(dice, learning=None):
    dice = np.array(dice, dtype=float)
    factors = zip(METRIC_NAMES, (1, 10, 20, 0.5, 0.25), strict=True)
    metrics = {name: factor * dice for name, factor in factors}
    means = {name: np.nanmean(values, axis=1) for name, values in metrics.items()}
    pixels = {name: np.full(len(dice), np.nan) for name in PIXEL_METRIC_NAMES}
    scored = np.ones(dice.shape[1], dtype=bool)
    return ArmScores(tuple(range(len(dice))), metrics, scored, means, pixels, 1000, learning, None)


def text_of(comparison, rows, limits=None):
    written = tables.size_lines(comparison, rows, limits) if limits else tables.comparison_lines(comparison, rows)
    return markdown_table(*written)


COMPARISON = toy_study().comparisons[0]


def test_rows_by_hand():
    # Seeds' means: 0.5 and 0.7 (mean 0.6, deviation √0.02); the other arm is 0.1 lower on every image.
    long = scores_of([[0.4, 0.6], [0.6, 0.8]])
    rows = tables.compare(COMPARISON, {"long": long, "short": scores_of(long.metrics["dice"] - 0.1)}, images_of([1, 1]))
    first, second = rows
    assert first["dice_mean"] == pytest.approx(0.6) and first["dice_deviation"] == pytest.approx(math.sqrt(0.02))
    assert first["hausdorff95_pixel_mean"] == pytest.approx(6.0) and first["pixel_error_mean"] == pytest.approx(0.3)
    assert first["verdict"] == "baseline" and math.isnan(first["difference"])
    assert second["difference"] == pytest.approx(-0.1) and second["patients_compared"] == 2
    assert second["interval_low"] < -0.1 < second["interval_high"]


def test_masks_of_the_same_runs_are_compared_run_by_run():
    # Each run is 0.01 better with it, however far the runs are apart; two arms that differ so are undecided.
    without = np.tile([[0.3], [0.5], [0.8]], 12)
    pair = Comparison("crf", "CRF", (("without", "long"), ("with", f"long{CRF}"), ("another", "short")))
    better = scores_of(without + 0.01)
    _, with_it, another = tables.compare(
        pair, {"long": scores_of(without), f"long{CRF}": better, "short": better}, images_of([1] * 12)
    )
    assert with_it["difference"] == pytest.approx(0.01) == another["difference"]
    assert with_it["interval_low"] == pytest.approx(0.01) == with_it["interval_high"]
    assert with_it["verdict"] == "better" and another["verdict"] == "undecided"


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ([0.1] * 12, "better"),
        ([-0.1] * 12, "worse"),
        ([0.1, -0.1] * 6, "undecided"),
    ],
)
def test_verdicts(change, verdict):
    dice = np.linspace(0.3, 0.8, 12)[None]
    rows = tables.compare(COMPARISON, {"long": scores_of(dice), "short": scores_of(dice + change)}, images_of([1] * 12))
    assert rows[1]["verdict"] == verdict and rows[1]["difference"] == pytest.approx(np.mean(change))
    assert verdict in text_of(COMPARISON, rows).splitlines()[-1]


def test_missing_arms_are_named_and_compared_with_nothing():
    for scores in ({}, {"long": scores_of([[0.5, 0.6]])}, {"short": scores_of([[0.5, 0.6]])}):
        rows = tables.compare(COMPARISON, scores, images_of([1, 1]))
        text = text_of(COMPARISON, rows)
        assert text.count("missing") == 2 - len(scores)
        assert math.isnan(rows[1]["difference"]) and rows[1]["verdict"] == "" and "nan" not in text
    assert "short/seed0 (failed)" in tables.explain(images_of([1]), 2, {"short/seed0": "failed"}, False)


def test_sizes_are_thirds_of_the_lesions():
    # Six lesions, two a size, and an image without one, which is in no size.
    fractions = [0.01, 0.05, 0.30, 0.02, 0.06, 0.40, 0.0]
    dice = np.array([[0.1, 0.5, 0.8, 0.3, 0.5, 1.0, 0.0]])
    scores = {"long": scores_of(dice), "short": scores_of(dice + np.array([0.2, 0, 0, 0.2, 0, 0, 0]))}
    rows, limits = tables.compare_by_size(COMPARISON, scores, images_of(fractions))
    assert [row["images"] for row in rows] == [2] * 6
    assert [row["dice_mean"] for row in rows[:3]] == pytest.approx([0.2, 0.5, 0.9])
    assert [row["difference"] for row in rows[3:]] == pytest.approx([0.2, 0.0, 0.0])
    assert 0.02 < limits[0] < 0.05 and 0.06 < limits[1] < 0.30
    assert [row["verdict"] for row in rows[3:]] == ["better", "undecided", "undecided"]
    assert "small, up to" in text_of(COMPARISON, rows, limits)


def test_no_lesion_or_no_run_still_makes_a_table():
    rows, limits = tables.compare_by_size(COMPARISON, {"long": scores_of([[0.5]])}, images_of([0.0]))
    assert [row["images"] for row in rows] == [0] * 6 and all(math.isnan(limit) for limit in limits)
    assert "missing" in text_of(COMPARISON, rows, limits)


def test_a_finished_study_is_tables_only(records, tmp_path):
    study, asked = toy_study(), options(records, tmp_path / "study")
    asked.out.mkdir()
    (asked.out / "study.json").write_text('{"study": "toy"}')
    finish_all(study, asked, records, lambda arm, seed, name: 0.8 + 0.02 * seed - (0.3 if arm == "short" else 0))
    result = run_study(study, asked, silent)
    long, short = result["tables"]["lengths"]
    assert long["dice_mean"] == pytest.approx(0.81) and short["difference"] == pytest.approx(-0.3)
    assert short["verdict"] == "worse" and long["trainable_weights"] == 4321
    assert {entry["status"] for entry in result["runs"].values()} == {"finished"}
    with (asked.out / "lengths.csv").open() as file:
        written = list(csv.DictReader(file))
    assert float(written[1]["difference"]) == short["difference"] and written[0]["difference"] == ""
    page = (asked.out / "lengths.md").read_text()
    tested = len(StudyData(asked).of(plan_runs(study, asked)[0]).splits["test"])
    assert f"{tested} images" in page and "2 seeds" in page and "Missing" not in page
    assert (asked.out / "lengths-by-size.md").is_file()


def test_scores_of_other_images_are_refused(records, tmp_path):
    study, asked = toy_study(), options(records, tmp_path / "study")
    asked.out.mkdir()
    (asked.out / "study.json").write_text('{"study": "toy"}')
    finish_all(study, asked, records, lambda arm, seed, name: 0.8)
    table = plan_runs(study, asked)[0].folder / "evaluation" / "test" / "per_image.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(RunError, match="not the same"):
        run_study(study, asked, silent)


def test_an_image_without_a_dice_is_left_out_of_the_difference():
    rows = tables.compare(
        COMPARISON,
        {"long": scores_of([[0.5, 0.5, math.nan]]), "short": scores_of([[0.6, 0.6, 0.1]])},
        images_of([1] * 3),
    )
    assert rows[1]["images_compared"] == 2 and rows[1]["difference"] == pytest.approx(0.1)


def test_pixels_of_all_images_are_counted_together(records, tmp_path):
    # Of 10 pixels 8 are right; background 6 of 8 in either, lesion 2 of 4.
    study, asked = toy_study(), options(records, tmp_path / "study", seeds=2)
    study = replace(study, comparisons=(replace(study.comparisons[0], pixels=True),))
    for planned in plan_runs(study, asked):
        confusion = np.array([[6, 2], [0, 2]]) if planned.seed == 0 else np.array([[8, 0], [0, 2]])
        finish(planned, records, lambda name: 0.5, confusion=confusion if planned.arm.name == "long" else None)
    (asked.out / "study.json").write_text('{"study": "toy"}')
    long, short = run_study(study, asked, silent)["tables"]["lengths"]
    assert long["iou_background_mean"] == pytest.approx((0.75 + 1) / 2)
    assert long["iou_background_deviation"] == pytest.approx(0.25 / math.sqrt(2))
    assert long["iou_lesion_mean"] == pytest.approx(0.75) and long["mean_iou_mean"] == pytest.approx((0.625 + 1) / 2)
    assert long["pixel_accuracy_mean"] == pytest.approx(0.9) and math.isnan(short["pixel_accuracy_mean"])
    page = (asked.out / "lengths.md").read_text()
    assert "| IoU, background | IoU, lesion | IoU, mean | Pixel accuracy |" in page and "over all pixels" in page
    assert "| 0.875 ± 0.177 | 0.750 ± 0.354 | 0.812 ± 0.265 | 0.900 ± 0.141 |" in page


def test_pixels_that_were_not_counted_have_no_columns():
    rows = tables.compare(COMPARISON, {"long": scores_of([[0.5, 0.6]])}, images_of([1, 1]))
    assert "IoU" not in text_of(replace(COMPARISON, pixels=True), rows)
    assert "IoU" not in text_of(COMPARISON, rows) and not tables.counts_pixels(rows)


def test_a_damaged_count_of_pixels_is_refused(records, tmp_path):
    study, asked = toy_study(), options(records, tmp_path / "study", seeds=1)
    run = finish(plan_runs(study, asked)[0], records, lambda name: 0.5)
    (run.evaluation("test") / "metrics.json").write_text('{"confusion": {"iou": [0.5, null]}}')
    (asked.out / "study.json").write_text('{"study": "toy"}')
    with pytest.raises(RunError, match=r"metrics\.json: expected iou"):
        run_study(study, asked, silent)


def test_classes_of_an_image_are_averaged(records, tmp_path):
    from ustoolkit.evaluation.tables import read_rows, write_tables
    from ustoolkit.studies.scores import read_scores, tested_images

    asked = options(records, tmp_path / "study")
    planned = plan_runs(toy_study(), asked)[0]
    run = finish(planned, records, lambda name: 0.4)
    rows = read_rows(run.evaluation("test"))
    write_tables(run.evaluation("test"), [*rows, *({**row, "class": "cyst", "dice": 0.8} for row in rows)], {})
    data = StudyData(asked)
    scores = read_scores([planned], tested_images([planned], data), data)
    assert scores["long"].metrics["dice"] == pytest.approx(0.6) and scores["long"].seeds == (0,)


def test_weights_that_learn_and_the_metrics_asked_for_have_columns():
    comparison = replace(COMPARISON, metrics=("dice", "pixel_error", "adjusted_rand"))
    scores = {"long": scores_of([[0.4, 0.6]]), "short": scores_of([[0.4, 0.6]], learning=40)}
    header, lines = tables.comparison_lines(comparison, tables.compare(comparison, scores, images_of([1, 1])))
    assert header[2:7] == ["Weights", "Learning", "Dice", "Pixel error", "Adjusted Rand"]
    assert lines[0][2:4] == ["1,000", "1,000"] and lines[1][2:7] == ["1,000", "40", "0.500", "0.2500", "0.125"]
    rows = tables.compare(comparison, {"long": scores["long"]}, images_of([1, 1]))
    assert "Learning" not in tables.comparison_lines(comparison, rows)[0]
