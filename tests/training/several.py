"""Processes on this machine that train together, for tests."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

TIMEOUT_SECONDS = 300


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, below those that the system gives to outgoing connections."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 2_000):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise OSError("no free ports")


def environments(**counts: int) -> list[dict[str, str]]:
    """Variables of each process of a cluster.

    Args:
        counts: of tasks by type, such as worker=2.
    """
    ports = iter(free_ports(sum(counts.values())))
    cluster = {name: [f"127.0.0.1:{next(ports)}" for _ in range(count)] for name, count in counts.items()}
    tasks = [{"type": name, "index": index} for name, count in counts.items() for index in range(count)]
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]


def start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen:
    """Starts a Python process; what it prints goes into `log`."""
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def run_all(command: list[str], variables: list[dict[str, str]], folder: Path) -> list[str]:
    """Runs a process for each of the environments, to their end; what each printed.

    Raises:
        AssertionError: one failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    logs = [folder / f"{number}.log" for number in range(len(variables))]
    processes = [start(command, each, log) for each, log in zip(variables, logs, strict=True)]
    try:
        codes = [process.wait(TIMEOUT_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    printed = [log.read_text(errors="replace") for log in logs]
    if any(codes):
        raise AssertionError(f"exit codes {codes}:\n" + "\n---\n".join(text[-2500:] for text in printed))
    return printed
