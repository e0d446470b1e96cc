"""A study from end to end: what is done is kept, what is missing is trained, the tables say what came out."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ustoolkit import __version__
from ustoolkit.errors import OutputError, RunError
from ustoolkit.files import check_replaceable, check_writable, locked_folder, read_json, write_json
from ustoolkit.processes import available_cores
from ustoolkit.studies.asked import StudyOptions, folds_of, matches
from ustoolkit.studies.comparison import Study
from ustoolkit.studies.jobs import Commands, Ending, Job, run_jobs
from ustoolkit.studies.plan import Planned, PlannedRun, chosen_runs, plan_runs
from ustoolkit.studies.results import Results
from ustoolkit.studies.stages import StudyData, clear_begun, commands_of, prepare_data, progress_of, survey

STUDY_FILE = "study.json"
_SECONDS_BETWEEN_TABLES = 60.0  # of a study's own, whose intervals take seconds
_REMEDY = "Choose another --out, or remove the file."


def run_study(study: Study, options: StudyOptions, say: Callable[[str, bool], None]) -> dict[str, Any]:
    """Trains and scores the runs of a study that are not there yet, and writes its tables.

    In `options.out`: `runs/<arm>/seed<k>` (with folds `seed<k>-fold<n>`) and `pretraining/<arm>`, which are run folders
    like any, `fusions/<arm>/seed<k>`, `folds/`, `protocols/` (splits that ignore patients), `preparations/` (records),
    `logs/`, `study.json`, `runs.csv`, a CSV, a Markdown and a LaTeX file a table, written anew when runs end, and the
    figures at the end.

    Args:
        study: which.
        options: on what, where to, and how.
        say: called with a line that says how far the study is, and whether more than the time left has changed.
    Returns:
        what `study.json` holds, with the rows of each table under 'tables', their Markdown under 'pages', and the files
        of the figures under 'figures'.
    Raises:
        RecordsError: records or split cannot be used.
        RecipeError: a recipe, a setting or the name of an arm is not valid.
        RunError: a run there differs from what is asked, or every run failed.
        OutputError: the folder is taken by something else, by another study running now, or cannot be written.
    """
    planned = plan_runs(study, options)
    data = StudyData(options, folds=folds_of(study, options) != (0,))
    out = options.out
    if not (out / STUDY_FILE).is_file() and not _only_locked(out):
        check_replaceable(out, overwrite=False)
    check_writable(out)
    with locked_folder(out, f"{out}: a study is running there. Wait for it, or choose another --out."):
        _known(study, out)  # so that nothing is put into the folder of another study
        if not (out / STUDY_FILE).is_file():  # so that this one's may be gone on with, whatever happens
            write_json(out / STUDY_FILE, {"study": study.name})
        prepare_data(study, options, data, say)
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
        self.study, self.options, self.planned, self.data, self.say = study, options, planned, data, say
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
        self._write()
        todo = []
        for run in waiting:
            log = self.options.out / "logs" / f"{run.name.replace('/', '-')}.log"
            commands: Commands | Callable[[], Commands]
            if isinstance(run, PlannedRun) and run.after and self.progress[run.name] in ("absent", "different"):
                commands = partial(self._commands_once_decided, run.name)
            else:
                clear_begun(run.folder)
                commands = commands_of(run, self.progress[run.name], self.options, self.threads)
            todo.append(Job(run.name, commands, log, after=self._awaited(run)))
        run_jobs(todo, self.jobs, self.threads, self._ended, self._watch)
        results = self._write()
        figures = results.draw()
        failed = [name for name, status in self._statuses().items() if status == "failed"]
        if failed and len(failed) == len(self.chosen):
            error = self.state["runs"][failed[0]]["error"]
            raise RunError(
                f"{self.options.out}: every run failed; {failed[0]}: {error}\nThe whole output is in "
                f"{self.options.out / 'logs'}. Put that right, and run the study again."
            )
        pages, drawn = list(results.pages.values()), [str(path) for path in figures]
        return {**self.state, "tables": results.tables, "pages": pages, "figures": drawn}

    def _commands_once_decided(self, name: str) -> tuple[tuple[str, ...], ...]:
        """The commands of a run that depends on others, which are finished now."""
        self.planned = plan_runs(self.study, self.options)
        run = next(run for run in self.planned if isinstance(run, PlannedRun) and run.name == name)
        if run.undecided:  # by now it must not be: it would be trained with settings that are not its own
            raise RunError(
                f"{run.folder}: its settings depend on {', '.join(run.after)}, and one of these has no validation "
                "Dice, or another recipe than is asked. Remove that run, and run the study again."
            )
        clear_begun(run.folder)
        stage, _ = progress_of(run, self.data)
        if stage == "different" and not self.options.overwrite:
            stage = "absent"  # which training refuses, and says why
        return commands_of(run, stage, self.options, self.threads)

    def _chosen(self) -> list[Planned]:
        """The runs asked for, less pre-training that is not there and that none of them waits for."""
        chosen = chosen_runs(self.planned, self.options.only)
        kept = {name for run in chosen for name in self._awaited(run)}
        return [
            run
            for run in chosen
            if not run.pretraining
            or run.name in kept
            or matches(run.name, self.options.only)
            or self.progress[run.name] != "absent"
        ]

    def _awaited(self, run: Planned) -> tuple[str, ...]:
        """Names of the runs that one starts from; none where it has begun, and so holds its initial weights already."""
        return (*run.needs, *run.after) if self.progress[run.name] in ("absent", "different") else ()

    def _refuse_different(self, reasons: Mapping[str, str]) -> None:
        for run in self.chosen:
            if self.progress[run.name] == "different" and not self.options.overwrite:
                raise RunError(
                    f"{run.folder}: this run is not what is asked: {reasons[run.name]}. Ask as before, choose another "
                    "--out, or add --overwrite to train such runs again."
                )

    def _state(self) -> dict[str, Any]:
        runs = _known(self.study, self.options.out).get("runs", {})
        return {
            "study": self.study.name,
            "description": self.study.description,
            "ustoolkit": __version__,
            "records": str(self.options.records.resolve()),
            "splits": _path(self.options.splits),
            "pretraining_records": _path(self.options.pretraining_records),
            "second_records": _path(self.options.second_records),
            "seeds": self.options.seeds,
            "folds": folds_of(self.study, self.options)[-1],
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

    def _write(self, arm: str = "") -> Results:
        """Writes `study.json`, the list of runs, and from those that are finished every table, or those of an arm."""
        write_json(self.options.out / STUDY_FILE, self.state)
        if self.study.ladder and arm:
            self.planned = plan_runs(self.study, self.options)
        failed = {name for name, entry in self.state["runs"].items() if entry["status"] == "failed"}
        finished = {name for name, stage in self.progress.items() if stage == "finished"}
        results = Results(self.study, self.options, self.planned, finished, failed, self.data)
        results.write_runs(self.state["runs"])
        results.write_comparisons(arm)
        if not arm or time.monotonic() > self.next_tables:
            results.write_own()
            if not arm:
                self.state["table_order"] = list(results.tables)
                write_json(self.options.out / STUDY_FILE, self.state)
            self.next_tables = time.monotonic() + _SECONDS_BETWEEN_TABLES
        return results


def _known(study: Study, out: Path) -> dict[str, Any]:
    """What `study.json` holds; nothing where there is none yet."""
    path = out / STUDY_FILE
    if not path.is_file():
        return {}
    found = read_json(path, OutputError, _REMEDY)
    name = found.get("study") if isinstance(found, dict) else None
    if name != study.name:
        raise OutputError(f"{path}: expected the study '{study.name}', found '{name}'. {_REMEDY}")
    return found


def _only_locked(out: Path) -> bool:
    """Whether a study was stopped there before it wrote anything but its lock."""
    return out.is_dir() and [path.name for path in out.iterdir()] == ["lock"]


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
