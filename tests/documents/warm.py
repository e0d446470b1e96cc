"""Commands in processes that need not import TensorFlow first, which takes longer than most of what pages ask for.

One process imports everything and then forks: a command's child gets the folder, the environment, the words and the
three streams of whoever typed it, and ends as a process of its own.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from tests.documents.markdown import ROOT

_READY = "ready"


class Warm:
    """The process that forks, as a context.

    Attributes:
        address: its socket, for `call`.
    """

    def __init__(self, folder: Path) -> None:
        """Nothing starts yet; `folder` is for the socket."""
        self.address = folder / "warm"

    def __enter__(self) -> "Warm":
        command = [sys.executable, "-m", "tests.documents.warm", str(self.address)]
        quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}  # read when TensorFlow is imported
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, cwd=ROOT, env=quiet, text=True, **streams)
        assert self._process.stdout and self._process.stdout.readline().strip() == _READY
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def call(address: str, words: list[str]) -> int:
    """Has a command run; returns its exit code once its process has ended."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        content = json.dumps([str(Path.cwd()), dict(os.environ), words]).encode()
        socket.send_fds(connection, [len(content).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(content)
        answer = b"".join(iter(lambda: connection.recv(16), b""))
    return int(answer or b"1")


def _serve(address: str) -> None:
    """Forks a child for each command, as long as its parent lives; a child returns once its command has been run."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        listening.settimeout(5)
        print(_READY, flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        parent, connection = os.getppid(), None
        while connection is None:
            if os.getppid() != parent:
                return
            with contextlib.suppress(TimeoutError):
                connection, _ = listening.accept()
                if os.fork():
                    connection.close()
                    connection = None
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _run(connection)


def _run(connection: socket.socket) -> None:
    """Takes the place of whoever typed the command, and runs it."""
    head, streams, _, _ = socket.recv_fds(connection, 4, 3)
    content = b""
    while len(content) < int.from_bytes(head, "big"):
        content += connection.recv(65536)
    folder, environment, words = json.loads(content)
    for stream, number in zip(streams, (0, 1, 2), strict=True):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    sys.argv = ["ustoolkit", *words]
    code = 1
    try:
        code = main(words)
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        connection.sendall(str(code).encode())


def _end_with(connection: socket.socket) -> None:
    """Ends this process where whoever typed the command is gone."""
    connection.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    import tensorflow  # noqa: F401 what takes long
    import tf_keras  # noqa: F401

    import ustoolkit.inference.evaluate
    import ustoolkit.studies.runner
    import ustoolkit.training.trainer  # noqa: F401
    from ustoolkit.cli import main

    _serve(sys.argv[1])
