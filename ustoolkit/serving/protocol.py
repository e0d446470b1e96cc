"""HTTP by uvicorn, within limits, told when to end instead of looking for signals itself."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import orjson
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

_KEEP_ALIVE_S = 15
_LEFT_OVER_S = 1  # for what has not ended once the block has; then it is cut off
_NOT_HTTP = orjson.dumps({"error": "expected HTTP/1.1, found something else. Send the request again."})


class _Protocol(H11Protocol):
    """One connection; what is no HTTP is answered in JSON too, and one that says nothing is closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(_KEEP_ALIVE_S, self.timeout_keep_alive_handler)

    def send_400_response(self, msg: str) -> None:
        head = (
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(_NOT_HTTP)}\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + _NOT_HTTP)
        self.transport.close()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals alone: uvicorn's way ends the process by the signal, and so with an error."""
        yield


@contextlib.asynccontextmanager
async def listening(app: ASGIApp, listener: socket.socket, most_connections: int) -> AsyncIterator[None]:
    """Serves an application while the block runs; it begins once connections are taken, and ends when all are closed.

    Args:
        app: ASGI.
        listener: bound, not yet listening.
        most_connections: beyond which requests are refused.
    """
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=_Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=most_connections,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LEFT_OVER_S,
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
        if running.done():
            running.result()
    try:
        yield
    finally:
        server.should_exit = True
        await running
