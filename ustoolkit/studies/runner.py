"""A study from end to end: what is done is kept, what is missing is trained, the tables say what came out."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ustoolkit import __version__
from ustoolkit.errors import OutputError, RunError
from ustoolkit.files import check_replaceable, check_writable, locked_folder, read_json, write_json, write_text
from ustoolkit.processes import available_cores
from ustoolkit.studies import tables
from ustoolkit.studies.comparison import Study, Table
from ustoolkit.studies.jobs import Ending, Job, run_jobs
from ustoolkit.studies.plan import Planned, StudyOptions, chosen_runs, left_out_arms, plan_runs
from ustoolkit.studies.scores import read_scores, tested_images
from ustoolkit.studies.stages import (
    FinishedRuns,
    StudyData,
    clear_begun,
    commands_of,
    open_data,
    survey,
    with_protocols,
)

STUDY_FILE = "study.json"
_SECONDS_BETWEEN_TABLES = 60.0  # of a study's own, whose intervals take seconds
_REMEDY = "Choose another --out, or remove the file."


def run_study(study: Study, options: StudyOptions, say: Callable[[str, bool], None]) -> dict[str, Any]:
    """Trains and scores the runs of a study that are not there yet, and writes its tables.

    In `options.out`: `runs/<arm>/seed<k>` and `pretraining/<arm>` (ordinary run folders), `fusions/<arm>/seed<k>`,
    `protocols/` (splits that ignore patients), `logs/`, `study.json`, and a CSV and a Markdown file a table, written
    anew when runs end.

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
        data = with_protocols(study, options, planned, data)
        return _Study(study, options, planned, data, say).run()


class _Study:
    def __init__(
        self,
        study: Study,
        options: StudyOptions,
        planned: Sequence[Planned],
        data: StudyData,
        say: Callable[[str, bool], None],
    ) -> None:
        self.study, self.options, self.planned, self.say = study, options, planned, say
        self.images = tested_images(data)
        self.left_out = left_out_arms(study, options)
        found = survey(planned, data)
        self.progress = {name: stage for name, (stage, _) in found.items()}
        self.chosen = self._chosen()
        self._refuse_different({name: why for name, (_, why) in found.items()})
        cores = available_cores()
        self.jobs = options.jobs or cores
        self.threads = max(1, cores // self.jobs)
        self.state = self._state()
        self.last_running: list[str] | None = None
        self.next_tables = 0.0

    def run(self) -> dict[str, Any]:
        waiting = [run for run in self.chosen if self.progress[run.name] != "finished"]
        rows = self._write()
        todo = []
        for run in waiting:
            clear_begun(run.folder)
            log = self.options.out / "logs" / f"{run.name.replace('/', '-')}.log"
            commands = commands_of(run, self.progress[run.name], self.options, self.threads)
            todo.append(Job(run.name, commands, log, after=self._awaited(run)))
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

    def _chosen(self) -> list[Planned]:
        """The runs asked for, less pre-training that is not there and that none of them waits for."""
        chosen = chosen_runs(self.planned, self.options.only)
        kept = {name for run in chosen for name in self._awaited(run)} | set(self.options.only)
        return [run for run in chosen if not run.pretraining or run.name in kept or self.progress[run.name] != "absent"]

    def _awaited(self, run: Planned) -> tuple[str, ...]:
        """Names of the runs that one starts from; none where it has begun, and so holds its initial weights already."""
        return run.needs if self.progress[run.name] in ("absent", "different") else ()

    def _refuse_different(self, reasons: Mapping[str, str]) -> None:
        for run in self.chosen:
            if self.progress[run.name] == "different" and not self.options.overwrite:
                raise RunError(
                    f"{run.folder}: this run is not what is asked: {reasons[run.name]}. Ask as before, choose another "
                    "--out, or add --overwrite to train such runs again."
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
            "splits": _path(self.options.splits),
            "pretraining_records": _path(self.options.pretraining_records),
            "seeds": self.options.seeds,
            "preview": self.options.preview,
            "set": list(self.options.changes),
            "jobs": self.jobs,
            "threads": self.threads,
            "runs": {run.name: self._entry(run, runs.get(run.name, {})) for run in self.planned},
        }

    def _entry(self, run: Planned, old: Mapping[str, Any]) -> dict[str, Any]:
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
        self._write(ending.job.name.rpartition("/")[0])

    def _watch(self, running: dict[str, float]) -> None:
        changed = list(running) != self.last_running
        self.last_running = list(running)
        self.say(progress_line(self._statuses(), running, self._durations(), self.jobs), changed)

    def _statuses(self) -> dict[str, str]:
        return {run.name: self.state["runs"][run.name]["status"] for run in self.chosen}

    def _durations(self) -> dict[str, float]:
        entries = self.state["runs"].items()
        return {name: entry["seconds"] for name, entry in entries if entry["status"] == "finished" and entry["seconds"]}

    def _write(self, arm: str = "") -> dict[str, list[tables.Row]]:
        """Writes `study.json`, and from the runs that are finished every table, or those that hold an arm."""
        out = self.options.out
        write_json(out / STUDY_FILE, self.state)
        if self.study.tabulate:
            if arm and time.monotonic() < self.next_tables:
                return {}
            return self._write_own(self.study.tabulate)
        shown = [each for each in self.study.comparisons if not arm or arm in each.trained]
        needed = {name for comparison in shown for name in comparison.trained}
        finished = [run for run in self._scored(needed) if self.progress[run.name] == "finished"]
        scores = read_scores(finished, self.images)
        written = {}
        for comparison in shown:
            rows = tables.compare(comparison, scores, self.images)
            about = tables.explain(
                self.images,
                self.options.seeds,
                self._missing(comparison.trained),
                self.options.preview,
                [name for name in self.left_out if name in comparison.trained],
                tables.counts_pixels(rows),
            )
            written[comparison.name] = rows
            _write_table(out / comparison.name, comparison.title, rows, tables.format_table(comparison, rows), about)
            if comparison.by_size:
                rows, limits = tables.compare_by_size(comparison, scores, self.images)
                name, title = f"{comparison.name}-by-size", f"{comparison.title}, by size of the lesion"
                written[name] = rows
                text = tables.format_by_size(comparison, rows, limits)
                _write_table(out / name, title, rows, text, about)
        return written

    def _write_own(self, tabulate: Callable[[FinishedRuns], list[Table]]) -> dict[str, list[tables.Row]]:
        """Writes the tables that the study makes itself."""
        scored = [run for run in self.planned if not run.pretraining]
        finished = [run for run in scored if self.progress[run.name] == "finished"]
        missing = self._missing({run.arm.name for run in scored})
        written = tabulate(FinishedRuns(finished, self.options, missing, self.left_out))
        for table in written:
            _write_table(self.options.out / table.name, table.title, table.rows, table.text, table.about)
        self.next_tables = time.monotonic() + _SECONDS_BETWEEN_TABLES
        return {table.name: table.rows for table in written}

    def _scored(self, arms: set[str]) -> list[Planned]:
        return [run for run in self.planned if run.arm.name in arms and not run.pretraining]

    def _missing(self, arms: set[str]) -> dict[str, str]:
        missing = {}
        for run in self._scored(arms):
            if self.progress[run.name] != "finished":
                failed = self.state["runs"][run.name]["status"] == "failed"
                missing[run.name] = "failed" if failed else "not trained yet"
        return missing


def _path(path: Path | None) -> str:
    return str(path.resolve()) if path else ""


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
