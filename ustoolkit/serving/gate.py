"""What stands before every request: who may ask, how many at once, and what each answer's headers say."""

import asyncio
import ipaddress
import logging
import time
from collections import Counter
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ustoolkit.serving.refusal import Refusal, greedy, overloaded, stopping
from ustoolkit.serving.settings import ServerSettings
from ustoolkit.serving.writing import written_refusal

logger = logging.getLogger("ustoolkit.serving")

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ALWAYS_ANSWERED = frozenset({"/health", "/ready"})


class Gate:
    """ASGI application around another.

    Args:
        app: that answers.
        settings: the host that the server is bound to, and how many requests it takes.
    Attributes:
        stopping: whether the server is about to end; it then refuses what is new.
        taken: requests that came so far.
        begun: requests that are being answered.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        self.stopping = False
        self.taken = self.begun = 0
        self._posts: Counter[str] = Counter()  # that are being answered, by client
        # A body may be in memory for each that waits, and for each that the model is at.
        self._most_posts = settings.queue + settings.batch * settings.workers
        self._public_host = settings.public_host.lower()
        known = _LOOPBACK | {settings.host.lower(), self._public_host} - {""}
        self._hosts = known if settings.local else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, size = time.perf_counter(), 0, 0

        async def send_more(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if self.stopping:
                    headers["Connection"] = "close"
            else:
                size += len(message.get("body", b""))
            await send(message)

        client = _client(scope)
        self.taken, self.begun = self.taken + 1, self.begun + 1
        self._posts[client] += scope["method"] == "POST"
        try:
            await self._answer(scope, receive, send_more)
        except Exception as problem:
            # Neither the client nor the log is told more: what was raised may hold part of an image or its header.
            logger.error("a fault of the server: %s at %s", type(problem).__name__, _place(problem))
            if not status:
                fault = Refusal(500, "a fault of the server, not of the request. Look at its log.")
                await written_refusal(fault)(scope, receive, send_more)
        finally:
            self.begun -= 1
            self._posts[client] -= scope["method"] == "POST"
            if not self._posts[client]:
                del self._posts[client]
            logger.info("%d, %d bytes, %.0f ms", status, size, 1000 * (time.perf_counter() - start))

    async def drained(self, seconds: float) -> None:
        """Waits until all that was begun is answered, at most so long."""
        until = time.monotonic() + seconds
        while self.begun and time.monotonic() < until:
            await asyncio.sleep(0.02)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check(scope)
        except Refusal as refusal:
            await written_refusal(refusal)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _host_name(host) not in self._hosts:
            raise Refusal(
                403, "expected an address of this machine in the header Host, found another. Ask for localhost."
            )
        if scope["method"] not in ("GET", "HEAD"):
            _check_same_site(headers, host, self._public_host)
        if self.stopping and scope["path"] not in _ALWAYS_ANSWERED:
            raise stopping()
        if scope["method"] == "POST":
            self._check_load(_client(scope))

    def _check_load(self, client: str) -> None:
        # Behind a reverse proxy all have the address of the loopback: there it is the proxy that can tell them apart.
        if client not in _LOOPBACK and self._posts[client] > max(1, self._most_posts // 2):
            raise greedy(self._posts[client] - 1)
        if self._posts.total() > self._most_posts:
            raise overloaded(self._posts.total() - 1)


def _client(scope: Scope) -> str:
    """The address that a request came from; 'localhost' for this machine, by whichever of its addresses."""
    host = str((scope.get("client") or ("localhost",))[0])
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    address = getattr(address, "ipv4_mapped", None) or address
    return "localhost" if address.is_loopback else str(address)


def _check_same_site(headers: Headers, host: str, public_host: str) -> None:
    """Refuses what a page of another site makes a browser send; programs send neither header."""
    origin = headers.get("origin")
    elsewhere = origin is not None and not _is_own(origin, host, public_host)
    if elsewhere or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise Refusal(
            403,
            "expected a request of the server's own page or of a program, found one of another web page. Send it "
            "from there.",
        )


def _is_own(origin: str, host: str, public_host: str) -> bool:
    """Whether an origin is the server's own page, as this machine or a reverse proxy gives it out."""
    try:
        parts = urlsplit(origin)
        name = (parts.hostname or "").lower()
    except ValueError:
        return False
    own = parts.netloc == host or (bool(public_host) and name == public_host)
    return own and parts.scheme in ("http", "https")


def _host_name(host: str) -> str:
    """Without the port and the brackets of IPv6."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _place(problem: BaseException) -> str:
    """File and line where it was raised."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "an unknown place"
