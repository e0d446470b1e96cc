"""HTTP by uvicorn, within limits, told when to end instead of looking for signals itself."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import h11
import orjson
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ustoolkit.serving.refusal import Refusal
from ustoolkit.serving.writing import written_refusal

_KEEP_ALIVE_S = 15
_LONGEST_HEAD_S = 15  # from the first byte of a request to the end of its head
_LEFT_OVER_S = 1  # for what has not ended once the block has; then it is cut off
_NOT_HTTP = "expected HTTP/1.1, found something else. Send the request again."
_LATE_HEAD = f"expected the head of the request within {_LONGEST_HEAD_S} seconds, found part of it. Send it again."


class _Protocol(H11Protocol):
    """One connection; what is no HTTP is answered in JSON too, and one that says nothing, or too slowly, is closed."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(_KEEP_ALIVE_S, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        # Any byte ends the library's own timer, which is for connections that say nothing.
        if self.conn.their_state is not h11.IDLE or not self.conn.trailing_data[0] or self.transport.is_closing():
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(_LONGEST_HEAD_S, self._refuse, "408 Request Timeout", _LATE_HEAD)

    def send_400_response(self, msg: str) -> None:
        self._refuse("400 Bad Request", _NOT_HTTP)

    def _refuse(self, status: str, message: str) -> None:
        """Answers what never became a request, and closes the connection."""
        if self.transport.is_closing():
            return
        body = orjson.dumps({"error": message})
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


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

    async def within_limit(scope: Scope, receive: Receive, send: Send) -> None:
        if len(server.server_state.connections) > most_connections:
            refusal = Refusal(
                503,
                f"{most_connections} connections are open already. Send the request again in a second.",
                {"Retry-After": "1", "Connection": "close"},
            )
            await written_refusal(refusal)(scope, receive, send)
            return
        await app(scope, receive, send)

    config = uvicorn.Config(
        within_limit,
        loop="asyncio",
        http=_Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
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
