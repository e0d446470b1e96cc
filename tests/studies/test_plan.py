"""Which runs a study has, and what lies there already."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.studies.runs import finish, options, toy_study
from ustoolkit.errors import OutputError, RecipeError, RunError
from ustoolkit.files import read_json, write_json
from ustoolkit.run import Run
from ustoolkit.studies import STUDIES
from ustoolkit.studies.asked import StudyOptions
from ustoolkit.studies.plan import chosen_runs, plan_runs
from ustoolkit.studies.runner import progress_line, run_study
from ustoolkit.studies.stages import StudyData, clear_begun, commands_of, progress_of


@pytest.fixture
def asked(records, tmp_path):
    return options(records, tmp_path / "study")


def progress(planned, asked):
    return progress_of(planned, StudyData(asked))


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES.keys())
def test_studies_have_valid_recipes_and_every_arm_in_a_table(study, preview, tmp_path):
    asked = StudyOptions(
        tmp_path, tmp_path, seeds=1, preview=preview, pretraining_records=tmp_path, second_records=tmp_path
    )
    planned = [run for run in plan_runs(study, asked) if not run.pretraining and run.fold in (0, 1)]
    names = [run.arm.name for run in planned]
    shown = {arm for comparison in study.comparisons for arm in comparison.trained}
    shown |= {step.name for step in study.ladder.steps} if study.ladder else set()
    assert len(set(names)) == len(names) and study.description
    # Some groups of channels are the same in previews, and trained at full size only.
    shown -= {arm.name for arm in study.arms if preview and arm.full_size}
    assert shown <= set(names) and (set(names) == shown or study.tabulate)
    assert not study.ladder or len(study.ladder.steps) == len(set(study.ladder.labels))
    for comparison in study.comparisons:
        labels = [label for label, _ in comparison.arms]
        assert len(set(labels)) == len(labels) > 1
        runs = {run.arm.name: run for run in planned if run.arm.name in comparison.trained}
        kinds = {(run.recipe.model_dump_json(), run.records) for run in runs.values()}
        assert len(kinds) == len(runs) > 1, "two arms are the same"


def test_segmentation_arms_of_the_lymph_node_study_change_what_their_names_say(tmp_path):
    planned = plan_runs(STUDIES["lymph-node"], StudyOptions(tmp_path, tmp_path, seeds=1))
    recipes = {run.arm.name: run.recipe for run in planned if run.arm.recipe == "lymph_node_unet"}
    plain = recipes["relu-equal-1"]
    assert len(recipes) == 4 * 2 * 2
    for name, recipe in recipes.items():
        activation, weights, scales = name.split("-")
        model = plain.model.model_copy(update={"activation": activation, "scales": int(scales)})
        loss = plain.loss.model_copy(update={"class_weights": weights})
        assert recipe == plain.model_copy(update={"model": model, "loss": loss})


def test_blocks_from_either_end_of_the_fine_tuning_study_make_up_the_network(tmp_path):
    planned = plan_runs(STUDIES["fine-tuning"], StudyOptions(tmp_path, tmp_path, seeds=1, pretraining_records=tmp_path))
    opened = {run.arm.name: run.recipe.training.open_layers for run in planned if run.fold == 1}
    whole = {*opened["shallow-8"], *opened["deep-8"]}
    assert len(whole) == 9 and opened["deep-1"] == ("decoder0",)
    for count in range(1, 9):
        shallow, deep = set(opened[f"shallow-{count}"]), set(opened[f"deep-{9 - count}"])
        assert not shallow & deep and shallow | deep == whole
    assert opened["shallow-5"] == tuple(f"encoder{level}" for level in range(5)), "the contracting part"
    assert opened["all"] == opened["scratch"] == "all" and len(opened) == 18
    by_name = {run.arm.name: run for run in planned}
    assert not by_name["scratch"].needs and by_name["all"].needs == ("pretraining/natural",)


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (("l*",), ["long/seed0"]),
        (("*o*",), ["long/seed0", "short/seed0"]),
        (("short", "[k-m]ong"), ["long/seed0", "short/seed0"]),
        (("?????",), ["short/seed0"]),
    ],
)
def test_arms_are_chosen_by_patterns(asked, only, names):
    planned = plan_runs(toy_study(), replace(asked, seeds=1, only=only))
    assert [run.name for run in chosen_runs(planned, only)] == names


def test_arms_of_a_published_study_are_chosen_by_patterns(tmp_path):
    study, asked = STUDIES["deeplab"], StudyOptions(tmp_path, tmp_path, seeds=1, pretraining_records=tmp_path)
    chosen = {run.name for run in chosen_runs(plan_runs(study, asked), ("unet-*", "fcn-8s"))}
    images = {"gaussian", "morphology", "gaussian-morphology", "pretrained"}
    assert chosen == {*(f"unet-{name}/seed0" for name in images), "fcn-8s/seed0", "pretraining/unet"}


def test_seed_by_seed_over_all_arms(asked):
    names = [run.name for run in plan_runs(toy_study(), asked)]
    assert names == ["long/seed0", "short/seed0", "long/seed1", "short/seed1"]
    assert [run.recipe.training.seed for run in plan_runs(toy_study(), asked)] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"only": ("shrot",)}, "Did you mean 'short'"),
        ({"only": ("long", "s?rt*")}, r"--only s\?rt\*: .*no such arm"),
        ({"folds": 1}, "--folds 1: expected 2 to"),
        ({"folds": 2, "splits": Path("mine.json")}, r"--splits mine\.json: folds are drawn anew.*--folds 0"),
        ({"changes": ("training.seed=4",)}, "sets training.seed itself"),
        ({"changes": ("training.epochs=4",)}, "sets training.epochs itself"),
        ({"changes": ("training={}",)}, "itself"),
        ({"changes": ("model.name=light_unet",)}, "--set model.name: the study 'toy' sets model.widths itself"),
        ({"changes": ("training.epoch=4",)}, "no such setting"),
        ({"seeds": 0}, "expected 1 to"),
    ],
)
def test_wrong_wishes_are_refused(asked, changes, message):
    with pytest.raises((RecipeError, RunError), match=message):
        plan_runs(toy_study(), replace(asked, **changes))


def test_a_run_goes_through_its_stages(records, asked):
    planned = plan_runs(toy_study(), asked)[0]
    assert progress(planned, asked)[0] == "absent"
    train, evaluate = commands_of(planned, "absent", asked)
    assert train[:2] == ("train", "demo") and "training.seed=0" in train and "--resume" not in train
    run = finish(planned, records, lambda name: 0.5, status="training", scored=False)
    assert progress(planned, asked)[0] == "begun"
    assert "--resume" in commands_of(planned, "begun", asked)[0] and evaluate[0] == "evaluate"
    run.update(status="finished")
    assert progress(planned, asked)[0] == "trained" and commands_of(planned, "trained", asked) == (evaluate,)
    finish(plan_runs(toy_study(), asked)[1], records, lambda name: 0.5)
    assert progress(plan_runs(toy_study(), asked)[1], asked)[0] == "finished"


def test_a_run_of_another_recipe_is_refused_and_trained_again_only_on_wish(records, asked):
    finish(plan_runs(toy_study(long_epochs=3), asked)[0], records, lambda name: 0.5)
    (asked.out / "study.json").write_text('{"study": "toy"}')
    planned = plan_runs(toy_study(long_epochs=4), asked)[0]
    state, difference = progress(planned, asked)
    assert state == "different" and difference == "training.epochs is 3 there, 4 is asked"
    assert "--overwrite" in commands_of(planned, state, asked)[0]
    with pytest.raises(RunError, match=r"seed0.*training\.epochs is 3 there.*--overwrite"):
        run_study(toy_study(long_epochs=4), asked, print)
    assert Run(planned.folder).recipe.training.epochs == 3


def test_an_arm_that_failed_before_does_not_fail_those_that_are_asked_for_now(records, asked):
    asked = replace(asked, seeds=1, only=("short",))
    finish(plan_runs(toy_study(), asked)[1], records, lambda name: 0.5)
    failed = {"status": "failed", "seconds": 1.0, "error": "the loss is nan"}
    write_json(asked.out / "study.json", {"study": "toy", "runs": {"long/seed0": failed}})
    runs = run_study(toy_study(), asked, lambda line, changed: None)["runs"]
    assert runs["short/seed0"]["status"] == "finished" and runs["long/seed0"] == failed


def test_a_run_on_another_split_or_a_damaged_one_is_different(records, asked):
    planned = plan_runs(toy_study(), asked)[0]
    finish(planned, records, lambda name: 0.5)
    splits = read_json(planned.folder / "splits.json", RunError, "")
    moved = splits["parts"]["test"].pop()
    splits["parts"]["train"].append(moved)
    write_json(planned.folder / "splits.json", splits)
    assert progress(planned, asked) == ("different", "it was trained on another split")
    (planned.folder / "recipe.toml").write_text("[model]\nwrong = 1")
    assert progress(planned, asked)[0] == "different"


def test_a_run_killed_at_its_very_beginning_is_begun_again(tmp_path):
    folder, mine = tmp_path / "seed0", tmp_path / "mine"
    for path in (folder, mine):
        path.mkdir()
        (path / "recipe.toml").write_text("")
        (path / ".manifest.json.x1").write_text("")
    (mine / "letter.txt").write_text("dear")
    clear_begun(folder)
    clear_begun(mine)
    assert not folder.exists() and (mine / "letter.txt").is_file()


def test_a_folder_of_something_else_is_left_alone(asked):
    asked.out.mkdir()
    (asked.out / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="not empty"):
        run_study(toy_study(), asked, print)
    (asked.out / "study.json").write_text('{"study": "other"}')
    with pytest.raises(OutputError, match="expected the study 'toy', found 'other'"):
        run_study(toy_study(), replace(asked, folds=2), print)
    assert not (asked.out / "folds").exists()


def test_the_progress_line_says_what_is_done_what_runs_and_how_long():
    statuses = {"a/seed0": "finished", "b/seed0": "failed", "a/seed1": "waiting", "b/seed1": "waiting"}
    assert progress_line(statuses, {"a/seed1": 60.0}, {}, 1) == (
        "1 of 4 runs done, 1 failed; running: a/seed1; time left is known when the first ends"
    )
    # a/seed1 takes the 600 s of a/seed0, of which 60 are over; b/seed1 the mean of all, 600 s: 1140 s on two jobs.
    assert progress_line(statuses, {"a/seed1": 60.0}, {"a/seed0": 600.0}, 2).endswith("; about 10 min left")
    hours = progress_line(statuses, {}, {"a/seed0": 3600.0}, 1)
    assert hours.endswith("; about 2 h 0 min left") and "running" not in hours
    assert progress_line({"a/seed0": "finished"}, {}, {}, 1) == "1 of 1 runs done"
