"""Starts the server, and ends it without losing what it began."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from ustoolkit.errors import UstoolkitError
from ustoolkit.serving.settings import ServerSettings

if TYPE_CHECKING:
    from ustoolkit.serving.app import Server

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PACKAGES = ("starlette", "uvicorn", "orjson")
_MOST_CONNECTIONS = 512
_TIME_TO_NOTICE_S = 0.3  # for clients that keep connections: their next request learns that they are closed


def serve(settings: ServerSettings, lines: TextIO | None = None) -> int:
    """Serves an export until the process is told to end by SIGINT or SIGTERM.

    Prints one line once it listens. What has begun by then is answered before this returns; a second signal ends the
    process at once.

    Args:
        settings: what is served, where, and within which limits.
        lines: where its lines go; None for standard output.
    Returns:
        how many requests came.
    Raises:
        UstoolkitError: a package is missing, or the address is not free.
        RunError: there is no export of ours in the folder, or it is damaged.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UstoolkitError(
            f"the server needs {', '.join(missing)}, found none. Add them by: pip install 'ustoolkit[serve]'"
        )
    # Bound first, so that a port that is taken is told at once; heard once the model is there.
    with _bound(settings) as listener:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow logs the first bytes of what it cannot read
        from ustoolkit.serving.app import Server
        from ustoolkit.serving.served_model import ServedModel
        from ustoolkit.serving.warming import warm

        model = ServedModel(settings.export, settings.name)
        warm(model)
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd metadata; it would name what a file says
        _log_to_standard_error()
        server = Server(model, settings)
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        try:
            asyncio.run(_run(server, listener, settings, lines or sys.stdout))
        finally:
            server.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        return server.gate.taken


async def _run(server: "Server", listener: socket.socket, settings: ServerSettings, lines: TextIO) -> None:
    from ustoolkit.serving.protocol import listening

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_once() -> None:
        stop.set()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, _end_at_once)

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop_once)
    async with listening(server.gate, listener, _MOST_CONNECTIONS):
        model, (host, port) = server.model, listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"serving {model.name}, version {model.version}, at http://{shown}:{port}/", file=lines, flush=True)
        if not settings.local:
            warning = "anyone who reaches this address can use it: put it behind what asks for a password"
            print(warning, file=lines, flush=True)
        await stop.wait()
        server.gate.stopping = True
        await asyncio.sleep(_TIME_TO_NOTICE_S)
        await server.gate.drained(settings.shutdown_seconds)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """Ends the process without waiting for its threads, which cannot be interrupted; what was sent does not stay."""
    from ustoolkit.serving.uploads import discard_files

    discard_files()
    os._exit(128 + number)


@contextlib.contextmanager
def _bound(settings: ServerSettings) -> Iterator[socket.socket]:
    listener = None
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as problem:
        if listener is not None:
            listener.close()
        raise UstoolkitError(
            f"{settings.host}, port {settings.port}: expected a free address of this machine, found that it cannot be "
            f"used ({problem.strerror or problem}). Choose another --port or --host."
        ) from None
    with listener:
        yield listener


def _log_to_standard_error() -> None:
    logger = logging.getLogger("ustoolkit.serving")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)  # it names clients and paths
