"""Folds of a study, and the other images that it repeats on; from hand-made run folders."""

import csv
import math
from collections import Counter
from dataclasses import replace
from statistics import stdev

import pytest

from tests.studies.runs import SETTINGS, begin, finish, finish_all, options, other_records, silent, toy_study
from ustoolkit.data.records import Records
from ustoolkit.data.split import read_splits
from ustoolkit.errors import RecipeError, RecordsError, RunError
from ustoolkit.studies.comparison import SECOND, Arm, Comparison, FusionArm
from ustoolkit.studies.plan import plan_runs
from ustoolkit.studies.runner import run_study
from ustoolkit.studies.stages import commands_of


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return other_records(tmp_path_factory.mktemp("others"), seed=9)


@pytest.fixture
def asked(records, tmp_path):
    return options(records, tmp_path / "study", seeds=2, folds=3)


def two_sets():
    """The toy study, its shorter arm on other images too."""
    study = toy_study()
    arms = tuple(
        Arm(f"{SECOND}-{name}", "demo", (*SETTINGS, f"training.epochs={epochs}"), images=SECOND)
        for name, epochs in (("long", 3), ("short", 1))
    )
    table = Comparison("second-lengths", "Length, other images", (("many", arms[0].name), ("one", arms[1].name)))
    return replace(study, arms=(*study.arms, *arms), comparisons=(*study.comparisons, table))


def written(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_run_a_seed_and_fold_each_on_its_own_split(asked):
    planned = plan_runs(toy_study(), asked)
    names = [f"{arm}/seed{seed}-fold{fold}" for seed in (0, 1) for fold in (1, 2, 3) for arm in ("long", "short")]
    assert [run.name for run in planned] == names
    for run in planned:
        assert run.folder == asked.out / "runs" / run.name and run.recipe.training.seed == run.seed
        assert run.splits == asked.out / "folds" / f"fold{run.fold}.json"
        assert ("--splits", str(run.splits)) in zip(*[iter(commands_of(run, "absent", asked)[0][-2:])] * 2, strict=True)
    assert plan_runs(replace(toy_study(), folds=3), replace(asked, folds=None)) == planned, "the study's own"
    assert [run.fold for run in plan_runs(replace(toy_study(), folds=3), replace(asked, folds=0))] == [0] * 4


def test_every_image_is_tested_once_and_no_patient_is_divided(records, asked):
    begin(toy_study(), asked)
    folds = [read_splits(asked.out / "folds" / f"fold{fold}.json", records) for fold in (1, 2, 3)]
    annotated = {row.source_id for row in records.index if row.lesion_fraction is not None}
    assert Counter(name for fold in folds for name in fold["test"]) == dict.fromkeys(annotated, 1)
    patients = {row.source_id: row.patient_id for row in records.index}
    for fold in folds:
        parts = [{patients[name] for name in names} for names in fold.values()]
        assert all(parts) and sum(map(len, parts)) == len(set().union(*parts))
        assert {name for names in fold.values() for name in names} == annotated


def test_folds_are_drawn_once_and_a_records_folder_needs_no_split(records, asked, tmp_path):
    import shutil

    copy = tmp_path / "records"
    shutil.copytree(records.folder, copy)
    (copy / "splits.json").unlink()
    asked = replace(asked, records=copy)
    begin(toy_study(), asked)
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in sorted((asked.out / "folds").iterdir())]
    begin(toy_study(), asked)
    assert before == [(path.read_bytes(), path.stat().st_mtime_ns) for path in sorted((asked.out / "folds").iterdir())]
    with pytest.raises(RecordsError, match=r"splits\.json"):
        begin(toy_study(), replace(asked, folds=0))


def test_another_number_of_folds_in_the_same_folder_is_refused(asked):
    begin(toy_study(), replace(asked, folds=2))
    kept = (asked.out / "folds" / "fold1.json").read_bytes()
    with pytest.raises(RecordsError, match=r"fold1\.json: expected .*--out"):
        run_study(toy_study(), asked, silent)
    assert (asked.out / "folds" / "fold1.json").read_bytes() == kept
    assert not (asked.out / "folds" / "fold3.json").exists(), "images would be tested more than once"


def test_scores_of_folds_are_joined(records, asked):
    # By hand: each fold's runs have one Dice, of `long` 0.5, 0.6, 0.7 with seed 0 and 0.1 more with seed 1.
    study = toy_study()
    begin(study, asked)
    for run in plan_runs(study, asked):
        value = 0.4 + 0.1 * run.fold + 0.1 * run.seed - (0.2 if run.arm.name == "short" else 0)
        finish(run, records, lambda name, value=value: value)
    result = run_study(study, asked, silent)
    long, short = result["tables"]["lengths"]
    values = [0.5, 0.6, 0.7, 0.6, 0.7, 0.8]
    assert long["runs"] == short["runs"] == 6 and long["seeds"] == 2
    assert long["dice_mean"] == pytest.approx(sum(values) / 6)
    assert long["dice_deviation"] == pytest.approx(stdev(values))
    annotated = [row for row in records.index if row.lesion_fraction is not None]
    assert short["difference"] == pytest.approx(-0.2) and short["images_compared"] == len(annotated)
    assert short["patients_compared"] == len({row.patient_id for row in annotated})
    page = (asked.out / "lengths.md").read_text()
    assert f"{len(annotated)} images of" in page and "each tested in one of 3 folds by patient; 2 seeds" in page
    assert "runs, one a seed and fold" in page and result["folds"] == 3
    sizes = written(asked.out / "lengths-by-size.csv")
    assert sum(int(row["images"]) for row in sizes if row["arm"] == "long") == len(annotated)


def test_a_fold_that_is_not_finished_has_no_say_and_is_listed(records, asked):
    study, asked = toy_study(), replace(asked, seeds=1, only=("long",))
    begin(study, asked)
    for run in plan_runs(study, asked):
        if run.name != "short/seed0-fold2":
            finish(run, records, lambda name, run=run: 0.1 * run.fold)
    rows = run_study(study, asked, silent)["tables"]["lengths"]
    fold = read_splits(asked.out / "folds" / "fold2.json", records)
    assert [row["runs"] for row in rows] == [3, 2] and [row["seeds"] for row in rows] == [1, 1]
    assert rows[1]["dice_mean"] == pytest.approx((0.1 + 0.3) / 2)
    images = sum(row.lesion_fraction is not None for row in records.index)
    assert rows[1]["images_compared"] == images - len(fold["test"]) and rows[1]["difference"] == pytest.approx(0)
    assert "Missing: short/seed0-fold2 (not trained yet)." in (asked.out / "lengths.md").read_text()


def test_images_of_a_missing_fold_are_undefined(records, asked):
    from ustoolkit.studies.scores import read_scores, tested_images
    from ustoolkit.studies.stages import StudyData

    begin(toy_study(), asked)
    planned = [run for run in plan_runs(toy_study(), asked) if run.arm.name == "long" and run.seed == 0]
    for run in planned[:2]:
        finish(run, records, lambda name: 0.5)
    data = StudyData(asked, folds=True)
    images = tested_images(planned, data)
    dice = read_scores(planned[:2], images, data)["long"].metrics["dice"]
    absent = set(data.of(planned[2]).splits["test"])
    assert dice.shape == (1, len(images.source_ids))
    assert [math.isnan(value) for value in dice[0]] == [name in absent for name in images.source_ids]


def test_a_study_that_fuses_is_not_cross_validated(asked):
    study = replace(toy_study(), fusions=(FusionArm("both", ("long", "short"), "equal"),))
    with pytest.raises(RunError, match="--folds 3: the study 'toy' cannot be cross-validated"):
        plan_runs(study, asked)


def test_too_few_patients_for_the_folds_end_with_one_message(asked):
    with pytest.raises(RecordsError, match="patients"):
        run_study(toy_study(), replace(asked, folds=31, seeds=1), silent)


def test_without_other_images_their_arms_are_left_out(records, asked):
    asked = replace(asked, folds=0, seeds=1)
    finish_all(two_sets(), asked, records, lambda arm, seed, name: 0.5)
    result = run_study(two_sets(), asked, silent)
    assert list(result["runs"]) == ["long/seed0", "short/seed0"]
    assert result["tables"].keys() >= {"lengths"} and "second-lengths" not in result["tables"]
    for only in ("second-long", "second-*"):
        with pytest.raises(RecipeError, match=r"needs other images.*--second-records"):
            plan_runs(two_sets(), replace(asked, only=(only,)))
    assert len(plan_runs(two_sets(), replace(asked, only=("*long",)))) == 2, "one of two that are meant is there"


@pytest.mark.parametrize("folds", [0, 2])
def test_other_images_have_tables_of_their_own(records, others, asked, folds):
    asked = replace(asked, folds=folds, seeds=1, second_records=others.folder)
    finish_all(two_sets(), asked, records, lambda arm, seed, name: 0.4 if arm.endswith("short") else 0.5)
    result = run_study(two_sets(), asked, silent)
    assert {run["status"] for run in result["runs"].values()} == {"finished"}
    first, second = (result["tables"][name][1] for name in ("lengths", "second-lengths"))
    assert [first["difference"], second["difference"]] == pytest.approx([-0.1, -0.1])
    counts = [sum(row.lesion_fraction is not None for row in made.index) for made in (records, others)]
    if folds:
        assert [first["images_compared"], second["images_compared"]] == counts
        names = [f"{beginning}fold{fold}.json" for beginning in ("", "second-") for fold in (1, 2)]
        assert sorted(path.name for path in (asked.out / "folds").iterdir()) == names
    else:
        assert second["images_compared"] == len(read_splits(others.folder / "splits.json", others)["test"])
    page = (asked.out / "second-lengths.md").read_text()
    assert f"Test part: {second['images_compared']} images" in page
    runs = {row["run"]: row for row in written(asked.out / "runs.csv")}
    name = next(name for name in runs if name.startswith("second-long"))
    assert Records(asked.records).digest[:12] not in runs[name]["records"]


def test_other_images_that_are_none_end_with_one_message(asked, tmp_path):
    with pytest.raises(RecordsError, match="nowhere"):
        run_study(two_sets(), replace(asked, second_records=tmp_path / "nowhere"), silent)
