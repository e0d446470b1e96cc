"""A search of hyper-parameters: what is tried, ended, taken up and refused, with trainings that only leave folders."""

import csv
import json
import math
from dataclasses import replace

import pytest

from tests.studies.search_runs import RATES, TINY, Trainings, asked, rising
from ustoolkit.errors import OutputError, RecipeError, RunError
from ustoolkit.files import locked_folder
from ustoolkit.recipe import load_recipe
from ustoolkit.report.search_figures import TrialPoint, search_figure
from ustoolkit.run import Run
from ustoolkit.studies.search_results import best_trial


def by_decay(recipe):
    """Best with a weight decay of 1e-4, and the worse the further from it."""
    best = {1e-2: 0.2, 1e-3: 0.5, 1e-4: 0.8, 1e-5: 0.6, 0.0: 0.4}
    return rising(best[recipe.training.weight_decay])


def by_rate(recipe):
    """Best with a rate of 0.02."""
    return rising(1 / (1 + abs(recipe.training.learning_rate - 0.02) * 20))


def table(folder):
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tried(folder):
    """What was tried and what came of it, without the times."""
    return [{key: value for key, value in row.items() if key != "minutes"} for row in table(folder)]


def test_a_grid_is_tried_in_order_each_once(records, tmp_path):
    trainings, options = Trainings(records, by_decay), asked(records, tmp_path / "out", trials=9)
    result = trainings.run(options)
    rows = table(options.out)
    assert [row["training.weight_decay"] for row in rows] == ["1e-2", "1e-3", "1e-4", "1e-5", "0"]
    assert [float(row["score"]) for row in rows] == [0.2, 0.5, 0.8, 0.6, 0.4]
    assert {row["state"] for row in rows} == {"finished"} and {row["epochs"] for row in rows} == {"8"}
    assert result["best"]["number"] == 2 and result["own"] == 0.4
    best = load_recipe(options.out / "best.toml")
    assert best.training.weight_decay == 1e-4 and best.name == "demo-tuned" and best.training.epochs == 8
    assert (options.out / "trials.png").read_bytes().startswith(b"\x89PNG")
    assert Run(options.out / rows[2]["folder"]).recipe.training.weight_decay == 1e-4
    assert json.loads((options.out / "tune.json").read_text())["best"]["number"] == 2


def test_called_again_nothing_is_trained_again(records, tmp_path):
    trainings, options = Trainings(records, by_decay), asked(records, tmp_path / "out")
    trainings.run(options)
    before, begun = table(options.out), list(trainings.begun)
    assert trainings.run(options)["best"]["number"] == 2
    assert trainings.begun == begun and table(options.out) == before


def test_the_recipe_as_it_is_comes_first_then_what_the_seed_draws(records, tmp_path):
    def rates(name, **others):
        options = asked(records, tmp_path / name, RATES, trials=3, jobs=3, **others)
        result = Trainings(records, by_rate).run(options)
        assert result["own"] == pytest.approx(max(by_rate(load_recipe("demo", ["training.epochs=8"]))))
        return [float(row["training.learning_rate"]) for row in table(options.out)]

    first, again, other = rates("first"), rates("again"), rates("other", seed=1)
    assert first[0] == 0.002 and len(set(first)) == 3 and all(1e-3 <= rate <= 1e-1 for rate in first)
    assert first == again and first[1:] != other[1:]


def test_cut_short_and_called_again_it_is_the_same_search(records, tmp_path):
    whole, cut = asked(records, tmp_path / "whole", RATES, trials=4), asked(records, tmp_path / "cut", RATES, trials=4)
    Trainings(records, by_rate).run(whole)
    trainings, calls = Trainings(records, by_rate), []

    def interrupt(line, changed):
        calls.append(line)
        if len(calls) == 12:  # in the middle of the second trial
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainings.run(cut, interrupt)
    assert len(table(cut.out)) < 4 and trainings.ended, "what was under way goes on alone"
    trainings.run(cut)
    assert tried(cut.out) == tried(whole.out)
    names = [name for name, resumed in trainings.begun if not resumed]
    assert sorted(names) == ["0000", "0001", "0002", "0003"], "a trial began twice"


def test_what_finished_unseen_is_taken_as_it_is(records, tmp_path):
    options, trainings, calls = asked(records, tmp_path / "out", trials=2), Trainings(records, by_decay), []

    def interrupt(line, changed):
        calls.append(line)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainings.run(options, interrupt)
    folder = options.out / "trials" / "0000"
    Run(folder).write_history([{"epoch": n, "validation_dice": n / 10, "seconds": 1.0} for n in range(1, 9)])
    Run(folder).update(status="finished", best_validation_dice=0.8)
    trainings.run(options)
    assert [name for name, _ in trainings.begun] == ["0000", "0001"]
    first = table(options.out)[0]
    assert first["score"] == "0.8" and first["epochs"] == "8" and first["state"] == "finished"


def test_what_falls_behind_is_pruned_and_its_folder_stays(records, tmp_path):
    choices = "|".join(map(str, range(3, 12)))
    options = asked(records, tmp_path / "out", [f"training.plateau_patience={choices}"], jobs=2)
    trainings = Trainings(records, lambda recipe: curve_of(recipe.training.plateau_patience))

    def curve_of(patience):
        return rising(0.8) if patience < 9 else [0.07, 0.06, 0.05, 0.04, 0.04, 0.04, 0.04, 0.99]

    result = trainings.run(options)
    rows = table(options.out)
    assert [row["state"] for row in rows] == ["finished"] * 6 + ["pruned"] * 3
    assert {row["epochs"] for row in rows[6:]} == {"3"} and {row["score"] for row in rows[6:]} == {"0.07"}
    assert sorted(trainings.ended) == ["0006", "0007", "0008"]
    assert Run(options.out / "trials" / "0006").state["status"] == "started"
    assert result["best"]["score"] == 0.8 and result["importances"] == {}
    begun = list(trainings.begun)
    trainings.run(options)
    assert trainings.begun == begun, "what was pruned was taken up again"


def test_when_the_time_is_spent_nothing_begins_and_more_of_it_goes_on(records, tmp_path):
    # An epoch takes six seconds, a trial eight of them: in one minute one is finished, and the next has two or so.
    options, trainings = asked(records, tmp_path / "out", minutes=1.0), Trainings(records, by_decay)
    result = trainings.run(options)
    rows = table(options.out)
    assert [row["state"] for row in rows] == ["finished", "unfinished"] and 1 <= int(rows[1]["epochs"]) <= 3
    assert result["best"]["number"] == 0 and trainings.ended == ["0001"] and result["seconds"] >= 60
    trainings.run(options)
    assert len(trainings.begun) == 2, "the minutes of the first call were forgotten"
    trainings.run(asked(records, tmp_path / "out", minutes=2.0))
    assert trainings.begun[2] == ("0001", True) and table(options.out)[1]["state"] == "finished"
    assert float(table(options.out)[1]["score"]) == 0.5


def test_where_none_is_finished_the_best_so_far_is_kept_and_said_to_be(records, tmp_path):
    options, trainings = asked(records, tmp_path / "out", minutes=0.45, jobs=3), Trainings(records, by_decay)
    result = trainings.run(options)
    assert {row["state"] for row in result["trials"]} == {"unfinished"}
    assert result["best"]["number"] == 2 and result["best"]["epochs"] < 8
    slow = Trainings(records, by_decay)
    slow.wait = lambda seconds: setattr(slow, "seconds", slow.seconds + 6.0)  # and no epoch comes to its end
    with pytest.raises(RunError, match=r"no trial came to the end of an epoch within 0\.5 minutes.*more --minutes"):
        slow.run(asked(records, tmp_path / "other", minutes=0.5))


def test_a_trial_that_fails_says_why_and_the_search_goes_on(records, tmp_path):
    def curve(recipe):
        if recipe.training.weight_decay == 1e-2:
            raise ValueError("the loss is nan in epoch 1")
        return by_decay(recipe)

    options = asked(records, tmp_path / "out")
    result = Trainings(records, curve).run(options)
    rows = table(options.out)
    assert rows[0]["state"] == "failed" and "the loss is nan" in rows[0]["reason"] and rows[0]["score"] == ""
    assert [row["state"] for row in rows[1:]] == ["finished"] * 4 and result["best"]["number"] == 2


def test_where_all_fail_the_first_reason_is_the_error(records, tmp_path):
    def curve(recipe):
        raise ValueError(f"no memory with decay {recipe.training.weight_decay}")

    with pytest.raises(RunError, match=r"every trial failed; trials.0000: no memory with decay 0.01"):
        Trainings(records, curve).run(asked(records, tmp_path / "grid"))
    trainings = Trainings(records, curve)
    with pytest.raises(RunError, match="every trial failed"):
        trainings.run(asked(records, tmp_path / "range", RATES, minutes=600))
    assert len(trainings.begun) == 8, "it went on failing"


def test_settings_that_are_not_valid_together_fail_alone(records, tmp_path):
    specs = ["model.widths=[4,8,8]|[4,4,4,4,4,4]", "data.image_size=[64,64]|[48,48]"]
    options = asked(records, tmp_path / "out", specs, ["training.weight_decay=1e-4"])
    trainings = Trainings(records, by_decay)
    trainings.run(options)
    rows = table(options.out)
    assert [row["state"] for row in rows] == ["finished"] * 3 + ["failed"] and "multiples of 32" in rows[3]["reason"]
    assert len(trainings.begun) == 3 and not (options.out / "trials" / "0003").exists()


def test_importances_come_with_eight_finished_trials(records, tmp_path):
    specs = [*RATES, "training.plateau_patience=3|4"]
    few = Trainings(records, by_rate).run(asked(records, tmp_path / "few", specs, trials=7, jobs=7))
    many = Trainings(records, by_rate).run(asked(records, tmp_path / "many", specs, trials=12, jobs=12))
    assert few["importances"] == {} and next(iter(many["importances"])) == "training.learning_rate"
    assert sum(many["importances"].values()) == pytest.approx(1, abs=0.01)


def test_another_search_in_the_same_folder_is_refused(records, tmp_path):
    trainings = Trainings(records, by_decay)
    trainings.run(asked(records, tmp_path / "out", trials=1))
    for changes, message in (
        ({"search": ("training.weight_decay=1e-2|0",)}, r"search training.weight_decay is .* 1e-2\|0 is asked"),
        ({"search": RATES}, "search training.learning_rate is None there"),
        ({"changes": (*TINY, "training.epochs=9")}, "recipe training.epochs is 8 there, 9 is asked"),
        ({"seed": 3}, "--seed is 0 there, 3 is asked"),
    ):
        with pytest.raises(RunError, match=message):
            trainings.run(asked(records, tmp_path / "out", **changes))
    assert len(trainings.begun) == 1


def test_other_images_in_the_same_folder_are_refused(records, tmp_path):
    options, trainings = asked(records, tmp_path / "out", trials=1), Trainings(records, by_decay)
    trainings.run(options)
    splits = json.loads((records.folder / "splits.json").read_text())
    splits["parts"]["train"].pop()
    (tmp_path / "fewer.json").write_text(json.dumps(splits))
    with pytest.raises(RunError, match="another split"):
        trainings.run(asked(records, tmp_path / "out", splits=tmp_path / "fewer.json"))


def test_only_a_folder_of_a_search_is_searched_in(records, tmp_path):
    options, trainings = asked(records, tmp_path / "out", trials=1), Trainings(records, by_decay)
    options.out.mkdir()
    (options.out / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="found other files"):
        trainings.run(options)
    (options.out / "thesis.txt").unlink()
    with locked_folder(options.out, ""), pytest.raises(OutputError, match="a search is running there"):
        trainings.run(options)
    (options.out / "lock").unlink()
    trainings.run(options)
    whole = (options.out / "tune.json").read_text()
    (options.out / "tune.json").write_text("{}")
    with pytest.raises(OutputError, match=r"tune\.json.*found something else"):
        trainings.run(options)
    (options.out / "tune.json").write_text(whole)
    journal = options.out / "trials.journal"
    for damaged in (b"no journal at all\n", journal.read_bytes()[:200], b""):
        journal.write_bytes(damaged)
        with pytest.raises(OutputError, match=r"trials\.journal.*damaged"):
            trainings.run(options)


def test_half_a_line_of_a_process_killed_is_no_damage(records, tmp_path):
    options, trainings = asked(records, tmp_path / "out"), Trainings(records, by_decay)
    trainings.run(asked(records, tmp_path / "out", trials=2))
    with (options.out / "trials.journal").open("ab") as file:
        file.write(b'{"op_code":4,"wor')
    trainings.run(options)
    trainings.run(options)
    assert [name for name, _ in trainings.begun] == ["0000", "0001", "0002", "0003", "0004"]


def test_what_is_wrong_makes_no_folder(records, tmp_path):
    for changes in ({"search": ("training.epoch=1|2",)}, {"changes": ("training.epoch=1",)}):
        with pytest.raises(RecipeError, match="Did you mean 'epochs'"):
            Trainings(records, by_decay).run(asked(records, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_a_recipe_file_that_changes_later_changes_no_trial(records, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[model]\nwidths = [4, 8]\n[training]\nepochs = 8\n[data]\nimage_size = [32, 32]\n')

    def curve(recipe):
        if path.exists():
            path.write_text('name = "other"\n')
        return by_decay(recipe)

    options = replace(asked(records, tmp_path / "out", changes=()), recipe=str(path))
    assert Trainings(records, curve).run(options)["best"]["number"] == 2
    assert {Run(folder).recipe.name for folder in (options.out / "trials").iterdir()} == {"mine"}
    assert load_recipe(options.out / "best.toml").name == "mine-tuned"


def test_a_grid_goes_on_over_many_combinations_that_are_not_valid(records, tmp_path):
    sizes = "|".join(f"[{side},{side}]" for side in range(48, 272, 32))  # multiples of 16 that 32 does not divide
    wide, deep = "[4,4,4,4,4]", "[4,4,4,4,4,4]"
    specs = [f"model.widths={deep}|{wide}", f"data.image_size={sizes}|[16,16]|[80,16]"]
    options = asked(records, tmp_path / "out", specs, ["training.weight_decay=1e-4"], jobs=9)
    Trainings(records, by_decay).run(options)
    assert [row["state"] for row in table(options.out)] == ["failed"] * 9 + ["finished"] * 9


def test_the_best_is_finished_if_any_is():
    def row(number, state, score):
        return {"number": number, "state": state, "score": score}

    rows = [row(0, "unfinished", 0.9), row(1, "finished", 0.5), row(2, "finished", 0.5), row(3, "pruned", 0.8)]
    assert best_trial([*rows, row(4, "failed", 0.95)])["number"] == 1
    assert best_trial([rows[0], rows[3], row(4, "failed", 0.95)])["number"] == 0
    assert best_trial([row(0, "unfinished", math.nan), row(1, "failed", 0.3)]) is None


def test_the_figure_shows_each_trial_and_a_best_that_never_falls():
    scores = [("finished", 0.5), ("pruned", 0.2), ("finished", 0.4), ("finished", 0.7), ("unfinished", 0.9)]
    points = [TrialPoint(float(minute), score, state) for minute, (state, score) in enumerate(scores)]
    (axes,) = search_figure(points[::-1], "validation Dice").axes
    best, *shown = axes.lines
    assert list(best.get_xdata()) == [0, 2, 3, 4] and list(best.get_ydata()) == [0.5, 0.5, 0.7, 0.7]
    assert [len(line.get_xdata()) for line in shown] == [3, 1, 1]
    assert not search_figure([], "validation Dice").axes[0].lines
