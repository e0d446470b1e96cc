"""Commands in processes of their own, some at a time, that never outlive this one."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ustoolkit.errors import OutputError

_POLL_SECONDS = 0.2
_SECONDS_TO_END = 10.0
_LOG_LINES = 6
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)

Commands = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Job:
    """Some commands to run one after another.

    Attributes:
        name: for messages.
        commands: arguments of `ustoolkit`, such as ('train', 'unet', …); a later one runs if those before succeed. Or
            what gives them, called when the job starts.
        log: file that their output is appended to.
        after: names of others that must have succeeded before.
    """

    name: str
    commands: Commands | Callable[[], Commands]
    log: Path
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Attributes:
        job: which.
        seconds: it took.
        error: '' where every command succeeded, else the last lines of the log, or the job before it that failed.
    """

    job: Job
    seconds: float
    error: str


def run_jobs(
    jobs: Sequence[Job],
    at_once: int,
    threads: int,
    ended: Callable[[Ending], None],
    watch: Callable[[dict[str, float]], None],
) -> None:
    """Runs jobs in the order given, each when those it comes after have succeeded, or fails it as one of them does.

    When this ends, for whatever reason, so do their processes. A process that is killed outright cannot end others; on
    Linux the kernel then does it.

    Args:
        jobs: what to run; one that is not among them is taken to be done.
        at_once: how many at a time, at least 1.
        threads: for the arithmetic of each.
        ended: called when a job has ended, well or not; the others go on.
        watch: called some times a second with the seconds that each running job has taken so far, by name.
    Raises:
        OutputError: a log cannot be written.
    """
    waiting, running, endings = list(jobs), list[RunningJob](), list[Ending]()
    unfinished = {job.name for job in jobs}
    try:
        while waiting or running or endings:
            while len(running) < at_once and (job := _first_ready(waiting, unfinished)):
                waiting.remove(job)
                running.append(RunningJob(job, threads))
            while endings:  # after the next has been started, since the caller may take its time
                ended(endings.pop(0))
            watch({each.job.name: each.seconds for each in running})
            time.sleep(_POLL_SECONDS)
            for each in [each for each in running if each.is_over()]:
                running.remove(each)
                endings.append(Ending(each.job, each.seconds, each.error))
                if not each.error:
                    unfinished.discard(each.job.name)
                for job, failed in _dependants(waiting, each.job.name) if each.error else ():
                    waiting.remove(job)
                    endings.append(Ending(job, 0.0, f"{failed} failed, which comes before it"))
    finally:
        end_jobs(running)


def _first_ready(waiting: Sequence[Job], unfinished: set[str]) -> Job | None:
    return next((job for job in waiting if unfinished.isdisjoint(job.after)), None)


def _dependants(waiting: Sequence[Job], name: str) -> list[tuple[Job, str]]:
    """The jobs that come after one, directly or not, each once, with the one before it that fails."""
    found: dict[str, tuple[Job, str]] = {}
    failed = [name]
    for before in failed:  # which grows as it goes
        for job in waiting:
            if before in job.after and job.name not in found:
                found[job.name] = job, before
                failed.append(job.name)
    return list(found.values())


def end_jobs(running: Sequence["RunningJob"]) -> None:
    """Ends jobs under way, all at once, with what their processes started: politely, then not."""
    _stop([each.process for each in running if each.process])


class RunningJob:
    """A job under way: the process of its current command, and the commands after it.

    Whoever starts one ends it by `end_jobs`, unless it is over; on Linux the kernel does where the caller is killed.

    Attributes:
        job: which.
        error: '' while no command has failed, else the last lines of the log.
        process: of the current command; None where there was nothing to run.
    """

    def __init__(self, job: Job, threads: int) -> None:
        """Starts the first command.

        Args:
            job: what to run; what it comes after is not looked at.
            threads: for its arithmetic.
        Raises:
            OutputError: the log cannot be written.
        """
        self.job, self.error = job, ""
        self._threads, self._started = threads, time.monotonic()
        self._next = list(job.commands() if callable(job.commands) else job.commands)
        self.process = self._start() if self._next else None

    @property
    def seconds(self) -> float:
        """Since the job began."""
        return time.monotonic() - self._started

    def is_over(self) -> bool:
        """Whether the job has ended; starts its next command where one has succeeded."""
        if self.process is None:
            return True
        code = self.process.poll()
        if code is None:
            return False
        if code:
            self.error = _explain(code, self.job.log)
        elif self._next:
            self.process = self._start()
            return False
        return True

    def _start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "ustoolkit", *self._next.pop(0)]
        try:
            self.job.log.parent.mkdir(parents=True, exist_ok=True)
            with self.job.log.open("ab") as log:
                # A session of its own, so that Ctrl-C reaches the study alone, which then ends them all.
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **_thread_limits(self._threads)},
                    start_new_session=True,
                    preexec_fn=_die_with(os.getpid()) if sys.platform == "linux" else None,
                )
        except OSError as problem:
            raise OutputError(
                f"{self.job.log}: cannot start with this log ({problem}). Make room, or choose another --out."
            ) from None


def _thread_limits(threads: int) -> dict[str, str]:
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    # Several processes may share a GPU, of which TensorFlow would give all to the first.
    return {**dict.fromkeys(names, str(threads)), "TF_FORCE_GPU_ALLOW_GROWTH": "true"}


def _die_with(parent: int) -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl  # looked up here, since little is safe between fork and exec

    def set_signal() -> None:
        prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return set_signal


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + _SECONDS_TO_END
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen, number: signal.Signals) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _explain(code: int, log: Path) -> str:
    """The last lines of a log, and the signal that ended the command, if one did."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = "\n".join(lines[-_LOG_LINES:])
    if code >= 0:
        return said or f"exit code {code}"
    hint = ", as when memory runs out; try fewer --jobs" if code == -signal.SIGKILL else ""
    return f"{said}\nended by signal {-code}{hint}".strip()
