"""A study from end to end: what is done is kept, what is missing is trained, the tables say what came out."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ustoolkit import __version__
from ustoolkit.errors import OutputError, RunError
from ustoolkit.files import check_replaceable, check_writable, locked_folder, read_json, write_json, write_text
from ustoolkit.studies import tables
from ustoolkit.studies.comparison import Study
from ustoolkit.studies.jobs import Ending, Job, run_jobs
from ustoolkit.studies.plan import (
    PlannedRun,
    StudyOptions,
    clear_begun,
    commands_of,
    open_data,
    plan_runs,
    progress_of,
)
from ustoolkit.studies.scores import read_scores, tested_images

STUDY_FILE = "study.json"
_REMEDY = "Choose another --out, or remove the file."


def run_study(study: Study, options: StudyOptions, say: Callable[[str, bool], None]) -> dict[str, Any]:
    """Trains and scores the runs of a study that are not there yet, and writes its tables.

    In `options.out`: `runs/<arm>/seed<k>` (ordinary run folders), `logs/`, `study.json`, and a CSV and a Markdown file
    a table, written anew whenever a run ends.

    Args:
        study: which.
        options: on what, where to, and how.
        say: called with a line that says how far the study is, and whether more than the time left has changed.
    Returns:
        what `study.json` holds, with the rows of each table under 'tables'.
    Raises:
        RecordsError: records or split cannot be used.
        RecipeError: a recipe, a setting or the name of an arm is not valid.
        RunError: a run there differs from what is asked, or every run failed.
        OutputError: the folder is taken by something else, by another study running now, or cannot be written.
    """
    data = open_data(options)
    planned = plan_runs(study, options)
    out = options.out
    if not (out / STUDY_FILE).is_file():
        check_replaceable(out, overwrite=False)
    check_writable(out)
    with locked_folder(out, f"{out}: a study is running there. Wait for it, or choose another --out."):
        return _Study(study, options, planned, data, say).run()


class _Study:
    def __init__(
        self,
        study: Study,
        options: StudyOptions,
        planned: Sequence[PlannedRun],
        data: Any,
        say: Callable[[str, bool], None],
    ) -> None:
        self.study, self.options, self.planned, self.say = study, options, planned, say
        self.images = tested_images(data)
        self.chosen = [run for run in planned if not options.only or run.arm.name in options.only]
        self.progress = {run.name: progress_of(run, data)[0] for run in planned}
        self._refuse_different(data)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.jobs = options.jobs or cores
        self.threads = max(1, cores // self.jobs)
        self.state = self._state()
        self.last_running: list[str] | None = None

    def run(self) -> dict[str, Any]:
        waiting = [run for run in self.chosen if self.progress[run.name] != "finished"]
        rows = self._write()
        todo = []
        for run in waiting:
            clear_begun(run.folder)
            log = self.options.out / "logs" / f"{run.arm.name}-seed{run.seed}.log"
            todo.append(Job(run.name, commands_of(run, self.progress[run.name], self.options), log))
        run_jobs(todo, self.jobs, self.threads, self._ended, self._watch)
        rows = self._write()
        failed = {name: entry for name, entry in self.state["runs"].items() if entry["status"] == "failed"}
        if failed and len(failed) == len(self.chosen):
            name, entry = next(iter(failed.items()))
            raise RunError(
                f"{self.options.out}: every run failed; {name}: {entry['error']}\nThe whole output is in "
                f"{self.options.out / 'logs'}. Put that right, and run the study again."
            )
        return {**self.state, "tables": rows}

    def _refuse_different(self, data: Any) -> None:
        for run in self.chosen:
            if self.progress[run.name] == "different" and not self.options.overwrite:
                raise RunError(
                    f"{run.folder}: this run is not what is asked: {progress_of(run, data)[1]}. Ask as before, choose "
                    "another --out, or add --overwrite to train such runs again."
                )

    def _state(self) -> dict[str, Any]:
        path, old = self.options.out / STUDY_FILE, {}
        if path.is_file():
            old = read_json(path, OutputError, _REMEDY)
            name = old.get("study") if isinstance(old, dict) else None
            if name != self.study.name:
                raise OutputError(f"{path}: expected the study '{self.study.name}', found '{name}'. {_REMEDY}")
        runs = old.get("runs", {})
        return {
            "study": self.study.name,
            "ustoolkit": __version__,
            "records": str(self.options.records.resolve()),
            "splits": str(self.options.splits.resolve()) if self.options.splits else "",
            "seeds": self.options.seeds,
            "preview": self.options.preview,
            "set": list(self.options.changes),
            "jobs": self.jobs,
            "threads": self.threads,
            "runs": {run.name: self._entry(run, runs.get(run.name, {})) for run in self.planned},
        }

    def _entry(self, run: PlannedRun, old: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of a run at the start: a failure of an arm that is not tried now stays one."""
        if self.progress[run.name] == "finished":
            status = "finished"
        else:
            status = "failed" if old.get("status") == "failed" and run not in self.chosen else "waiting"
        error = old.get("error", "") if status == "failed" else ""
        return {"status": status, "seconds": old.get("seconds", 0.0), "error": error}

    def _ended(self, ending: Ending) -> None:
        entry = self.state["runs"][ending.job.name]
        entry["seconds"] = round(entry["seconds"] + ending.seconds, 1)
        entry["status"], entry["error"] = ("failed", ending.error) if ending.error else ("finished", "")
        if not ending.error:
            self.progress[ending.job.name] = "finished"
        self._write()

    def _watch(self, running: dict[str, float]) -> None:
        changed = list(running) != self.last_running
        self.last_running = list(running)
        self.say(progress_line(self._statuses(), running, self._durations(), self.jobs), changed)

    def _statuses(self) -> dict[str, str]:
        return {run.name: self.state["runs"][run.name]["status"] for run in self.chosen}

    def _durations(self) -> dict[str, float]:
        entries = self.state["runs"].items()
        return {name: entry["seconds"] for name, entry in entries if entry["status"] == "finished" and entry["seconds"]}

    def _write(self) -> dict[str, list[tables.Row]]:
        """Writes `study.json` and every table from the runs that are finished."""
        out = self.options.out
        write_json(out / STUDY_FILE, self.state)
        scores = read_scores([run for run in self.planned if self.progress[run.name] == "finished"], self.images)
        written = {}
        for comparison in self.study.comparisons:
            about = tables.explain(
                self.images,
                self.options.seeds,
                self._missing({arm for _, arm in comparison.arms}),
                self.options.preview,
            )
            rows = tables.compare(comparison, scores, self.images)
            written[comparison.name] = rows
            _write_table(out / comparison.name, comparison.title, rows, tables.format_table(comparison, rows), about)
            if comparison.by_size:
                rows, limits = tables.compare_by_size(comparison, scores, self.images)
                name, title = f"{comparison.name}-by-size", f"{comparison.title}, by size of the lesion"
                written[name] = rows
                text = tables.format_by_size(comparison, rows, limits)
                _write_table(out / name, title, rows, text, about)
        return written

    def _missing(self, arms: set[str]) -> dict[str, str]:
        missing = {}
        for run in self.planned:
            if run.arm.name in arms and self.progress[run.name] != "finished":
                failed = self.state["runs"][run.name]["status"] == "failed"
                missing[run.name] = "failed" if failed else "not trained yet"
        return missing


def progress_line(
    statuses: Mapping[str, str], running: Mapping[str, float], durations: Mapping[str, float], jobs: int
) -> str:
    """How far a study is, in one line.

    Args:
        statuses: 'waiting', 'finished' or 'failed' by run, of those that are asked for.
        running: seconds that each running one has taken so far.
        durations: seconds that finished runs took, by name; a run is taken to last as long as those of its arm, and
            where there are none as all of them.
        jobs: how many run at a time.
    """
    count = list(statuses.values()).count
    failed = f", {count('failed')} failed" if count("failed") else ""
    names = f"; running: {', '.join(running)}" if running else ""
    left = f"; {_time_left(statuses, running, durations, jobs)}" if count("waiting") else ""
    return f"{count('finished')} of {len(statuses)} runs done{failed}{names}{left}"


def _time_left(
    statuses: Mapping[str, str], running: Mapping[str, float], durations: Mapping[str, float], jobs: int
) -> str:
    if not durations:
        return "time left is known when the first ends"
    by_arm: dict[str, list[float]] = {}
    for name, seconds in durations.items():
        by_arm.setdefault(name.rpartition("/")[0], []).append(seconds)
    usual = sum(durations.values()) / len(durations)
    left = 0.0
    for name, status in statuses.items():
        if status == "waiting":
            known = by_arm.get(name.rpartition("/")[0])
            expected = sum(known) / len(known) if known else usual
            left += max(0.0, expected - running.get(name, 0.0))
    minutes = max(1, round(left / jobs / 60))
    return f"about {f'{minutes // 60} h {minutes % 60} min' if minutes >= 60 else f'{minutes} min'} left"


def _write_table(path: Path, title: str, rows: list[tables.Row], text: str, about: str) -> None:
    tables.write_csv(path.with_suffix(".csv"), rows)
    write_text(path.with_suffix(".md"), f"## {title}\n\n{text}\n\n{about}\n")
