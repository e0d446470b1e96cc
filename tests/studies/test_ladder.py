"""The ladder: what is kept, what follows from it, and when that is known; from hand-made run folders."""

import math
from dataclasses import replace

import pytest

from tests.studies.runs import SETTINGS, begin, finish, ladder_study, options, silent
from ustoolkit.errors import RecipeError, RunError
from ustoolkit.run import Run
from ustoolkit.studies import STUDIES
from ustoolkit.studies.asked import StudyOptions
from ustoolkit.studies.ladder import Climb, validation_dice
from ustoolkit.studies.plan import chosen_runs, plan_runs
from ustoolkit.studies.runner import run_study
from ustoolkit.studies.stages import StudyData, progress_of, survey

FIRST, SECOND, THIRD = "ladder-default", "ladder-slow", "ladder-loss"
SLOW, LOSS = "training.learning_rate=1e-4", "loss.terms={dice=1.0}"


@pytest.fixture
def asked(records, tmp_path):
    made = options(records, tmp_path / "study", seeds=2)
    begin(ladder_study(), made)
    return made


def steps(asked, study=None):
    """Runs of the ladder by step, as planned now."""
    found = {}
    for run in plan_runs(study or ladder_study(), asked):
        found.setdefault(run.arm.name, []).append(run)
    return {name: found[name] for name in (FIRST, SECOND, THIRD)}


def climb(asked, records, validated, tested=lambda step: 0.5):
    """Finishes the steps one after the other, with a validation Dice for each seed."""
    for step, values in validated.items():
        for run, value in zip(steps(asked)[step], values, strict=True):
            finish(run, records, lambda name, step=step: tested(step), best_validation_dice=value)


def test_only_the_first_step_is_known_at_first(asked):
    planned = steps(asked)
    assert [run.undecided for runs in planned.values() for run in runs] == [False] * 2 + [True] * 4
    names = [run.name for run in plan_runs(ladder_study(), asked)]
    assert names[:3] == [f"{FIRST}/seed0", f"{FIRST}/seed1", f"{SECOND}/seed0"] and names[6] == "plain/seed0"
    assert planned[FIRST][0].after == () and planned[SECOND][1].after == (f"{FIRST}/seed0", f"{FIRST}/seed1")
    assert len(planned[THIRD][0].after) == 4
    assert planned[FIRST][1].overrides == (*SETTINGS, "training.epochs=1", "training.seed=1")


@pytest.mark.parametrize(
    ("validated", "kept", "overrides"),
    [
        ({FIRST: (0.5, 0.7), SECOND: (0.6, 0.8)}, [True, True], (SLOW, LOSS)),
        ({FIRST: (0.5, 0.7), SECOND: (0.9, 0.2)}, [True, False], (LOSS,)),
        ({FIRST: (0.5, 0.7), SECOND: (0.7, 0.5)}, [True, False], (LOSS,)),
        ({FIRST: (0.0, 0.0), SECOND: (0.0, 0.0)}, [True, False], (LOSS,)),
    ],
    ids=["higher", "lower on average", "a tie", "a tie at zero"],
)
def test_a_step_is_kept_where_its_mean_on_validation_is_higher(asked, records, validated, kept, overrides):
    # The test part says the opposite each time, and has no say.
    climb(asked, records, validated, lambda step: {FIRST: 0.1, SECOND: 0.9 if not kept[1] else 0.0}[step])
    third = steps(asked)[THIRD][0]
    assert not third.undecided
    assert third.overrides == (*SETTINGS, "training.epochs=1", *overrides, "training.seed=0")
    assert (third.recipe.training.learning_rate == 1e-4) == kept[1]
    result = run_study(ladder_study(), replace(asked, only=(FIRST,)), silent)
    rows = result["tables"]["ladder"]
    assert [row["kept"] for row in rows] == [*kept, None]
    assert rows[1]["validation_dice"] == pytest.approx(sum(validated[SECOND]) / 2)


def test_what_was_kept_last_is_what_counts(asked, records):
    climb(asked, records, {FIRST: (0.5, 0.5), SECOND: (0.9, 0.9), THIRD: (0.7, 0.7)}, lambda step: 0.5)
    rows = run_study(ladder_study(), replace(asked, only=("ladder-*",)), silent)["tables"]["ladder"]
    assert [row["kept"] for row in rows] == [True, True, False]
    assert [row["arm"] for row in rows] == [FIRST, SECOND, THIRD] and [row["runs"] for row in rows] == [2, 2, 2]


def test_changes_are_against_what_was_kept_before(asked, records):
    # The second step is dropped, so that the third is compared with the first: 0.55 less 0.4.
    dice = {FIRST: 0.4, SECOND: 0.3, THIRD: 0.55}
    climb(asked, records, {FIRST: (0.5, 0.5), SECOND: (0.4, 0.4), THIRD: (0.6, 0.6)}, dice.get)
    rows = run_study(ladder_study(), replace(asked, only=("ladder-*",)), silent)["tables"]["ladder"]
    assert math.isnan(rows[0]["difference"])
    assert [row["difference"] for row in rows[1:]] == pytest.approx([-0.1, 0.15])
    assert [row["dice_mean"] for row in rows] == pytest.approx([0.4, 0.3, 0.55])
    page = (asked.out / "ladder.md").read_text()
    assert f"| + slower | {SLOW} | 2 | 0.400 | no | 0.300 ± 0.000 | −0.100 (−0.100 to −0.100) |" in page
    assert "the test part has no say" in page
    assert rows[2]["change"] == LOSS and rows[1]["change"] == SLOW


def test_undecided_until_every_run_of_the_step_before_is_finished(asked, records):
    first = steps(asked)[FIRST]
    finish(first[0], records, lambda name: 0.5, best_validation_dice=0.5)
    assert steps(asked)[SECOND][0].undecided
    finish(first[1], records, lambda name: 0.5, status="training", best_validation_dice=0.5)
    assert steps(asked)[SECOND][0].undecided and math.isnan(validation_dice(first))
    Run(first[1].folder).update(status="finished")
    second = steps(asked)[SECOND]
    assert not second[0].undecided and steps(asked)[THIRD][0].undecided
    assert validation_dice(first) == pytest.approx(0.5)
    assert second[0].overrides == (*SETTINGS, "training.epochs=1", SLOW, "training.seed=0")


def test_undecided_runs_count_as_absent_and_say_nothing_in_the_table(asked, records):
    climb(asked, records, {FIRST: (0.5, 0.5), SECOND: (0.6, 0.6)})
    (steps(asked)[FIRST][0].folder / "run.json").unlink()
    planned = plan_runs(ladder_study(), asked)
    found = survey(planned, StudyData(asked))
    assert {found[f"{SECOND}/seed{seed}"] for seed in (0, 1)} == {("absent", "")}
    for run in planned[-4:]:
        finish(run, records, lambda name: 0.5)
    rows = run_study(ladder_study(), replace(asked, only=("plain",)), silent)["tables"]["ladder"]
    assert rows[0]["runs"] == 1 and rows[0]["kept"] is None and math.isnan(rows[1]["validation_dice"])


def test_a_step_that_was_trained_anew_changes_what_follows(asked, records):
    climb(asked, records, {FIRST: (0.5, 0.5), SECOND: (0.6, 0.6), THIRD: (0.7, 0.7)})
    data, third = StudyData(asked), steps(asked)[THIRD][0]
    assert progress_of(third, data)[0] == "finished"
    for run in steps(asked)[FIRST]:
        finish(run, records, lambda name: 0.5, best_validation_dice=0.65)
    again = steps(asked)[THIRD][0]
    stage, why = progress_of(again, data)
    assert stage == "different" and "training.learning_rate is 0.0001 there, 0.01 is asked" in why
    with pytest.raises(RunError, match=r"ladder-loss/seed0: this run is not what is asked.*--overwrite"):
        run_study(ladder_study(), asked, silent)


def test_steps_of_another_study_or_of_other_settings_do_not_count(asked, records):
    climb(asked, records, {FIRST: (0.5, 0.5)})
    other = steps(asked, ladder_study(epochs=2))
    assert math.isnan(validation_dice(other[FIRST])) and other[SECOND][0].undecided


def test_only_a_step_brings_those_before_it(asked):
    planned = plan_runs(ladder_study(), asked)
    names = [run.name for run in chosen_runs(planned, (SECOND,))]
    assert names == [f"{step}/seed{seed}" for step in (FIRST, SECOND) for seed in (0, 1)]
    assert {run.arm.name for run in chosen_runs(planned, ("ladder-*",))} == {FIRST, SECOND, THIRD}


def test_the_ladder_itself_may_not_be_changed_and_all_else_may(asked):
    with pytest.raises(RecipeError, match=r"loss\.terms: the study 'rungs' sets loss\.terms itself"):
        plan_runs(ladder_study(), replace(asked, changes=("loss.terms={focal=1.0}",)))
    planned = plan_runs(ladder_study(), replace(asked, changes=("augmentation.zoom=0.05",)))
    assert {run.recipe.augmentation.zoom for run in planned} == {0.05}


def test_what_the_user_sets_is_stronger_than_what_a_step_sets_for_previews(tmp_path):
    study = STUDIES["light-unet"]
    for changes, epochs in (((), 16), (("training.epochs=1",), 1)):
        asked = StudyOptions(tmp_path, tmp_path, seeds=1, preview=True, changes=changes)
        first = plan_runs(study, asked)[0]
        assert first.recipe.training.epochs == epochs and first.recipe.training.learning_rate == 1e-2
        climb = Climb(study.ladder, asked)
        assert ("training.epochs=16" in climb.next_step().overrides) == (not changes)
    assert plan_runs(study, StudyOptions(tmp_path, tmp_path, seeds=1))[0].recipe.training.learning_rate == 1e-3


def test_folds_and_seeds_have_a_say_alike(asked, records):
    asked = replace(asked, folds=2)
    begin(ladder_study(), asked)
    planned = steps(asked)
    assert [run.name for run in planned[FIRST]] == [
        f"{FIRST}/seed{seed}-fold{fold}" for seed in (0, 1) for fold in (1, 2)
    ]
    for run, value in zip(planned[FIRST], (0.2, 0.4, 0.6, 0.8), strict=True):
        finish(run, records, lambda name: 0.5, best_validation_dice=value)
    assert validation_dice(planned[FIRST]) == pytest.approx(0.5)
    assert len(steps(asked)[SECOND]) == 4 and not steps(asked)[SECOND][3].undecided


def test_a_step_without_a_validated_score_decides_nothing_and_trains_nothing(asked, records):
    climb(asked, records, {FIRST: (0.5, math.nan)})
    with pytest.raises(RunError, match=r"ladder-slow/seed0: its settings depend on ladder-default/seed0, .*Remove"):
        run_study(ladder_study(), replace(asked, only=(SECOND,)), silent)
    assert not (asked.out / "runs" / SECOND).exists()
