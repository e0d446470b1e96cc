"""Processes of a study: in order, some at a time, and gone when it is; whole studies, trained for real."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.studies.runs import options, toy_study
from ustoolkit.errors import RunError
from ustoolkit.files import read_json
from ustoolkit.studies.jobs import Job, run_jobs
from ustoolkit.studies.runner import run_study

TRAINING_MINUTES = 5  # column of the tables that differs from time to time

STUDY_PROCESS = """
import sys
from pathlib import Path
from tests.studies.runs import toy_study, options
from ustoolkit.data.records import Records
from ustoolkit.studies.runner import run_study
run_study(toy_study(int(sys.argv[3])), options(Records(sys.argv[1]), Path(sys.argv[2]), seeds=1), print)
"""


def run(jobs, at_once=1):
    endings, seen = [], []
    run_jobs(jobs, at_once, 1, endings.append, lambda running: seen.append(sorted(running)))
    return endings, seen


def table(folder):
    lines = [line.split(",") for line in (folder / "lengths.csv").read_text().splitlines()]
    return [cells[:TRAINING_MINUTES] + cells[TRAINING_MINUTES + 1 :] for cells in lines]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


def processes_of(folder):
    """Ids of living processes whose command names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(folder / "runs") in word for word in command):
            found.append(int(path.parent.name))
    return found


def test_a_job_that_fails_says_why_and_the_others_go_on(tmp_path):
    jobs = [
        Job("bad", (("train", "no-such-recipe", "--records", "x", "--out", "y"), ("--version",)), tmp_path / "bad.log"),
        Job("good", (("--version",), ("--version",)), tmp_path / "logs" / "good.log"),
    ]
    endings, seen = run(jobs)
    assert [(ending.job.name, bool(ending.error)) for ending in endings] == [("bad", True), ("good", False)]
    assert "expected a recipe file" in endings[0].error
    assert "ustoolkit 0" not in (tmp_path / "bad.log").read_text(), "its second command ran after the first had failed"
    assert (tmp_path / "logs" / "good.log").read_text().count("ustoolkit ") == 2
    assert all(len(running) <= 1 for running in seen)


def test_as_many_at_a_time_as_asked(tmp_path):
    jobs = [Job(f"job{number}", (("--version",),), tmp_path / f"{number}.log") for number in range(4)]
    endings, seen = run(jobs, at_once=3)
    assert max(len(running) for running in seen) == 3 and len(endings) == 4
    assert seen[0] == ["job0", "job1", "job2"]


def test_a_job_waits_for_another_while_the_rest_goes_on(tmp_path):
    commands = (("--version",),)
    jobs = [
        Job("first", commands * 2, tmp_path / "1.log"),
        Job("after", commands, tmp_path / "2.log", after=("first",)),
        Job("other", commands, tmp_path / "3.log"),
        Job("done before", commands, tmp_path / "4.log", after=("not among them",)),
    ]
    endings, seen = run(jobs, at_once=2)
    assert seen[0] == ["first", "other"], "the one that waits kept a core idle"
    assert not any({"first", "after"} <= set(running) for running in seen)
    assert len(endings) == 4 and not any(ending.error for ending in endings)


def test_what_waits_for_a_job_that_fails_fails_with_it_and_the_rest_goes_on(tmp_path):
    jobs = [
        Job("later", (("--version",),), tmp_path / "1.log", after=("after",)),
        Job("bad", (("--no-such-option",),), tmp_path / "2.log"),
        Job("after", (("--version",),), tmp_path / "3.log", after=("bad",)),
        Job("good", (("--version",),), tmp_path / "4.log"),
    ]
    endings, seen = run(jobs)
    errors = {ending.job.name: ending.error for ending in endings}
    assert errors["after"] == "bad failed, which comes before it" and "after failed" in errors["later"]
    assert errors["good"] == "" and not (tmp_path / "3.log").exists() and len(endings) == 4
    assert {name for running in seen for name in running} == {"bad", "good"}


def test_leaving_ends_the_processes(tmp_path, records):
    folder = tmp_path / "runs" / "run"
    train = ("train", "demo", "--records", str(records.folder), "--out", str(folder))

    def interrupt(running):
        if processes_of(tmp_path) and time.monotonic() - started > 1:
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs([Job("long", (train,), tmp_path / "log")], 1, 1, print, interrupt)
    assert not processes_of(tmp_path)


def test_a_job_waits_for_all_that_it_comes_after_and_fails_once_with_any_of_them(tmp_path):
    jobs = [
        Job("good", (("--version",),), tmp_path / "1.log"),
        Job("bad", (("--no-such-option",),), tmp_path / "2.log"),
        Job("worse", (("--no-such-option",),), tmp_path / "3.log"),
        Job("both", (("--version",),), tmp_path / "4.log", after=("good", "bad", "worse")),
        Job("other", (("--version",),), tmp_path / "5.log", after=("good", "done before")),
    ]
    endings, _ = run(jobs, at_once=2)
    assert sorted(ending.job.name for ending in endings) == ["bad", "both", "good", "other", "worse"]
    errors = {ending.job.name: ending.error for ending in endings}
    assert "failed, which comes before it" in errors["both"] and not errors["good"] and not errors["other"]
    assert not (tmp_path / "4.log").exists()


@pytest.mark.slow
def test_a_study_from_end_to_end_and_again(tmp_path, records):
    asked, lines = options(records, tmp_path / "study"), []
    result = run_study(toy_study(), asked, lambda line, changed: lines.append(line))
    long, short = result["tables"]["lengths"]
    assert long["seeds"] == short["seeds"] == 2 and long["trainable_weights"] > 0
    assert 0 <= short["dice_mean"] <= 1 and long["dice_deviation"] > 0 and short["verdict"]
    assert "running: long/seed0, short/seed0" in lines[0]
    before = table(asked.out)
    lines.clear()
    assert run_study(toy_study(), asked, lambda line, changed: lines.append(line))["runs"] == result["runs"]
    assert not lines and table(asked.out) == before, "what was finished was run again"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel ends the children of a killed process")
def test_killed_in_the_middle_and_called_again_the_tables_are_the_same(tmp_path, records):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_study(toy_study(12), options(records, whole, seeds=1), lambda line, changed: None)
    words = [sys.executable, "-c", STUDY_PROCESS, str(records.folder), str(cut), "12"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    wait_for(lambda: list((cut / "runs" / "long" / "seed0" / "checkpoints").glob("*.index")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not processes_of(cut), seconds=10)
    state = read_json(cut / "runs" / "long" / "seed0" / "run.json", RunError, "")
    assert state["status"] == "training", "it was over before it could be killed"
    run_study(toy_study(12), options(records, cut, seeds=1), lambda line, changed: None)
    assert table(cut) == table(whole)


@pytest.mark.slow
def test_a_failing_run_is_recorded_and_a_study_of_failures_is_refused(tmp_path, records):
    from dataclasses import replace

    study = toy_study()
    broken = replace(study.arms[0], overrides=(*study.arms[0].overrides, "training.learning_rate=1e30"))
    study = replace(study, arms=(broken, study.arms[1]))
    asked = options(records, tmp_path / "study", seeds=1)
    result = run_study(study, asked, lambda line, changed: None)
    entry = result["runs"]["long/seed0"]
    assert entry["status"] == "failed" and "the loss is" in entry["error"]
    assert result["runs"]["short/seed0"]["status"] == "finished"
    assert "long/seed0 (failed)" in (asked.out / "lengths.md").read_text()
    with pytest.raises(RunError, match="every run failed"):
        run_study(study, replace(asked, only=("long",)), lambda line, changed: None)
