"""A search of hyper-parameters: trials in processes of their own, judged on the validation part, taken up again."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import Trial, TrialState

from ustoolkit.errors import OutputError, UstoolkitError
from ustoolkit.files import LOCK_FILE, check_writable, locked_folder
from ustoolkit.processes import available_cores
from ustoolkit.run import Run
from ustoolkit.studies.jobs import Job, RunningJob, end_jobs
from ustoolkit.studies.search_options import Search, SearchOptions, open_search, with_own_recipe
from ustoolkit.studies.search_results import SEARCH_FILE, check_same, seconds_spent, write_results, write_state
from ustoolkit.studies.search_space import combinations, overrides_of, own_values
from ustoolkit.studies.search_store import open_study
from ustoolkit.studies.stages import clear_begun

_POLL_SECONDS = 0.5
_SECONDS_BETWEEN_STATES = 5.0  # of the minutes spent, so that no more than these are lost where all is killed
_FAILURES_TO_GIVE_UP = 8

Start = Callable[[Job, int], RunningJob]


def run_search(
    options: SearchOptions,
    say: Callable[[str, bool], None],
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
    start: Start = RunningJob,
) -> dict[str, Any]:
    """Tries settings of a recipe until the time or the number of trials is spent, and says which were best.

    In `options.out`: `trials/0000` and so on (ordinary run folders), `logs/`, `trials.journal` (Optuna's), and what
    `search_results.write_results` writes. Called again it goes on: what is finished stays, what was under way is taken
    up from its last checkpoint with the same settings.

    Args:
        options: of what, on what, where to, and how long.
        say: called with a line that says how far the search is, and whether more than the time has changed.
        clock: seconds from some beginning on.
        wait: for seconds, between two looks at the trials.
        start: starts a job with so many threads.
    Returns:
        what `tune.json` holds.
    Raises:
        RecipeError: the recipe, a change, or what is to be searched is not valid.
        RecordsError: records or split cannot be used.
        RunError: the folder holds another search, or no trial came to a score.
        OutputError: the folder is taken by something else, by a search running now, or cannot be written.
    """
    search, out = open_search(options), options.out
    _check_free(out)
    check_writable(out)
    with locked_folder(out, f"{out}: a search is running there. Wait for it, or choose another --out."):
        check_same(search)
        return _Running(with_own_recipe(search), say, clock, wait, start).run()


@dataclass
class _UnderWay:
    """A trial that trains now.

    Attributes:
        trial: Optuna's.
        job: its process.
        before: seconds that it had taken in earlier sittings.
    """

    trial: Trial
    job: RunningJob
    before: float


class _Running:
    def __init__(
        self,
        search: Search,
        say: Callable[[str, bool], None],
        clock: Callable[[], float],
        wait: Callable[[float], None],
        start: Start,
    ) -> None:
        self.search, self.options, self.say, self.clock, self.wait, self.start = (
            search,
            search.options,
            say,
            clock,
            wait,
            start,
        )
        cores = available_cores()
        self.jobs = self.options.jobs or cores
        self.threads = max(1, cores // self.jobs)
        self.grid = combinations(search.space)
        self.own = own_values(search.space, search.recipe, search.load)
        self.study = open_study(search)
        self.began, self.before = clock(), seconds_spent(search)
        self.running: list[_UnderWay] = []
        self.reported: dict[int, int] = {}  # epochs that Optuna knows of, by trial
        self.failures = 0  # one after the other, in this sitting
        self.said = ""
        self.next_state = -np.inf

    @property
    def seconds(self) -> float:
        """Spent on the search, over all sittings."""
        return self.before + self.clock() - self.began

    @property
    def is_over(self) -> bool:
        return self.seconds >= 60.0 * self.options.minutes

    def run(self) -> dict[str, Any]:
        write_state(self.search, self.seconds, self.study)
        left = self._trials()
        try:
            while not self.is_over:
                while len(self.running) < self.jobs and (trial := next(left, None)):
                    self._begin(trial)
                self._tell_how_far()
                if not self.running:
                    break
                self.wait(_POLL_SECONDS)
                self.running = [each for each in self.running if not self._look(each)]
        finally:
            # What is under way stays so, and is taken up where there is more time.
            end_jobs([each.job for each in self.running])
            for each in self.running:
                self._report(each.trial, each)
            write_state(self.search, self.seconds, self.study)
        return write_results(self.search, self.seconds, self.study, self.own)

    def _trials(self) -> Iterator[Trial]:
        """Those that were under way, then new ones, as long as there may be more."""
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._seed(frozen.number)
            self.reported[frozen.number] = len(frozen.intermediate_values)
            yield self._with_values(Trial(self.study, frozen._trial_id))  # `ask` gives new ones only
        while self.failures < _FAILURES_TO_GIVE_UP and not self.is_over:
            there = self.study.get_trials(deepcopy=False)
            waiting = [trial.number for trial in there if trial.state is TrialState.WAITING]
            number = waiting[0] if waiting else len(there)
            most = min(self.options.trials or np.inf, len(self.grid) or np.inf)
            if number >= most:
                return
            values = self.grid[number] if self.grid else self.own if number == 0 else {}
            if values and not waiting:
                self.study.enqueue_trial(values)
            self._seed(number)
            yield self._with_values(self.study.ask())

    def _seed(self, number: int) -> None:
        """Draws of a trial depend on its number alone, so that a search taken up again does not repeat its first."""
        seed = int(np.random.SeedSequence([self.options.seed, number]).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(multivariate=True, seed=seed)

    def _with_values(self, trial: Trial) -> Trial:
        for key, found in self.search.space.items():
            if isinstance(found, optuna.distributions.CategoricalDistribution):
                trial.suggest_categorical(key, found.choices)
            elif isinstance(found, optuna.distributions.IntDistribution):
                trial.suggest_int(key, found.low, found.high, log=found.log)
            else:
                trial.suggest_float(key, found.low, found.high, log=found.log)
        return trial

    def _begin(self, trial: Trial) -> None:
        """Starts a trial, goes on with it, or takes its result where it had come to its end."""
        folder = self.search.folder(trial.number)
        clear_begun(folder)
        try:
            self.search.load(overrides_of(trial.params))  # settings may be valid alone, and not together
            if self.search.is_finished(folder):
                self._finish(trial)
                return
        except UstoolkitError as problem:
            self._fail(trial, str(problem))
            if self.grid:
                self.failures -= 1  # it cost nothing, and there are only so many
            return
        log = self.options.out / "logs" / f"{trial.number:04}.log"
        job = Job(f"{trial.number:04}", (self.search.command(trial.number, trial.params),), log)
        before = float(trial.user_attrs.get("seconds", 0.0))
        self.running.append(_UnderWay(trial, self.start(job, self.threads), before))

    def _look(self, each: _UnderWay) -> bool:
        """Reports what a trial has come to, and whether it has ended: by itself, or since others were better."""
        over = each.job.is_over()
        prune = self._report(each.trial, None if over else each)
        if not over and not prune:
            return False
        each.trial.set_user_attr("seconds", round(each.before + each.job.seconds, 1))
        if prune:
            end_jobs([each.job])
            self._end(each.trial, TrialState.PRUNED, "pruned", "")
        elif each.job.error:
            self._fail(each.trial, each.job.error)
        else:
            self._finish(each.trial)
        return True

    def _report(self, trial: Trial, under_way: _UnderWay | None) -> bool:
        """Reports the epochs that are new; whether a trial under way should end here."""
        try:
            history = Run(self.search.folder(trial.number)).read_history()
        except UstoolkitError:  # not begun yet; what is damaged says so when it ends
            return False
        for row in history[self.reported.get(trial.number, 0) :]:
            trial.report(row[self.search.score], step=int(row["epoch"]) - 1)  # which pruners count from 0
            self.reported[trial.number] = int(row["epoch"])
            if under_way:
                trial.set_user_attr("seconds", round(under_way.before + under_way.job.seconds, 1))
                if trial.should_prune():
                    return True
        return False

    def _finish(self, trial: Trial) -> None:
        self._report(trial, None)
        try:
            score = self.search.score_of(self.search.folder(trial.number))
        except UstoolkitError as problem:
            self._fail(trial, str(problem))
            return
        self._end(trial, TrialState.COMPLETE, "finished", "", score)

    def _fail(self, trial: Trial, reason: str) -> None:
        # As pruned, so that the sampler takes it for worse than what finished; of failed trials it learns nothing.
        self._end(trial, TrialState.PRUNED, "failed", reason)

    def _end(self, trial: Trial, state: TrialState, outcome: str, reason: str, score: float | None = None) -> None:
        self.failures = self.failures + 1 if outcome == "failed" else 0
        trial.set_user_attr("reason", reason)
        trial.set_user_attr("outcome", outcome)
        trial.set_user_attr("ended_after_seconds", round(self.seconds, 1))
        self.study.tell(trial, score, state)

    def _tell_how_far(self) -> None:
        ended = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]
        scores = [trial.value for trial in ended if trial.state is TrialState.COMPLETE and trial.value is not None]
        best = f", best {max(scores):.3f}" if scores else ""
        names = ", ".join(each.job.job.name for each in self.running)
        line = f"{len(ended)} trials ended{best}" + (f"; running: {names}" if names else "")
        changed, self.said = line != self.said, line
        self.say(f"{line}; {self.seconds / 60:.0f} of {self.options.minutes:g} minutes", changed)
        if changed or self.clock() >= self.next_state:
            write_state(self.search, self.seconds, self.study)
            self.next_state = self.clock() + _SECONDS_BETWEEN_STATES


_FIRST_FILES = (LOCK_FILE, "recipe.toml", "trials.journal")  # of a search that was ended as it began


def _check_free(out: Path) -> None:
    """Nothing but a search may be there, nor what one leaves that was ended as it began."""
    if not out.is_dir() or (out / SEARCH_FILE).is_file():
        return
    others = [path.name for path in out.iterdir() if path.name not in _FIRST_FILES and not path.name.startswith(".")]
    if others:
        raise OutputError(f"{out}: expected a new folder or one of a search, found other files. Choose another --out.")
