"""Pre-training and the CRF in a study: what is planned, in which order, and what is kept."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.studies.runs import finish, options, other_records, starts_study
from ustoolkit.errors import RecipeError, RecordsError, RunError
from ustoolkit.files import read_json, write_json
from ustoolkit.run import Run
from ustoolkit.studies import STUDIES
from ustoolkit.studies.asked import StudyOptions
from ustoolkit.studies.plan import chosen_runs, plan_runs
from ustoolkit.studies.runner import run_study
from ustoolkit.studies.stages import StudyData, commands_of, progress_of, survey


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return other_records(tmp_path_factory.mktemp("others"))


@pytest.fixture
def asked(records, others, tmp_path):
    return options(records, tmp_path / "study", seeds=1, pretraining_records=others.folder)


def by_name(asked, study=None):
    return {run.name: run for run in plan_runs(study or starts_study(), asked)}


def finish_everything(asked, records, others, **changes):
    runs = by_name(asked)
    for run in runs.values():
        finish(run, others if run.pretraining else records, lambda name: 0.5, **changes)
    (asked.out / "study.json").write_text('{"study": "starts"}')
    return runs


def set_started(folder, when):
    state = read_json(folder / "run.json", RunError, "")
    write_json(folder / "run.json", {**state, "started": when})


@pytest.mark.parametrize("preview", [False, True])
def test_networks_of_the_deeplab_study_are_those_that_were_pre_trained(preview, tmp_path):
    asked = StudyOptions(tmp_path, tmp_path, seeds=1, preview=preview, pretraining_records=tmp_path)
    planned = by_name(asked, STUDIES["deeplab"])
    started = [run for run in planned.values() if run.needs]
    assert len(started) == 7 and len(planned) == 7 + 7 + 7 + 6
    for run in started:
        scratch = planned[run.name.replace("-pretrained", "")].recipe
        first = planned[run.needs[0]].recipe
        assert first.model == run.recipe.model == scratch.model
        assert first.data.channels == scratch.data.channels
        assert first.training.learning_rate == scratch.training.learning_rate
        assert Path(run.recipe.training.initial_weights) == planned[run.needs[0]].folder.resolve()
        off = run.recipe.training.model_copy(update={"initial_weights": "off"})
        assert run.recipe.model_copy(update={"training": off}) == scratch, "more than the start differs"


@pytest.mark.parametrize("preview", [False, True])
def test_arms_of_the_deeplab_study_differ_in_the_network_and_its_rate_alone(preview, tmp_path):
    asked = StudyOptions(tmp_path, tmp_path, seeds=1, preview=preview)
    planned = plan_runs(STUDIES["deeplab"], asked)
    recipes = {run.arm.name: run.recipe for run in planned if not run.arm.images}
    assert list(recipes) == ["unet", "fcn-32s", "fcn-16s", "fcn-8s", "deeplab-v2", "deeplab-v3", "deeplab-v3-plus"]
    by_network = {"learning_rate", "epochs", "stop_patience"}
    for name, recipe in recipes.items():
        for table in ("data", "loss", "augmentation", "inference"):
            assert getattr(recipe, table) == getattr(recipes["unet"], table)
        # FCN has no batch normalization, and its preview says that it wants a slower rate, and longer.
        apart = by_network if preview and name.startswith("fcn") else set()
        assert recipe.training.model_dump(exclude=apart) == recipes["unet"].training.model_dump(exclude=apart)
        if hasattr(recipe.model, "backbone"):
            assert recipe.model.backbone == ("resnet50" if preview else "resnet101")
    assert recipes["deeplab-v2"].model.branch_widths == ((64, 64) if preview else (4096, 1024))
    assert [recipes[name].model.name for name in ("deeplab-v3", "deeplab-v2")] == ["deeplab_v3", "deeplab_v2"]
    prepared = [run for run in planned if run.arm.images]
    assert len(prepared) == 6
    for run in prepared:  # nothing but the images
        assert run.recipe == recipes[run.arm.name.removesuffix(f"-{run.arm.images}")]
        assert run.records == tmp_path / "preparations" / run.arm.images and run.splits == tmp_path / "splits.json"


def test_pre_training_comes_first_and_once_with_the_network_of_its_arm(asked):
    runs = by_name(replace(asked, seeds=2))
    assert list(runs) == ["pretraining/other", "scratch/seed0", "started/seed0", "scratch/seed1", "started/seed1"]
    first = runs["pretraining/other"]
    assert first.folder == asked.out / "pretraining" / "other" and first.records == asked.pretraining_records
    assert first.recipe.model == runs["started/seed1"].recipe.model != runs["scratch/seed0"].recipe.model
    assert dict(first.recipe.loss.terms) == {"cross_entropy": 1.0}
    assert [run.needs for run in runs.values()] == [(), (), ("pretraining/other",), (), ("pretraining/other",)]


def test_changes_reach_pre_training_unless_it_sets_them_itself(asked):
    runs = by_name(replace(asked, changes=("loss.terms={focal=1.0}", "augmentation.zoom=0.05")))
    assert {run.recipe.augmentation.zoom for run in runs.values()} == {0.05}
    assert [list(run.recipe.loss.terms) for run in runs.values()] == [["cross_entropy"], ["focal"], ["focal"]]


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (("scratch",), ["scratch/seed0"]),
        (("started",), ["pretraining/other", "started/seed0"]),
        (("pretraining/other",), ["pretraining/other"]),
    ],
)
def test_only_brings_what_an_arm_starts_from(asked, only, names):
    planned = plan_runs(starts_study(), replace(asked, only=only))
    assert [run.name for run in chosen_runs(planned, only)] == names


@pytest.mark.parametrize("only", ["started", "pretraining/other"])
def test_without_records_to_pre_train_on_such_arms_are_refused_by_name(asked, only):
    with pytest.raises(RecipeError, match="--pretraining-records"):
        plan_runs(starts_study(), replace(asked, only=(only,), pretraining_records=None))


def test_without_records_to_pre_train_on_the_others_make_the_tables(records, asked):
    asked = replace(asked, pretraining_records=None)
    runs = by_name(asked)
    assert list(runs) == ["scratch/seed0"]
    finish(runs["scratch/seed0"], records, lambda name: 0.5)
    (asked.out / "study.json").write_text('{"study": "starts"}')
    result = run_study(starts_study(), asked, print)
    assert list(result["runs"]) == ["scratch/seed0"]
    page = (asked.out / "starts.md").read_text()
    assert "Not trained: started. They need --pretraining-records." in page and "| started |" not in page


def test_records_to_pre_train_on_that_are_none_end_with_one_message(asked, tmp_path):
    with pytest.raises(RecordsError, match="nowhere"):
        run_study(starts_study(), replace(asked, pretraining_records=tmp_path / "nowhere"), print)


def test_the_start_may_not_be_changed(asked):
    with pytest.raises(RecipeError, match="initial_weights itself"):
        plan_runs(starts_study(), replace(asked, changes=("training.initial_weights=x",)))


def test_a_run_with_a_crf_goes_through_its_stages(records, others, asked):
    planned, data = by_name(asked)["scratch/seed0"], StudyData(asked)
    train, tune, evaluate = commands_of(planned, "absent", asked, workers=3)
    assert train[0] == "train" and tune[0] == "tune-crf" and evaluate[0] == "evaluate" and "--crf" in evaluate
    assert " ".join(tune).endswith("--trials 2 --images 3 --workers 3") and evaluate[-2:] == ("--workers", "3")
    run = finish(planned, records, lambda name: 0.5, scored=False)
    assert progress_of(planned, data)[0] == "trained"
    assert commands_of(planned, "trained", asked, workers=3) == (tune, evaluate)
    run.keep_tuned("threshold", {"threshold": 0.4}, {})
    assert progress_of(planned, data)[0] == "trained", "a threshold is no CRF"
    run.keep_tuned("crf", {"crf": {"iterations": 3}}, {})
    assert progress_of(planned, data)[0] == "tuned"
    assert commands_of(planned, "tuned", asked, workers=3) == (evaluate,)
    # Scored before the study had a CRF: both are due, and the network need not be trained again.
    other = by_name(asked)["started/seed0"]
    finish(replace(other, crf=None), records, lambda name: 0.5)
    assert progress_of(other, data)[0] == "trained" and progress_of(replace(other, crf=None), data)[0] == "finished"


def test_pre_training_is_not_scored(others, asked):
    planned, data = by_name(asked)["pretraining/other"], StudyData(asked)
    commands = commands_of(planned, "absent", asked)
    assert [command[0] for command in commands] == ["train"] and str(others.folder) in commands[0]
    assert "--splits" not in commands[0]
    finish(planned, others, lambda name: 0.5, status="training")
    assert progress_of(planned, data)[0] == "begun" and "--resume" in commands_of(planned, "begun", asked)[0]
    Run(planned.folder).update(status="finished")
    assert progress_of(planned, data)[0] == "finished" and commands_of(planned, "finished", asked) == ()


def test_what_started_from_another_pre_training_is_different(records, others, asked):
    runs, data = finish_everything(asked, records, others), StudyData(asked)
    assert {stage for stage, _ in survey(list(runs.values()), data).values()} == {"finished"}
    set_started(runs["pretraining/other"].folder, "2999-01-01T00:00:00+00:00")
    stage, why = survey(list(runs.values()), data)["started/seed0"]
    assert stage == "different" and "trained anew" in why
    with pytest.raises(RunError, match=r"seed0.*trained anew.*--overwrite"):
        run_study(starts_study(), asked, print)
    changed = list(by_name(asked, starts_study(pretraining_epochs=2)).values())
    found = survey(changed, data)
    assert [found[name][0] for name in found] == ["different", "finished", "different"]
    assert "training.epochs is 1 there, 2 is asked" in found["started/seed0"][1]


def test_a_study_that_was_moved_goes_on(records, others, asked, tmp_path):
    finish_everything(asked, records, others)
    moved = replace(asked, out=tmp_path / "elsewhere")
    asked.out.rename(moved.out)
    found = survey(plan_runs(starts_study(), moved), StudyData(moved))
    assert {stage for stage, _ in found.values()} == {"finished"}


def test_a_finished_study_keeps_going_without_its_pre_training(records, others, asked):
    import shutil

    runs = finish_everything(asked, records, others)
    shutil.rmtree(runs["pretraining/other"].folder)
    result = run_study(starts_study(), asked, print)
    assert result["runs"]["started/seed0"]["status"] == "finished"
    assert not runs["pretraining/other"].folder.exists(), "it was trained again for nothing"


def test_each_crf_is_compared_with_its_own_arm(records, others, asked):
    runs = by_name(asked)
    finish(runs["pretraining/other"], others, lambda image: 0.5)  # first, since what starts from it is younger
    for name, gain in {"scratch/seed0": 0.1, "started/seed0": -0.2}.items():
        finish(runs[name], records, lambda image: 0.5, crf_gain=gain)
    (asked.out / "study.json").write_text('{"study": "starts"}')
    rows = run_study(starts_study(), asked, print)["tables"]
    found = [(row["arm"], row["verdict"]) for row in rows["crf"]]
    assert found == [
        ("scratch", "baseline"),
        ("scratch+crf", "better"),
        ("started", "baseline"),
        ("started+crf", "worse"),
    ]
    assert [rows["crf"][index]["difference"] for index in (1, 3)] == pytest.approx([0.1, -0.2])
    differences = [row["difference"] for row in rows["crf-by-size"] if row["arm"] == "started+crf"]
    assert differences == pytest.approx([-0.2] * 3)
    assert "Dice against its baseline" in (asked.out / "crf.md").read_text()
    assert "Dice against the first" in (asked.out / "starts.md").read_text()


@pytest.mark.slow
def test_a_study_with_pre_training_and_crf_from_end_to_end(records, others, asked):
    lines, study = [], starts_study()
    result = run_study(study, asked, lambda line, changed: lines.append(line))
    assert {run["status"] for run in result["runs"].values()} == {"finished"}, result["runs"]
    assert "running: pretraining/other, scratch/seed0;" in lines[0]
    started = Run(asked.out / "runs" / "started" / "seed0")
    assert started.trained_on >= Run(asked.out / "pretraining" / "other").trained_on
    assert all(row["seeds"] == 1 and 0 <= row["pixel_accuracy_mean"] <= 1 for row in result["tables"]["crf"])
    before = {path.name: path.read_text() for path in asked.out.glob("*.*")}
    lines.clear()
    run_study(study, asked, lambda line, changed: lines.append(line))
    assert not lines and {path.name: path.read_text() for path in asked.out.glob("*.*")} == before
    # The evaluation with the CRF lost: only it is made again.
    weights = started.best_weights.stat().st_mtime_ns
    (started.evaluation("test-crf") / "metrics.json").unlink()
    run_study(study, asked, lambda line, changed: None)
    assert started.best_weights.stat().st_mtime_ns == weights
    assert (started.evaluation("test-crf") / "metrics.json").is_file()


@pytest.mark.slow
def test_a_pre_training_that_fails_takes_only_its_arms_with_it(records, asked):
    study = starts_study()
    broken = replace(study.pretraining[0], overrides=(*study.pretraining[0].overrides, "training.learning_rate=1e30"))
    study = replace(study, pretraining=(broken,), crf=None)
    study = replace(study, comparisons=study.comparisons[1:])
    runs = run_study(study, asked, lambda line, changed: None)["runs"]
    assert runs["pretraining/other"]["status"] == "failed" and "the loss is" in runs["pretraining/other"]["error"]
    assert runs["started/seed0"]["status"] == "failed" and "pretraining/other failed" in runs["started/seed0"]["error"]
    assert runs["scratch/seed0"]["status"] == "finished"
