"""Processes of a study: in order, some at a time, and gone when it is; whole studies, trained for real."""

import time

import pytest

from tests.studies.runs import options, processes_of, tables_of, toy_study
from ustoolkit.studies.jobs import Job, run_jobs
from ustoolkit.studies.runner import run_study


def run(jobs, at_once=1):
    endings, seen = [], []
    run_jobs(jobs, at_once, 1, endings.append, lambda running: seen.append(sorted(running)))
    return endings, seen


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


def test_a_job_may_find_when_it_starts_that_nothing_is_left_to_do(tmp_path):
    jobs = [
        Job("done", lambda: (), tmp_path / "1.log"),
        Job("asked", lambda: (("--version",),), tmp_path / "2.log", after=("done",)),
        Job("empty", (), tmp_path / "3.log"),
    ]
    endings, _ = run(jobs)
    assert sorted((ending.job.name, ending.error) for ending in endings) == [("asked", ""), ("done", ""), ("empty", "")]
    assert (tmp_path / "2.log").is_file() and not (tmp_path / "1.log").exists()


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
    before = tables_of(asked.out)
    lines.clear()
    assert run_study(toy_study(), asked, lambda line, changed: lines.append(line))["runs"] == result["runs"]
    assert not lines and tables_of(asked.out) == before, "what was finished was run again"
