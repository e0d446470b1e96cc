"""A real server process: overload, what is no HTTP, an end under load that loses nothing, thousands of bad bodies."""

import base64
import contextlib
import http.client
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.data.fuzz import mutate_bytes
from tests.serving.test_uploads import seeds
from ustoolkit import cli
from ustoolkit.errors import RunError, UstoolkitError
from ustoolkit.serving import server
from ustoolkit.serving.settings import ServerSettings

START = """
import sys
from pathlib import Path
from ustoolkit.serving.server import serve
from ustoolkit.serving.settings import ServerSettings
requests = serve(ServerSettings(Path(sys.argv[1]), port=0, **dict(map(lambda each: (each.split("=")[0],
    int(each.split("=")[1])), sys.argv[2:]))))
print(f"stopped after {requests} requests")
"""
PREDICT = "/v1/models/tiny:predict"


class Process:
    """A server on a free port, and what its clients saw."""

    def __init__(self, export, *options):
        command = [sys.executable, "-c", START, str(export), *options]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("serving tiny, version 3, at http://127.0.0.1:"), line + self.process.stderr.read()
        self.port = int(line.rstrip("/\n").rsplit(":", 1)[1])
        self.log = []
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr))
        self._reader.start()

    def end(self, by=signal.SIGTERM):
        """What it printed last, and its exit status."""
        self.process.send_signal(by)
        rest = self.process.stdout.read()
        status = self.process.wait(60)
        self._reader.join()
        return rest.strip(), status

    def memory_mb(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def raw(self, content):
        """All that is answered to bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@contextlib.contextmanager
def running(export, *options):
    process = Process(export, *options)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()


def ask(connection, path, body, media):
    connection.request("POST", path, body, {"Content-Type": media})
    answer = connection.getresponse()
    return answer.status, answer.read()


def body_of(*files):
    rows = [{"image_bytes": {"b64": base64.b64encode(each).decode()}, "spacing_mm": [0.1, 0.1]} for each in files]
    return json.dumps({"signature_name": "compact", "instances": rows}).encode()


def clients(process, count, until, body):
    """Statuses by client, and how often no answer came; threads that run until an event is set or the server ends."""
    seen = [Counter() for _ in range(count)]

    def work(number):
        connection = process.connection()
        while not until.is_set():
            try:
                seen[number][ask(connection, PREDICT, body, "application/json")[0]] += 1
            except ConnectionRefusedError:
                return
            except (OSError, http.client.HTTPException):
                seen[number]["without answer"] += 1
                connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return seen, threads


def test_overload_is_refused_and_an_end_under_load_loses_nothing(exported, png):
    with running(exported, "queue=2", "batch=2", "workers=1") as process:
        answer = process.raw(b"this is no HTTP\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ") and b'{"error":' in answer
        done, body = threading.Event(), body_of(png)
        seen, threads = clients(process, 12, done, body)
        time.sleep(1)
        done.set()
        for thread in threads:
            thread.join()
        under_load = sum(seen, Counter())
        assert set(under_load) == {200, 503} and under_load[200] > 5, under_load
        assert ask(process.connection(), PREDICT, body, "application/json")[0] == 200, "and it recovers"

        seen, threads = clients(process, 6, threading.Event(), body)
        time.sleep(0.5)
        said, status = process.end()
        for thread in threads:
            thread.join()
        at_the_end = sum(seen, Counter())
        assert status == 0 and set(at_the_end) <= {200, 503, "without answer"}
        # What reached the server was answered, and every answer arrived: both sides count the same.
        answered = under_load.total() + 1 + at_the_end[200] + at_the_end[503]
        assert said == f"stopped after {answered} requests"
        assert at_the_end[200] > 0
        lines = [line.split(" ", 2)[2].strip() for line in process.log if line.startswith("20")]
        assert len(lines) == answered and all(line.split(",")[0] in ("200", "503") for line in lines)


@pytest.mark.slow
def test_an_end_does_not_wait_for_ever(exported):
    with running(exported, "shutdown_seconds=1") as process:
        with socket.create_connection(("127.0.0.1", process.port)) as connection:
            head = b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nthe rest never comes"
            connection.sendall(head)
            time.sleep(0.2)
            started = time.monotonic()
            said, status = process.end()
        assert status == 0 and said == "stopped after 1 requests" and time.monotonic() - started < 10


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(exported, by):
    with (
        running(exported, "shutdown_seconds=60") as process,
        socket.create_connection(("127.0.0.1", process.port)) as connection,
    ):
        connection.sendall(b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nno more")
        time.sleep(0.2)
        process.process.send_signal(by)
        time.sleep(1)
        assert process.process.poll() is None, "the first waits for what was begun"
        started = time.monotonic()
        said, status = process.end(by)
    assert (said, status) == ("", 128 + by) and time.monotonic() - started < 5


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_command_prints_where_it_serves_and_how_much_it_was_asked(exported, options, capsys, monkeypatch):
    logger = logging.getLogger("ustoolkit.serving")
    for name, value in (("handlers", []), ("propagate", True)):  # put back what the command sets
        monkeypatch.setattr(logger, name, value)
    seen = []

    def ask_and_end():
        until, told = time.monotonic() + 60, ""
        while "http://" not in told and time.monotonic() < until:
            time.sleep(0.05)
            captured = capsys.readouterr()
            seen.append(captured)
            told = "".join(captured)
        if "http://" in told:
            connection = http.client.HTTPConnection("127.0.0.1", int(told.rsplit(":", 1)[1].strip().rstrip("/")))
            connection.request("GET", "/health")
            assert connection.getresponse().status == 200
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask_and_end)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        thread.start()
        limits = ["--largest-megapixels", "1", "--workers", "1", "--public-host", "us.hospital.example"]
        status = cli.main(["serve", str(exported), "--port", "0", *limits, *options])
        thread.join()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert status == 0
    seen.append(capsys.readouterr())
    out, error = ("".join(parts) for parts in zip(*seen, strict=True))
    if options:
        assert json.loads(out) == {"requests": 1} and "serving tiny, version 3, at http://" in error
    else:
        first, last = out.splitlines()
        assert first.startswith("serving tiny, version 3, at http://") and last == "stopped after 1 requests"


def test_what_cannot_be_served_is_said(exported, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UstoolkitError, match=f"port {port}.*Choose another --port"):
            server.serve(ServerSettings(exported, port=port))
    with pytest.raises(UstoolkitError, match="Choose another"):
        server.serve(ServerSettings(exported, host="no.such.host.invalid", port=0))
    with pytest.raises(RunError, match="ustoolkit export"):
        server.serve(ServerSettings(tmp_path, port=0))


def test_a_missing_package_is_named(exported, monkeypatch):
    monkeypatch.setattr(server, "_PACKAGES", ("uvicorn", "starlette_of_the_future"))
    with pytest.raises(UstoolkitError, match=r"starlette_of_the_future.*pip install 'ustoolkit\[serve\]'"):
        server.serve(ServerSettings(exported))


def mutated(draw, png):
    """(address, body, media) of a request that is seldom right."""
    kind = draw.randrange(4)
    if kind == 0:
        odd = draw.choice([None, -1, 10**30, 0.5, "", "é" * 300, [], [[]], {}, {"b64": "A"}, [None] * 50, [[[[7]]]]])
        request = json.loads(body_of(png))
        row = request["instances"][0]
        holder, key = draw.choice([(request, "instances"), (request, "signature_name"), *((row, name) for name in row)])
        holder[key] = odd
        return PREDICT, json.dumps(request).encode(), "application/json"
    if kind == 1:
        return PREDICT, mutate_bytes(body_of(png), draw), "application/json"
    if kind == 2:
        return PREDICT, body_of(mutate_bytes(draw.choice(seeds()[:4]), draw)), "application/json"
    return "/segment", mutate_bytes(draw.choice(seeds()), draw), "application/octet-stream"


@pytest.mark.slow
def test_thousands_of_mutated_bodies_are_answered(exported, png):
    count, clients_at_once = int(os.environ.get("USTOOLKIT_FUZZ", "4800")), 6
    statuses, wrong, memory = [], [], []
    with running(exported) as process:

        def work(number):
            draw, connection = random.Random(number), process.connection()
            for each in range(count // clients_at_once):
                path, body, media = mutated(draw, png)
                status, answer = ask(connection, path, body, media)
                statuses.append(status)
                content = json.loads(answer)
                fine = status == 200 and ("predictions" in content or content.get("mask_png"))
                if not fine and not (400 <= status < 500 and list(content) == ["error"] and content["error"]):
                    wrong.append((number, each, status, answer[:300]))
                if number == 0:
                    memory.append(process.memory_mb())

        threads = [threading.Thread(target=work, args=(number,)) for number in range(clients_at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        said, status = process.end(signal.SIGINT)
    outcomes = Counter(statuses)
    assert not wrong, wrong[:5]
    assert status == 0 and said == f"stopped after {count} requests"
    assert outcomes.total() == count and outcomes[200] > 100 and outcomes[400] > count / 5
    assert not any("a fault" in line or "Traceback" in line for line in process.log)
    quarters = [round(memory[place]) for place in np.linspace(0, len(memory) - 1, 5).astype(int)]
    print(f"{dict(outcomes)}; memory from start to end, MB: {quarters}")
    assert quarters[-1] < 1.1 * quarters[2]
