"""`ustoolkit train auto`: plans, trains what it planned, and can be trained again from the file with its reasons."""

import contextlib
import dataclasses
import functools
import io
import json

import pytest

from tests.test_cli import call, refused
from ustoolkit.cli import main
from ustoolkit.data.readers.entry import Entry
from ustoolkit.data.records import record_entries, write_records
from ustoolkit.recipe import DataSetSettings, load_recipe
from ustoolkit.run import Run

TINY = ("data.image_size=[32,32]", "model.widths=[4,8,8]", "training.epochs=2", "training.passes=1")
SETS = [word for setting in TINY for word in ("--set", setting)]


def train(capsys, records, out, *words: object) -> dict:
    code, printed, err = call(capsys, "train", "auto", "--records", records.folder, "--out", out, "--json", *words)
    assert code == 0, err
    return json.loads(printed)


def without_mask(entry):
    return dataclasses.replace(entry.load(), mask=None)


@pytest.fixture(scope="module")
def planned(tmp_path_factory, records):
    """The folder of a run that was planned and trained, and what the command printed."""
    folder = tmp_path_factory.mktemp("automatic") / "run"
    words = ["train", "auto", "--records", records.folder, "--out", folder, "--budget", "40s", "--json", *SETS]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main([str(word) for word in words]) == 0
    return folder, json.loads(printed.getvalue())


@pytest.fixture
def run_folder(planned):
    return planned[0]


def test_a_plan_is_trained_and_kept_with_its_reasons(planned):
    run_folder, result = planned
    assert result["status"] == "finished" and result["epochs"] <= 2
    run = Run(run_folder)
    assert run.recipe.name == "auto" and run.recipe.model.widths == (4, 8, 8)
    assert run.recipe == load_recipe(run_folder / "auto.toml")
    told = {choice["setting"]: choice for choice in result["choices"]}
    assert told["model.widths"] == {"setting": "model.widths", "value": [4, 8, 8], "reason": "yours, by --set"}
    assert "# yours, by --set\nwidths = [4, 8, 8]\n" in (run_folder / "auto.toml").read_text()
    assert 0 < run.recipe.training.minutes < 40 / 60
    assert run.recipe.augmentation.gamma > 0  # thirty phantoms are few


def test_the_kept_plan_makes_an_equal_recipe_when_it_is_trained(capsys, records, run_folder, tmp_path):
    again = tmp_path / "again"
    code, _, err = call(
        capsys, "train", run_folder / "auto.toml", "--records", records.folder, "--out", again, "--json"
    )
    assert code == 0, err
    assert Run(again).recipe == Run(run_folder).recipe
    assert not (again / "auto.toml").exists()


def test_a_run_is_resumed_by_the_same_name(capsys, records, run_folder):
    arguments = ("train", "auto", "--records", records.folder, "--out", run_folder, "--resume")
    code, out, err = call(capsys, *arguments)
    assert code == 0 and ("all 2 epochs done" in out or "minutes allowed" in out), err
    assert "--budget" in refused(capsys, *arguments, "--budget", "1h")


@pytest.mark.parametrize("wrong", ["30", "m", "-5m", "3x", "1h30m", "0s", "5s", "9999999h", "1e3s", "nan"])
def test_times_that_are_none_are_refused(capsys, records, tmp_path, wrong):
    words = ("train", "auto", "--records", records.folder, "--out", tmp_path / "run", f"--budget={wrong}")
    code, _, err = call(capsys, *words)
    assert code == 2 and "argument --budget: expected a time" in err and f"'{wrong}'" in err


def test_what_does_not_go_with_it_is_refused(capsys, records, tmp_path):
    words = ("--records", records.folder, "--out", tmp_path / "run")
    assert "recipe 'auto'" in refused(capsys, "train", "fast", *words, "--budget", "30m")
    assert "--budget 2m" in refused(capsys, "train", "auto", *words, "--preview")
    assert "Did you mean 'epochs'" in refused(capsys, "train", "auto", *words, "--set", "training.epoch=3")
    assert not (tmp_path / "run").exists()


def test_several_machines_are_sent_to_one(capsys, records, tmp_path, monkeypatch):
    cluster = {"cluster": {"worker": ["one:1", "two:2"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    message = refused(capsys, "train", "auto", "--records", records.folder, "--out", tmp_path / "run")
    assert "one machine" in message and "auto.toml" in message


def test_a_folder_that_is_taken_is_refused_before_anything_is_measured(capsys, records, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    message = refused(capsys, "train", "auto", "--records", records.folder, "--out", tmp_path)
    assert "--overwrite" in message and [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_part_is_told_as_for_any_recipe(capsys, records, tmp_path):
    splits = json.loads((records.folder / "splits.json").read_text())
    splits["parts"]["validation"] = []
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    words = ("--records", records.folder, "--out", tmp_path / "run", "--splits", tmp_path / "splits.json")
    assert "validation of the split has no images" in refused(capsys, "train", "auto", *words)


def test_records_without_masks_are_told_what_to_train(capsys, records, tmp_path):
    entries = [Entry(entry.source_id, functools.partial(without_mask, entry)) for entry in record_entries(records)]
    write_records(entries, tmp_path / "records", DataSetSettings(), workers=1)
    words = ("--records", tmp_path / "records", "--out", tmp_path / "run")
    assert "fast_classifier" in refused(capsys, "train", "auto", *words)


def test_a_run_that_cannot_begin_leaves_nothing(capsys, records, tmp_path):
    words = ("--records", records.folder, "--out", tmp_path / "run", *SETS, "--budget", "40s")
    message = refused(capsys, "train", "auto", *words, "--set", "training.open_layers=['nothing']")
    assert "nothing" in message and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_forty_seconds_are_enough_for_a_network_that_can_be_evaluated(capsys, records, tmp_path):
    result = train(capsys, records, tmp_path / "run", "--budget", "40s")
    run = Run(tmp_path / "run")
    assert result["status"] == "finished" and run.best_weights.is_file()
    assert max(run.recipe.data.image_size) <= 64
    code, out, err = call(capsys, "evaluate", run.folder, "--json")
    assert code == 0 and json.loads(out)["images"] == len(run.splits["test"]), err


@pytest.mark.slow
def test_more_time_measures_and_is_trained(capsys, records, tmp_path):
    result = train(capsys, records, tmp_path / "run", "--budget", "10m", "--set", "training.epochs=1")
    told = {choice["setting"]: choice["reason"] for choice in result["choices"]}
    assert "measured" in told["data.image_size"] or "no larger" in told["data.image_size"]
    assert result["status"] == "finished"
