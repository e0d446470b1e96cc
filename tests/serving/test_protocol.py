"""Connections: a head that never ends, more connections than are taken, what is no HTTP; all answered in JSON."""

import asyncio
import contextlib
import json
import socket
import time

import pytest

from ustoolkit.serving import protocol

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


async def hello(scope, receive, send):
    """Answers anything, once its body is there."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def on_a_server(work, most_connections=100):
    """Runs a coroutine function of a port while a server listens there."""

    async def run():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            async with protocol.listening(hello, listener, most_connections):
                await work(listener.getsockname()[1])

    asyncio.run(run())


async def answer(reader):
    """Status, headers and body of one answer."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
    return int(lines[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


def refused(found, status, word):
    assert found[0] == status and word in json.loads(found[2])["error"], found
    assert found[1]["content-type"] == "application/json" and found[1]["connection"] == "close"


@pytest.fixture
def shortly(monkeypatch):
    """A time limit of heads that tests can wait for."""
    monkeypatch.setattr(protocol, "_LONGEST_HEAD_S", 0.4)


@pytest.mark.parametrize("before", [b"", HEAD + b"\r\n"])
def test_a_head_that_does_not_end_is_refused_however_it_drips(before, shortly):
    async def work(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if before:
            writer.write(before)
            assert (await answer(reader))[0] == 200
        start = time.monotonic()
        coming = asyncio.create_task(answer(reader))
        writer.write(HEAD)
        with contextlib.suppress(ConnectionError):
            while not coming.done() and time.monotonic() < start + 5:
                writer.write(b"X-More: 1\r\n")
                await asyncio.sleep(0.05)
        refused(await coming, 408, "head")
        assert 0.3 < time.monotonic() - start < 2

    on_a_server(work)


def test_a_slow_body_and_pauses_between_requests_are_no_late_head(shortly):
    async def work(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\n")
            await asyncio.sleep(0.1)
            writer.write(b"Content-Length: 2\r\n\r\na")
            await asyncio.sleep(0.6)
            writer.write(b"b")
            assert (await answer(reader))[2] == b"hello"
            await asyncio.sleep(0.6)
        writer.close()

    on_a_server(work)


def test_more_connections_than_are_taken_are_refused_in_json():
    async def work(port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        found = []
        for reader, writer in held:
            writer.write(HEAD + b"\r\n")
            found.append(await answer(reader))
        refused(found[0], 503, "2 connections")
        assert found[0][1]["retry-after"] == "1"
        assert [each[0] for each in found[1:]] == [200, 200], "the one refused is closed, which makes room"

    on_a_server(work, 2)


def test_what_is_no_http_is_answered_in_json():
    async def work(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"this is no HTTP\r\n\r\n")
        refused(await answer(reader), 400, "HTTP/1.1")

    on_a_server(work)
