"""What sets frameworks beside each other: child processes that take turns, ratios of their times, and the machine."""

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OURS, PEER = "ours", "PyTorch"
_BUSY = """WARNING: other work is running. On several cores that costs PyTorch's training and inference far more than
ours, since its threads wait for the slowest one. Repeat on a quiet machine, or on one core: taskset -c 0 python …
"""


class Side:
    """A child process that does one framework's tasks when asked.

    Args:
        name: of the framework.
        script: a file beside this one that ends in `side_protocol.serve`.
        folder: where the sides leave files for each other.
    """

    def __init__(self, name: str, script: str, folder: Path) -> None:
        self.name, self._script = name, script
        command = [sys.executable, str(HERE / script), str(folder)]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}  # all on the CPU
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def ask(self, **request: Any) -> Any:
        """Sends a request and waits for its answer.

        Raises:
            SystemExit: the child has died; what it said is on the terminal.
        """
        try:
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
            answer = self._child.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise SystemExit(f"{self._script}: stopped while doing {request}; its message is above.")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the child."""
        self._child.stdin.close()
        self._child.wait()


@dataclass(frozen=True)
class Task:
    """What one side is timed with.

    Attributes:
        side: which side does it.
        name: as that side knows it.
        most_rounds: of something so slow that few rounds have to do, the first ones, and that is not warmed up either;
            0 for all rounds.
    """

    side: str
    name: str
    most_rounds: int = 0


class Times:
    """Seconds by task and round."""

    def __init__(self) -> None:
        self.seconds: dict[Task, dict[int, list[float]]] = {}

    def milliseconds(self, task: Task) -> float:
        """Median of the rounds' medians."""
        return 1000 * statistics.median(map(statistics.median, self.seconds[task].values()))

    def ratios(self, task: Task, peer: Task) -> list[float]:
        """How many times as fast as a peer a task is, sorted, one for each round that both took part in."""
        rounds = self.seconds[task].keys() & self.seconds[peer].keys()
        return sorted(
            statistics.median(self.seconds[peer][turn]) / statistics.median(self.seconds[task][turn]) for turn in rounds
        )

    def times_as_fast(self, task: Task, peer: Task) -> float:
        """The median of `ratios`; more than 1 means that the task is faster than the peer."""
        return statistics.median(self.ratios(task, peer))

    def shown(self, task: Task, peer: Task) -> str:
        """`times_as_fast` with the range of the rounds, for a table."""
        ratios = self.ratios(task, peer)
        median = number(statistics.median(ratios), 2)
        return median if len(ratios) == 1 else f"{median} ({number(ratios[0], 2)} to {number(ratios[-1], 2)})"

    def to_json(self) -> list[dict[str, Any]]:
        """Every single measurement."""
        return [
            {"side": task.side, "task": task.name, "seconds_by_round": list(rounds.values())}
            for task, rounds in self.seconds.items()
        ]


def take_turns(sides: Sequence[Side], tasks: Sequence[Task], rounds: int, seconds: float) -> Times:
    """Times tasks in rounds, one after the other, in the order given and in every other round backwards.

    Tasks that are compared should stand next to each other, so that a machine that slows down does so for both.

    Args:
        sides: the children.
        tasks: what they are to do; doubles are left out.
        rounds: how often each is timed, after a round that compiles and fills caches.
        seconds: how long each is repeated in a round, at least once.
    """
    by_name = {side.name: side for side in sides}
    tasks = list(dict.fromkeys(tasks))
    for task in tasks:
        if not task.most_rounds:
            by_name[task.side].ask(task=task.name, seconds=0)
    times = Times()
    for turn in range(rounds):
        for task in tasks[:: -1 if turn % 2 else 1]:
            if 0 < task.most_rounds <= turn:
                continue
            taken = by_name[task.side].ask(task=task.name, seconds=seconds, warm_up=not task.most_rounds)
            times.seconds.setdefault(task, {})[turn] = taken
    return times


def target_line(what: str, needed: float, found: float) -> str:
    """Whether a ratio reaches what was aimed at, as a line of a Markdown list."""
    verdict = "reached" if found >= needed else "NOT reached"
    return f"- {what}: at least {needed:g} ×, found {number(found, 2)} ×: {verdict}"


def number(value: float, decimals: int = 1) -> str:
    """A number for a table, without decimals from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.{decimals}f}"


def require_pytorch() -> None:
    """Ends the script where PyTorch is not installed.

    Raises:
        SystemExit: it is not.
    """
    if importlib.util.find_spec("torch") is None:
        raise SystemExit("PyTorch is not installed. Run: pip install -e '.[bench]'")


def cores() -> int:
    """Cores that this process may use; each framework gets as many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Processor, cores, and how busy it was when this began."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = information.read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return {
        "processor": name,
        "cores": cores(),
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "date": date.today().isoformat(),
    }


def print_machine(about: dict[str, Any]) -> None:
    """Prints what `machine` found and the sides said, with a warning where other work is running."""
    if (about["load_average"] or 0) > 0.25 * (os.cpu_count() or 1):
        print(_BUSY)
    print(*(f"{key}: {value}" for key, value in about.items()), sep="\n", end="\n\n", flush=True)
