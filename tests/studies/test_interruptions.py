"""Studies trained for real that are killed, that fail in part, or that lose a run: what is kept, and what goes on."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.studies.runs import (
    SETTINGS,
    ladder_study,
    options,
    other_records,
    processes_of,
    silent,
    tables_of,
    toy_study,
)
from ustoolkit import studies
from ustoolkit.cli import main
from ustoolkit.errors import RunError
from ustoolkit.files import read_json
from ustoolkit.studies.comparison import SECOND, Arm
from ustoolkit.studies.runner import run_study

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only there do children die with their parent")

STUDY_PROCESS = """
import sys
from pathlib import Path
from tests.studies import test_interruptions
from ustoolkit.data.records import Records
from ustoolkit.studies.runner import run_study
study, changes = test_interruptions.KILLED[sys.argv[1]]
asked = test_interruptions.options(Records(sys.argv[2]), Path(sys.argv[3]), seeds=1, jobs=1, **changes)
run_study(study, asked, lambda line, changed: None)
"""

_TOY = toy_study(long_epochs=12)
KILLED = {
    # The shorter arm first, so that one run is finished before the longer one is interrupted.
    "toy": (replace(_TOY, arms=_TOY.arms[::-1]), {}),
    "ladder": (ladder_study(epochs=8, steps=2), {"folds": 2, "only": ("ladder-*",)}),
}
INTERRUPTED = {"toy": "long/seed0", "ladder": "ladder-slow/seed0-fold1"}


def wait_for(condition, process, seconds=900):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def history(run):
    path = run / "history.csv"
    rows = list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def weights(path):
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if hasattr(item, "dtype") else None)
    return found


def files_of(run):
    """Bytes and time of change of every file."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(run.rglob("*")) if path.is_file()}


def statuses(out):
    return {
        path.parent: read_json(path, RunError, "")["status"] for path in sorted((out / "runs").glob("*/*/run.json"))
    }


def kill_in_the_middle(name, records, out):
    """Starts a study, and kills it when a run has had its first epoch; says which runs were finished."""
    run = out / "runs" / INTERRUPTED[name]
    words = [sys.executable, "-c", STUDY_PROCESS, name, str(records.folder), str(out)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    try:
        wait_for(lambda: history(run) and list((run / "checkpoints").glob("*.index")), process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 30
    while processes_of(out):
        assert time.monotonic() < deadline, "processes outlived the study"
        time.sleep(0.05)
    found = statuses(out)
    assert found.pop(run) == "training", "it was over before it could be killed"
    assert found and set(found.values()) == {"finished"}
    return run, list(found)


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("name", KILLED)
def test_killed_in_the_middle_and_called_again_nothing_shows_it(name, tmp_path, records):
    study, changes = KILLED[name]
    cut, whole = (options(records, tmp_path / folder, seeds=1, jobs=1, **changes) for folder in ("cut", "whole"))
    run, done = kill_in_the_middle(name, records, cut.out)
    before, epochs = {each: files_of(each) for each in done}, len(history(run))
    result = run_study(study, cut, silent)
    uninterrupted = run_study(study, whole, silent)
    assert {each: files_of(each) for each in done} == before, "a finished run was touched"
    # The one that was interrupted went on behind its last epoch, and cannot be told from one that was not.
    other = whole.out / run.relative_to(cut.out)
    rows = history(run)
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1)) and len(rows) > epochs
    assert rows == history(other)
    for file in ("best.weights.h5", "last.weights.h5"):
        found, expected = weights(run / file), weights(other / file)
        assert found.keys() == expected.keys() and found
        for key in found:
            np.testing.assert_array_equal(found[key], expected[key], err_msg=f"{file}: {key}")
    states = [read_json(each / "run.json", RunError, "") for each in (run, other)]
    for key in ("best_validation_dice", "best_epoch", "epochs", "status"):
        assert states[0][key] == states[1][key]
    assert tables_of(cut.out) == tables_of(whole.out) and len(tables_of(whole.out)) >= 3
    assert result["tables"].keys() == uninterrupted["tables"].keys()
    asked_for = [entry["status"] for entry in result["runs"].values()]
    assert asked_for.count("finished") == len(statuses(whole.out)) == len(done) + 1 + (name == "ladder")
    if name == "ladder":
        a_run_of_the_first_step_that_is_lost_is_trained_alone(study, cut, tables_of(whole.out))


def a_run_of_the_first_step_that_is_lost_is_trained_alone(study, asked, tables):
    """Until it is there, nothing is decided; then what was trained turns out to be as it should be."""
    shutil.rmtree(asked.out / "runs" / "ladder-default" / "seed0-fold2")
    kept = {run: files_of(run) for run in statuses(asked.out)}
    assert len(kept) == 3
    runs = run_study(study, asked, silent)["runs"]
    assert [entry["status"] for name, entry in runs.items() if name.startswith("ladder")] == ["finished"] * 4
    assert {run: files_of(run) for run in kept} == kept and tables_of(asked.out) == tables


@pytest.mark.slow
def test_failing_runs_are_recorded_and_a_study_of_failures_is_refused(tmp_path, records, monkeypatch, capsys):
    others = other_records(tmp_path / "others")
    shard = next(others.folder.glob("*.tfrecord*"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    study = toy_study()
    diverges = replace(study.arms[0], overrides=(*study.arms[0].overrides, "training.learning_rate=1e30"))
    damaged = Arm("damaged", "demo", (*SETTINGS, "training.epochs=1"), images=SECOND)
    monkeypatch.setitem(studies.STUDIES, "toy", replace(study, arms=(diverges, damaged, study.arms[1])))
    out = tmp_path / "study"
    words = ["study", "toy", "--records", str(records.folder), "--second-records", str(others.folder)]
    words += ["--out", str(out), "--seeds", "1", "--jobs", "1", "--json"]
    assert main(words) == 0
    printed = capsys.readouterr()
    for name in ("long/seed0", "damaged/seed0"):
        assert f"{name} failed; its output is in {out / 'logs'}" in printed.err
    runs = json.loads(printed.out)["runs"]
    assert runs == read_json(out / "study.json", RunError, "")["runs"]
    assert [runs[f"{arm}/seed0"]["status"] for arm in ("long", "damaged", "short")] == ["failed", "failed", "finished"]
    assert "the loss is" in runs["long/seed0"]["error"] and shard.name in runs["damaged/seed0"]["error"]
    with (out / "runs.csv").open(newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert "the loss is" in rows["long/seed0"]["error"] and shard.name in rows["damaged/seed0"]["error"]
    assert rows["short/seed0"]["status"] == "finished" and rows["short/seed0"]["error"] == ""
    assert "long/seed0 (failed)" in (out / "lengths.md").read_text()
    assert main([*words, "--only", "damaged"]) == 2
    error = capsys.readouterr().err
    assert "every run failed; damaged/seed0: " in error and shard.name in error and "Traceback" not in error
