"""Training that was interrupted goes on as if it had not been, to the step."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import TINY
from tests.training.test_trainer import weights_of
from ustoolkit.data.records import Records
from ustoolkit.errors import RunError
from ustoolkit.recipe import load_recipe
from ustoolkit.run import Run
from ustoolkit.training.start import resume_run, start_run
from ustoolkit.training.state import TrainingState
from ustoolkit.training.strategy import make_strategy
from ustoolkit.training.trainer import Training, train

NOISY = (
    "model.activation=nhselu",
    "model.scales=2",
    "model.noise=0.5",
    "loss.terms={ cross_entropy = 1.0, dice = 0.5 }",
    "loss.class_weights=balanced",
)


class Interrupted(Exception):
    pass


def rows_without_time(run: Run) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if "seconds" not in key} for row in run.read_history()]


@pytest.mark.parametrize(
    "changes",
    [
        NOISY,  # with Adam, batch normalization and dropout too
        pytest.param(["training.optimizer=adam"], marks=pytest.mark.slow),
        pytest.param(["training.optimizer=sgd"], marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(records, tmp_path, changes):
    settings = (*TINY, *changes, "model.dropout=0.4", "training.weight_decay=1e-3")
    whole = start_run(load_recipe("demo", settings), records, tmp_path / "whole")
    train(whole, records)

    halved = start_run(load_recipe("demo", settings), records, tmp_path / "halved")
    write_history = halved.write_history

    def interrupt_after_two(rows):
        write_history(rows)
        if len(rows) == 2:
            raise Interrupted

    halved.write_history = interrupt_after_two
    with pytest.raises(Interrupted):
        train(halved, records)
    assert not halved.last_weights.exists()
    train(resume_run(records, halved.folder), records)
    for expected, found in zip(weights_of(whole), weights_of(halved), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for expected, found in zip(rows_without_time(whole), rows_without_time(halved), strict=True):
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.fixture
def finished(trained_run, tmp_path):
    """A copy of the finished run, to change."""
    return Run(shutil.copytree(trained_run.folder, tmp_path / "finished"))


def test_resuming_a_finished_run_changes_nothing(records, finished):
    before = finished.best_weights.read_bytes()
    state = train(resume_run(records, finished.folder), records)
    assert state.epoch == 3 and finished.best_weights.read_bytes() == before


def test_resuming_falls_back_to_the_checkpoint_before_a_damaged_one(records, finished):
    newest = Path(f"{tf.train.latest_checkpoint(finished.checkpoints)}.data-00000-of-00001")
    for damaged in (newest, finished.checkpoints / "checkpoint"):
        damaged.write_bytes(damaged.read_bytes()[:200] if "ckpt" in damaged.name else b"garbage")
    before = finished.read_history()
    state = train(resume_run(records, finished.folder), records)
    assert state.epoch == 3 and len(finished.read_history()) == 3
    assert finished.read_history()[:2] == before[:2]


def test_a_run_whose_checkpoints_are_lost_is_not_begun_anew(records, finished):
    shutil.rmtree(finished.checkpoints)
    before = finished.best_weights.read_bytes()
    with pytest.raises(RunError, match="no checkpoint to resume from"):
        train(resume_run(records, finished.folder), records)
    assert finished.best_weights.read_bytes() == before and len(finished.read_history()) == 3


@pytest.mark.parametrize("content", ["{}", "[]", "3", "no JSON"])
@pytest.mark.parametrize("name", ["run.json", "manifest.json", "splits.json"])
def test_a_damaged_run_folder_is_named(records, finished, name, content):
    (finished.folder / name).write_text(content)
    with pytest.raises(RunError, match=name):
        resume_run(records, finished.folder)


@pytest.mark.slow
def test_a_killed_process_leaves_a_run_that_goes_on(tmp_path, records):
    out = tmp_path / "run"
    arguments = ["train", "demo", "--records", str(records.folder), "--out", str(out)]
    many = [*TINY, "training.epochs=400", "training.stop_patience=400"]
    command = [sys.executable, "-m", "ustoolkit", *arguments, *(word for s in many for word in ("--set", s))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if (out / "history.csv").is_file() and len(Run(out).read_history()) >= 2:
                break
            time.sleep(0.1)
        else:
            pytest.fail("no two epochs within a minute")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = len(Run(out).read_history())
    recipe = (out / "recipe.toml").read_text()
    (out / "recipe.toml").write_text(recipe.replace("epochs = 400", f"epochs = {done + 3}"))
    run = resume_run(records, out)
    state = train(run, records)
    assert [row["epoch"] for row in run.read_history()] == list(range(1, state.epoch + 1))
    assert state.epoch == done + 3 and run.state["status"] == "finished"


def test_resuming_on_other_records_is_refused(records, trained_run):
    other = Records(records.folder)
    other.manifest = {**other.manifest, "digest": "another"}
    with pytest.raises(RunError, match="other records"):
        resume_run(other, trained_run.folder)


@pytest.mark.parametrize("averaging", ["off", "ema"])
@pytest.mark.parametrize("after", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_interrupted_within_an_epoch_goes_on_at_the_same_step(records, tmp_path, after, averaging):
    """With a checkpoint after each step, and an epoch of two passes through the images."""
    settings = (*TINY, "training.epochs=2", "training.passes=2", "training.batch_size=6", "model.dropout=0.4")
    settings = (*settings, "training.checkpoint_minutes=1e-9", f"training.averaging={averaging}")
    whole = start_run(load_recipe("demo", settings), records, tmp_path / "whole")
    train(whole, records)

    halved = start_run(load_recipe("demo", settings), records, tmp_path / "halved")
    training = Training(halved, records, make_strategy("one"))
    take = training.step.train
    taken = []

    def take_some(batch):
        if len(taken) == after:
            raise Interrupted
        taken.append(batch)
        return take(batch)

    def validate(batch):
        raise Interrupted  # after the last step of the epoch

    training.step.train, training.step.validate = take_some, validate
    with pytest.raises(Interrupted):
        training.fit()
    assert training.task.training.steps > 1 and not halved.read_history()
    resumed = Training(resume_run(records, halved.folder), records, make_strategy("one"))
    assert (resumed.state.epoch, resumed.state.step) == (0, after)
    resumed.fit()
    assert rows_without_time(halved) == rows_without_time(whole)
    for which in ("last", "best"):
        for expected, found in zip(weights_of(whole, which), weights_of(halved, which), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_run_of_before_goes_on(records, tmp_path):
    """Its checkpoint and its table know nothing of steps within an epoch, and nothing of waiting."""
    settings = (*TINY, "training.epochs=1")
    run = start_run(load_recipe("demo", settings), records, tmp_path / "run")
    training = Training(run, records, make_strategy("one"))
    training.fit()
    new = ("step", "epoch_steps", "loss_sum", "rate", "epoch_seconds", "accumulation")
    old = {name: value for name, value in json.loads(training.state.to_json()).items() if name not in new}
    old["history"] = [
        {name: value for name, value in row.items() if name != "waited_seconds"} for row in old["history"]
    ]
    training.state = TrainingState.from_json(json.dumps(old))
    training.checkpoints.save(training.state)
    recipe = (run.folder / "recipe.toml").read_text()
    (run.folder / "recipe.toml").write_text(recipe.replace("epochs = 1\n", "epochs = 2\n"))
    state = train(resume_run(records, run.folder), records)
    assert state.epoch == 2 and Run(run.folder).read_history()[0]["waited_seconds"] == 0.0


def test_an_epoch_of_another_number_of_steps_begins_again(records, tmp_path):
    run = start_run(load_recipe("demo", [*TINY, "training.batch_size=6"]), records, tmp_path / "run")
    training = Training(run, records, make_strategy("one"))
    training.state.step, training.state.epoch_steps, training.state.loss_sum = 5, 9, 3.0
    training.checkpoints.save(training.state)
    resumed = Training(run, records, make_strategy("one"))
    assert (resumed.state.step, resumed.state.loss_sum) == (0, 0.0)
