"""How a benchmark talks to a framework's process: a line of JSON in, a line of JSON out."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol


class Framework(Protocol):
    """What a side can do."""

    def hello(self) -> dict[str, Any]:
        """Versions and thread counts."""

    def describe(self, subject: str) -> dict[str, Any]:
        """What a network or layer gives, and how many weights it has, so that the sides can be compared."""

    def prepare(self, task: str) -> Callable[[], object]:
        """Gets a task ready; calling the answer does it once, to the end."""


def flags_and_settings(text: str) -> tuple[list[str], list[str]]:
    """Splits the words of a task into plain ones and those that set something, as 'training.batch_size=4'."""
    words = text.split()
    return [word for word in words if "=" not in word], [word for word in words if "=" in word]


def serve(framework: Framework) -> None:
    """Answers requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints does not come between the answers
    ready: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any = None
        if "hello" in request:
            answer = framework.hello()
        elif "describe" in request:
            answer = framework.describe(request["describe"])
        elif "forget" in request:
            ready.clear()
        else:
            task, warm_up = request["task"], request.get("warm_up", True)
            if task not in ready:
                ready[task] = framework.prepare(task)
                if warm_up:
                    ready[task]()
            answer = _times(ready[task], request["seconds"], warm_up)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _times(once: Callable[[], object], seconds: float, warm_up: bool) -> list[float]:
    """Seconds of each repetition, at least one, for about as long as asked; to warm up one goes before, untimed."""
    if warm_up:
        once()
    times: list[float] = []
    while not times or sum(times) < seconds:
        started = time.perf_counter()
        once()
        times.append(time.perf_counter() - started)
    return times
