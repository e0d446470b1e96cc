import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies
from hypothesis.extra import numpy as numpy_strategies

from tests.studies.classifiers import scored, write_evaluation
from tests.studies.scored_runs import scored_run
from ustoolkit.cli import main
from ustoolkit.errors import DataError, OutputError, RunError
from ustoolkit.evaluation.paired_tests import holm, signed_rank_test
from ustoolkit.evaluation.roc import compare_auc
from ustoolkit.evaluation.statistics import paired_difference
from ustoolkit.evaluation.subgroups import ImageFacts
from ustoolkit.studies.run_sets import RunSet
from ustoolkit.studies.set_comparison import (
    compare_sets,
    format_comparison,
    format_subgroups,
    metrics_of,
    subgroup_rows,
)
from ustoolkit.studies.set_pages import on_what, write_comparison

SCORES = numpy_strategies.arrays(float, (2, 9), elements=strategies.sampled_from([0.1, 0.4, 0.5, 0.9]))
DRAWS = np.random.default_rng(0)
HIGH, LOW = DRAWS.uniform(0.6, 0.9, (3, 24)), DRAWS.uniform(0.3, 0.55, (3, 24))


def run_set(metrics, patients=None, facts=None, **more):
    """A set of runs that all scored the images 0, 1, …"""
    values = {name: np.atleast_2d(np.array(each, float)) for name, each in metrics.items()}
    seeds, count = next(iter(values.values())).shape
    names = tuple(str(number) for number in range(count))
    return RunSet(
        Path("set"),
        "segmentation",
        tuple(Path(f"run{seed}") for seed in range(seeds)),
        tuple(range(seeds)),
        names,
        np.array(names if patients is None else patients),
        tuple(facts or [ImageFacts()] * count),
        (),
        "",
        np.ones((seeds, count), bool),
        values,
        **more,
    )


def classifiers(truth, *probability, patients=None):
    brier = {"brier": (np.array(probability) - np.array(truth)) ** 2}
    more = {"truth": np.array(truth, bool), "probability": np.array(probability), "positive": "malignant"}
    found = run_set(brier, patients, **more)
    return RunSet(**{**vars(found), "kind": "classification"})


def test_numbers_are_those_of_the_paired_difference_and_of_the_test():
    patients = [str(number // 2) for number in range(24)]
    sets = {"first": run_set({"dice": LOW}, patients), "other": run_set({"dice": HIGH}, patients)}
    (row,) = compare_sets(sets)
    difference, test = paired_difference(HIGH, LOW, patients), signed_rank_test(HIGH, LOW, patients)
    assert (row["set"], row["against"], row["metric"], row["seeds"]) == ("other", "first", "dice", 3)
    assert (row["images"], row["patients"]) == (24, 12)
    assert row["mean"] == pytest.approx(HIGH.mean()) and row["mean_against"] == pytest.approx(LOW.mean())
    assert row["difference"] == pytest.approx(HIGH.mean() - LOW.mean()) == pytest.approx(difference.mean)
    assert (row["interval_low"], row["interval_high"]) == (difference.interval_low, difference.interval_high)
    assert (row["p_value"], row["effect_size"]) == (test.p_value, test.effect_size) == (2 / 2**12, 1)
    assert row["p_holm"] == row["p_value"]  # the only test


@pytest.mark.parametrize(
    ("metric", "verdict"),
    [
        ("dice", "better"),
        ("adjusted_rand", "better"),
        ("iou", "better"),
        ("pixel_accuracy", "better"),
        ("pixel_error", "worse"),
        ("hausdorff95_penalised_pixel", "worse"),
        ("hausdorff95_mm", "worse"),
    ],
)
def test_better_means_better(metric, verdict):
    sets = {"first": run_set({metric: LOW}), "other": run_set({metric: HIGH})}
    (row,) = compare_sets(sets, [metric])
    assert row["by_interval"] == row["by_p"] == verdict
    (swapped,) = compare_sets(dict(reversed(sets.items())), [metric])
    assert swapped["by_interval"] == swapped["by_p"] == ({"better", "worse"} - {verdict}).pop()


def test_the_two_verdicts_may_differ():
    first = np.full((1, 20), 0.5)
    once = first.copy()
    once[0, 0] = 0.0  # one large loss beside many small gains
    once[0, 1:] += 0.01
    (row,) = compare_sets({"first": run_set({"dice": first}), "other": run_set({"dice": once})})
    assert row["difference"] < 0 and row["by_interval"] == "undecided" and row["by_p"] == "better"


def test_all_tests_of_a_command_are_one_family():
    names = ("dice", "pixel_error", "adjusted_rand")
    sets = {
        name: run_set({metric: DRAWS.normal(0.5 + shift, 0.1, (2, 12)) for metric in names})
        for name, shift in (("first", 0), ("near", 0.05), ("far", 0.1))
    }
    rows = compare_sets(sets)
    assert [(row["set"], row["metric"]) for row in rows] == [
        (one, metric) for one in ("near", "far") for metric in names
    ]
    assert [row["p_holm"] for row in rows] == pytest.approx(holm([row["p_value"] for row in rows]).tolist())
    assert any(row["p_holm"] > row["p_value"] for row in rows)


@settings(deadline=None, max_examples=25)
@given(SCORES, SCORES)
def test_swapping_two_sets_flips_the_signs(first, second):
    sets = {"a": run_set({"dice": first}), "b": run_set({"dice": second})}
    one, other = compare_sets(sets)[0], compare_sets(dict(reversed(sets.items())))[0]
    assert one["difference"] == pytest.approx(-other["difference"])
    assert one["effect_size"] == pytest.approx(-other["effect_size"])
    assert one["p_value"] == pytest.approx(other["p_value"])


def test_a_set_beside_itself():
    sets = {name: run_set({"dice": HIGH, "pixel_error": LOW}) for name in "ab"}
    for row in compare_sets(sets):
        assert (row["difference"], row["effect_size"], row["p_value"], row["p_holm"]) == (0, 0, 1, 1)
        assert row["by_interval"] == row["by_p"] == "undecided"


def test_means_are_over_the_images_that_both_have_defined():
    first, other = [[0.1, 0.2, math.nan, 0.6]], [[0.3, math.nan, 0.9, 0.7], [0.5, 0.5, 0.5, 0.7]]
    (row,) = compare_sets({"first": run_set({"dice": first}), "other": run_set({"dice": other})})
    assert row["images"] == 2
    assert (row["mean"], row["mean_against"]) == pytest.approx((0.55, 0.35))
    assert row["difference"] == pytest.approx(0.2)


class TestMetrics:
    def test_the_defaults_are_those_that_all_sets_have(self):
        both = {name: [[0.5, 0.5]] for name in ("dice", "iou", "pixel_error", "adjusted_rand")}
        older = {**both, "pixel_error": [[math.nan, math.nan]]}
        assert metrics_of({"a": run_set(both), "b": run_set(both)}) == ("dice", "pixel_error", "adjusted_rand")
        assert metrics_of({"a": run_set(both), "b": run_set(older)}) == ("dice", "adjusted_rand")
        assert metrics_of({"a": run_set(both)}, ["iou", "dice", "iou"]) == ("iou", "dice")

    def test_what_is_not_there_is_said(self):
        sets = {"a": run_set({"dice": [[0.5]], "iou": [[math.nan]]})}
        with pytest.raises(RunError, match=r"'dise': there is no such metric.*'dice'"):
            metrics_of(sets, ["dise"])
        with pytest.raises(RunError, match=r"run0: expected 'iou', found it on no image.*again"):
            metrics_of(sets, ["iou"])


FACTS = [ImageFacts("benign" if number < 8 else "malignant", (number + 1) / 100) for number in range(24)]


class TestSubgroups:
    def test_each_set_in_each_group(self):
        sets = {"first": run_set({"dice": LOW}, facts=FACTS), "other": run_set({"dice": HIGH}, facts=FACTS)}
        rows = subgroup_rows(sets, ["label", "size"])
        assert [(row["group"].split(",")[0], row["set"], row["images"]) for row in rows] == [
            *[("benign", "first", 8), ("benign", "other", 8), ("malignant", "first", 16), ("malignant", "other", 16)],
            *[(size, name, 8) for size in ("small", "medium", "large") for name in ("first", "other")],
        ]
        assert rows[1]["mean"] == pytest.approx(HIGH[:, :8].mean())
        assert rows[1]["mean_low"] < rows[1]["mean"] < rows[1]["mean_high"]
        assert rows[1]["difference"] == pytest.approx(HIGH[:, :8].mean() - LOW[:, :8].mean())
        assert rows[1]["p_value"] == pytest.approx(2 / 2**8) and rows[1]["by_interval"] == rows[1]["by_p"] == "better"
        assert rows[1]["p_holm"] == pytest.approx(4 * 2 / 2**8)  # four groups of eight images are the larger p values
        assert rows[0]["against"] == rows[0]["by_p"] == "" and math.isnan(rows[0]["difference"])
        header, lines = format_subgroups(rows)
        assert all(len(line) == len(header) for line in lines) and len(lines) == len(rows)

    def test_one_set_alone(self):
        rows = subgroup_rows({"only": run_set({"dice": HIGH, "pixel_error": LOW}, facts=FACTS)}, ["label"])
        assert [row["metric"] for row in rows] == ["dice", "dice"]
        header, lines = format_subgroups(rows)
        assert header == ["Group", "Images", "Patients", "Dice (95 % interval)"]
        assert lines[0][:3] == ["label: benign", "8", "8"]
        assert lines[0][3].startswith(f"{HIGH[:, :8].mean():.3f} (")

    def test_several_metrics(self):
        metrics = ["pixel_error", "dice"]
        rows = subgroup_rows({"only": run_set({"dice": HIGH, "pixel_error": LOW}, facts=FACTS)}, ["label"], metrics)
        assert [(row["group"], row["metric"]) for row in rows] == [
            (group, metric) for group in ("benign", "malignant") for metric in metrics
        ]
        header, lines = format_subgroups(rows)
        assert header[:2] == ["Group", "Metric"] and lines[0][1] == "Pixel error"

    def test_nothing_divides_the_images(self):
        assert subgroup_rows({"only": run_set({"dice": HIGH})}) == []
        assert format_subgroups([])[1] == []
        with pytest.raises(DataError, match="'device'"):
            subgroup_rows({"only": run_set({"dice": HIGH})}, ["device"])

    def test_a_group_of_one_patient_has_no_interval(self):
        facts = [ImageFacts("rare"), *[ImageFacts("common")] * 23]
        sets = {name: run_set({"dice": values}, facts=facts) for name, values in (("a", LOW), ("b", HIGH))}
        row = next(row for row in subgroup_rows(sets, ["label"]) if row["group"] == "rare" and row["set"] == "b")
        assert row["patients"] == 1 and math.isnan(row["interval_low"]) and math.isnan(row["p_holm"])
        assert row["by_interval"] == row["by_p"] == ""


class TestClassifiers:
    TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    GOOD = np.array([[0.1, 0.2, 0.1, 0.4, 0.7, 0.9, 0.6, 0.8], [0.3, 0.2, 0.5, 0.2, 0.5, 0.7, 0.8, 0.8]])
    POOR = np.array([0.5, 0.2, 0.7, 0.4, 0.6, 0.3, 0.6, 0.5])
    PATIENTS = ("a", "a", "b", "c", "d", "d", "e", "f")

    def test_areas_are_of_probabilities_averaged_over_seeds(self):
        poor = classifiers(self.TRUTH, self.POOR, patients=self.PATIENTS)
        good = classifiers(self.TRUTH, *self.GOOD, patients=self.PATIENTS)
        image, patient, brier = compare_sets({"poor": poor, "good": good})
        expected = compare_auc(self.TRUTH, self.GOOD.mean(axis=0), self.POOR, np.array(self.PATIENTS))
        assert (image["metric"], image["unit"], image["images"], image["patients"]) == ("roc_auc", "image", 8, 6)
        assert image["difference"] == expected.mean and image["p_value"] == expected.p_value
        assert image["mean"] == 1 and image["mean_against"] == pytest.approx(9.5 / 16)
        assert image["by_interval"] == expected.verdict and math.isnan(image["effect_size"])
        assert (patient["unit"], patient["images"], patient["patients"]) == ("patient", 8, 6)
        assert patient["mean"] == 1 and patient["mean_against"] == pytest.approx(6 / 9)
        assert (brier["metric"], brier["better"], brier["images"]) == ("brier", "lower", 8)
        expected = ((self.GOOD - self.TRUTH) ** 2).mean() - ((self.POOR - self.TRUTH) ** 2).mean()
        assert brier["difference"] == pytest.approx(expected) and brier["effect_size"] < 0
        found = holm([row["p_value"] for row in (image, patient, brier)])
        assert [row["p_holm"] for row in (image, patient, brier)] == pytest.approx(found.tolist())

    def test_one_label_alone_is_undefined(self):
        one = classifiers(np.ones(8), self.POOR)
        image, patient, brier = compare_sets({"a": one, "b": one})
        assert math.isnan(image["difference"]) and image["by_interval"] == image["by_p"] == patient["by_p"] == ""
        assert brier["p_value"] == 1
        assert format_comparison([image])[1][0][5] == "–"

    def test_on_the_command_line(self, tmp_path, capsys):
        for name, probability in (("poor", self.POOR), ("good", self.GOOD[0])):
            write_evaluation(tmp_path / name, scored(self.TRUTH, probability))
        assert main(["compare", str(tmp_path / "poor"), str(tmp_path / "good"), "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        expected = compare_auc(self.TRUTH, self.GOOD[0], self.POOR)
        assert result["by_image"]["difference"] == pytest.approx(expected.mean)
        assert result["by_patient"]["set"] == "good" and result["by_patient"]["against"] == "poor"


@pytest.fixture
def arms(tmp_path, records):
    """Two arms of two seeds, of which the second is better throughout."""
    names = [row.source_id for row in records.index]
    for seed in range(2):
        for arm, shift in (("plain", 0.0), ("better", 0.2)):
            scores = {
                name: {"dice": 0.5 + shift + number / 100, "pixel_error": 0.3 - shift / 2 + number / 100}
                for number, name in enumerate(names)
            }
            scored_run(tmp_path / arm / f"seed{seed}", records, scores, seed)
    return [str(tmp_path / arm) for arm in ("plain", "better")]


class TestTheCommand:
    def test_on_a_terminal(self, arms, capsys):
        assert main(["compare", *arms, "--by", "size"]) == 0
        text = capsys.readouterr().out
        assert text.startswith("better (2 seeds) against plain (2 seeds): 30 images of ")
        dice = next(line for line in text.splitlines() if line.startswith("better  ") and " Dice " in line)
        assert "0.845" in dice and "0.645" in dice and "+0.200" in dice and dice.split()[-2:] == ["better", "better"]
        error = next(line for line in text.splitlines() if "Pixel error" in line and line.startswith("better  "))
        assert "−0.1000" in error and error.split()[-2:] == ["better", "better"]
        assert "size: small, up to" in text and "Lower is better for" in text

    def test_as_files(self, arms, tmp_path, capsys):
        out = tmp_path / "out"
        assert main(["compare", *arms, "--out", str(out), "--metrics", "dice", "pixel_error", "--by", "label"]) == 0
        text = capsys.readouterr().out
        assert sorted(path.name for path in out.iterdir()) == [
            "comparison.csv",
            "comparison.md",
            "comparison.png",
            "comparison.tex",
            "subgroups.csv",
            "subgroups.md",
            "subgroups.tex",
        ]
        with (out / "comparison.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["metric"] for row in rows] == ["dice", "pixel_error"]
        assert float(rows[0]["difference"]) == pytest.approx(0.2)
        assert "| 0.845 | 0.645 |" in (out / "comparison.md").read_text()
        assert "0.845 & 0.645" in (out / "comparison.tex").read_text()
        assert f"tables and figures in {out}" in text
        assert main(["compare", *arms, "--out", str(out)]) == 2
        assert "not empty" in capsys.readouterr().err
        assert main(["compare", *arms, "--out", str(out), "--overwrite"]) == 0
        assert (out / "comparison-pixels.png").is_file()

    def test_repeats_byte_for_byte(self, arms, tmp_path):
        for name in ("one", "two"):
            assert main(["compare", *arms, "--out", str(tmp_path / name), "--metrics", "dice"]) == 0
        for path in (tmp_path / "one").iterdir():
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--metrics", "dise"], "Did you mean 'dice'"),
            (["--by", "vendor"], "'vendor': no image has an attribute of that name"),
            (["--split", "validation"], "expected an evaluation 'validation', found none"),
            (["--records", "nowhere"], "nowhere"),
        ],
    )
    def test_what_is_wrong_is_said(self, arms, capsys, words, message):
        assert main(["compare", *arms, *words]) == 2
        found = capsys.readouterr().err
        assert message in found and found.startswith("ustoolkit: ") and "Traceback" not in found


def test_what_is_left_out_is_said():
    sets = {"first": run_set({"dice": LOW}), "other": run_set({"dice": HIGH})}
    text = on_what(sets, {"first": 0, "other": 1200})
    assert text.endswith("24 images of 24 patients. Images that not every seed of every set scored are left out: "
                         "1,200 of other.")  # fmt: skip
    assert "left out" not in on_what(sets, {"first": 0, "other": 0})


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    sets = {"first": run_set({"dice": LOW}), "other": run_set({"dice": HIGH})}
    with pytest.raises(OutputError, match=r"comparison\.csv"):
        write_comparison(tmp_path, sets, {}, compare_sets(sets), [], overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
