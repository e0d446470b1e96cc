"""A server to measure, and clients that keep it busy, for benchmarks/serving.py."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_START = """
import sys
from pathlib import Path
from ustoolkit.serving.server import serve
from ustoolkit.serving.settings import ServerSettings
options = dict(each.split("=") for each in sys.argv[2:])
numbers = {name: float(value) if name.endswith("_ms") else int(value) for name, value in options.items()}
print(f"stopped after {serve(ServerSettings(Path(sys.argv[1]), port=0, **numbers))} requests", flush=True)
"""
_LONGEST_START_S = 300


@dataclass(frozen=True)
class Running:
    """A server process.

    Attributes:
        process: to look at.
        port: of 127.0.0.1.
    """

    process: subprocess.Popen
    port: int

    def stop(self) -> str:
        """Ends it, and returns the last line that it printed."""
        self.process.send_signal(signal.SIGTERM)
        lines = self.process.stdout.read().splitlines()
        if self.process.wait(60):
            raise SystemExit(f"the server ended with {self.process.returncode}")
        return lines[-1] if lines else ""


@contextlib.contextmanager
def running_server(export: Path, log: Path, **options: float) -> Iterator[Running]:
    """A server of an export on a free port, with `ServerSettings` as given; its log goes to a file."""
    command = [sys.executable, "-c", _START, str(export), *(f"{name}={value}" for name, value in options.items())]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        try:
            line = process.stdout.readline()
            if not line.startswith("serving "):
                raise SystemExit(f"the server did not start; see {log}")
            yield Running(process, int(line.rstrip("/\n").rsplit(":", 1)[1]))
        finally:
            if process.poll() is None:
                process.kill()


@dataclass(frozen=True)
class Request:
    """What a client sends.

    Attributes:
        path: with the query.
        media: of the body.
        body: its bytes.
        expected: statuses that are right.
    """

    path: str
    media: str
    body: bytes
    expected: tuple[int, ...] = (200,)


@dataclass
class Counts:
    """What clients saw.

    Attributes:
        sent: requests.
        by_status: their answers, 'lost' for those without.
        wrong: (path, status, start of the answer) of answers that were not expected.
        seconds: of each answer.
    """

    sent: int = 0
    by_status: Counter = field(default_factory=Counter)
    wrong: list[tuple[str, object, bytes]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def keep_busy(
    port: int,
    clients: int,
    seconds: float,
    next_request: Callable[[int, int], Request],
    warm_up: float = 0,
    count_all: bool = False,
) -> tuple[Counts, float]:
    """Clients in threads, each on one connection, that send a request as soon as the last is answered.

    Args:
        port: of the server on this machine.
        clients: how many.
        seconds: how long.
        next_request: (client, number of its request) to what it sends.
        warm_up: seconds before, that do not count.
        count_all: whether what is answered after the time counts too.
    Returns:
        what they saw, and the seconds that counted.
    """
    started = time.perf_counter() + warm_up
    until = started + seconds
    each = [Counts() for _ in range(clients)]

    def work(number: int) -> None:
        connection, count = http.client.HTTPConnection("127.0.0.1", port, timeout=120), 0
        while (now := time.perf_counter()) < until:
            request = next_request(number, count)
            count += 1
            status, answer = _ask(connection, request)
            after = time.perf_counter()
            # By its end: of answers that take seconds, those that began before would be missed.
            if not count_all and not started <= after <= until:
                continue
            counts = each[number]
            counts.sent += 1
            counts.by_status[status] += 1
            counts.seconds.append(after - now)
            if status not in request.expected:
                counts.wrong.append((request.path, status, answer[:200]))
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _joined(each), seconds


def _ask(connection: http.client.HTTPConnection, request: Request) -> tuple[object, bytes]:
    for fresh in (False, True):
        try:
            connection.request("POST", request.path, request.body, {"Content-Type": request.media})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (http.client.HTTPException, OSError):
            connection.close()  # the server may have closed a connection that it had told to: once more
            if fresh:
                break
    return "lost", b""


def _joined(each: Sequence[Counts]) -> Counts:
    joined = Counts()
    for counts in each:
        joined.sent += counts.sent
        joined.by_status += counts.by_status
        joined.wrong += counts.wrong
        joined.seconds += counts.seconds
    return joined
