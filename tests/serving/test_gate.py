"""Who may ask, what every answer's headers say, what is logged, and how a server that ends refuses."""

import asyncio
import json
import logging

import httpx
import numpy as np
import pytest

from tests.serving.conftest import Client
from tests.serving.test_rest import PREDICT, compact, refused
from ustoolkit.data.image_files import decode_png
from ustoolkit.errors import UstoolkitError
from ustoolkit.serving.app import Server
from ustoolkit.serving.gate import Gate
from ustoolkit.serving.settings import ServerSettings


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "[::2]", "[", ""])
def test_a_name_that_leads_here_from_elsewhere_is_refused(client, host):
    refused(client.get("/metadata", headers={"Host": host}), 403, "Host")
    refused(client.post("/segment", headers={"Host": f"{host}:8501"}, content=b"x"), 403)


@pytest.mark.parametrize("host", ["localhost", "localhost:8501", "127.0.0.1:9", "LOCALHOST", "[::1]:8501"])
def test_names_of_this_machine_are_taken(client, host):
    assert client.get("/health", headers={"Host": host}).status_code == 200


def test_a_server_for_others_takes_any_name(model, exported):
    server = Server(model, ServerSettings(exported, host="0.0.0.0"))
    assert Client(server.gate).get("/health", headers={"Host": "scanner.hospital.example"}).status_code == 200
    server.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://[::1"},
        {"Origin": "http://127.0.0.1:8501]"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_web_pages_cannot_send_anything(client, png, headers):
    refused(client.post("/segment", content=png, headers=headers), 403, "another web page")
    refused(client.post(PREDICT, json=compact(png), headers=headers), 403)
    assert "access-control-allow-origin" not in client.get("/metadata", headers=headers).headers


def test_the_own_page_may(client, png):
    headers = {"Origin": "http://127.0.0.1:8501", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/segment", content=png, headers=headers).status_code == 200


async def answering(scope, receive, send):
    """Answers anything."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_behind_a_reverse_proxy_the_public_name_is_taken(host):
    client = Client(Gate(answering, ServerSettings("x", host=host, public_host="US.hospital.example")))
    for told in ("us.hospital.example", "us.hospital.example:8443", "127.0.0.1:8501"):
        for origin in ("https://us.hospital.example", "http://us.hospital.example:8080", "https://US.HOSPITAL.example"):
            headers = {"Host": told, "Origin": origin, "Sec-Fetch-Site": "same-origin"}
            assert client.post("/segment", headers=headers).status_code == 200, headers
    for origin in ("https://evil.example", "https://us.hospital.example.evil.example", "ftp://us.hospital.example"):
        refused(client.post("/segment", headers={"Host": "us.hospital.example", "Origin": origin}), 403)
    headers = {"Host": "us.hospital.example", "Origin": "https://us.hospital.example", "Sec-Fetch-Site": "cross-site"}
    refused(client.post("/segment", headers=headers), 403)


def test_without_a_public_name_no_other_is_taken():
    client = Client(Gate(answering, ServerSettings("x", public_host="us.hospital.example")))
    refused(client.get("/", headers={"Host": "other.hospital.example"}), 403)
    client = Client(Gate(answering, ServerSettings("x")))
    refused(client.get("/", headers={"Host": "us.hospital.example"}), 403)
    refused(client.post("/segment", headers={"Origin": "https://us.hospital.example"}), 403)
    refused(client.post("/segment", headers={"Origin": "https://"}), 403)


class Held:
    """Holds each request until it is told."""

    def __init__(self):
        self.free = asyncio.Event()

    async def __call__(self, scope, receive, send):
        await self.free.wait()
        await answering(scope, receive, send)


def statuses(settings, *addresses):
    """Of POSTs that stay there together, one from each address, in their order; and then of one more from the first."""

    async def send_all():
        held = Held()
        gate = Gate(held, settings)

        async def send(address):
            transport = httpx.ASGITransport(gate, client=(address, 9))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8501") as client:
                return await client.post("/segment")

        sent = []
        for address in addresses:
            sent.append(asyncio.create_task(send(address)))
            await asyncio.sleep(0.01)
        held.free.set()
        found = [await each for each in sent]
        assert (await send(addresses[0])).status_code == 200, "and it recovers"
        return found

    answers = asyncio.run(send_all())
    for answer in answers:
        assert answer.status_code == 200 or answer.headers["retry-after"] == "1"
    return [answer.status_code for answer in answers]


def test_one_client_cannot_take_all_places():
    # Four may wait and two are computed: half of six is for one client.
    settings = ServerSettings("x", host="0.0.0.0", queue=4, batch=2, workers=1)
    one, other, third = "10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1"
    assert statuses(settings, one, one, third, one, other, other, other) == [200, 200, 200, 429, 200, 200, 200]
    assert statuses(settings, one, one, one, other, other, other, other) == [200] * 6 + [429]
    assert statuses(settings, one, one, one, other, other, other, "10.0.0.3") == [200] * 6 + [503]


def test_this_machine_may_take_all_places():
    settings = ServerSettings("x", queue=4, batch=2, workers=1)
    assert statuses(settings, *["127.0.0.1", "::1", "::ffff:127.0.0.1"] * 2, "127.0.0.1") == [200] * 6 + [503]


def test_every_answer_has_the_headers(client, png):
    answers = [client.get(path) for path in ("/", "/page.css", "/page.js", "/metadata", "/nowhere", "/examples/0")]
    answers += [
        client.post("/segment", content=png),
        client.post("/", content=b""),
        client.get("/", headers={"Host": ""}),
    ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_addresses(client, model):
    kinds = {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"}
    for path, kind in kinds.items():
        answer = client.get(path)
        assert answer.status_code == 200 and answer.headers["content-type"] == f"{kind}; charset=utf-8"
    assert client.get("/metadata").json() == model.metadata
    assert client.get("/health").json() == {"status": "running"}
    assert client.get("/ready").json() == {"status": "ready"}
    for path in ("/nowhere", "/page.html", "/../app.py", "/%2e%2e/app.py", "/page.js/", "/examples/99", "/examples/x"):
        refused(client.get(path), 404)
    for method, path in (("POST", "/"), ("PUT", "/segment"), ("DELETE", "/v1/models/tiny"), ("GET", PREDICT)):
        (answer,) = client.together((method, path, {}))
        refused(answer, 405)


def test_examples_are_phantoms_with_their_spacing(client):
    listed = client.get("/examples").json()["examples"]
    assert len(listed) >= 4
    for number, example in enumerate(listed):
        assert set(example) == {"name", "url", "spacing_mm"} and example["url"] == f"/examples/{number}"
        assert all(0.01 < value < 1 for value in example["spacing_mm"])
        answer = client.get(example["url"])
        assert answer.headers["content-type"] == "image/png" and decode_png(answer.content).std() > 10


def test_nothing_of_a_request_is_logged_but_its_size_status_and_time(client, png, caplog):
    caplog.set_level(logging.INFO, "ustoolkit.serving")
    client.post("/segment?spacing_mm=0.123", content=png)
    client.get("/Ostermann-Frieda?name=Ostermann", headers={"User-Agent": "Ostermann"})
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(",")[0] for line in lines] == ["200", "404"]
    assert all(line.endswith(" ms") and "Oster" not in line and "segment" not in line for line in lines)


def test_a_fault_tells_neither_client_nor_log_what_it_held(settings, caplog):
    async def broken(scope, receive, send):
        raise KeyError("Ostermann^Frieda")

    answer = Client(Gate(broken, settings)).get("/")
    refused(answer, 500, "log")
    assert "KeyError at " in caplog.text and "test_gate.py" in caplog.text
    assert "Ostermann" not in caplog.text + answer.text


def test_a_server_that_ends_refuses_but_says_that_it_lives(model, settings, png):
    server = Server(model, settings)
    client = Client(server.gate)
    server.gate.stopping = True
    for answer in (
        client.post(PREDICT, json=compact(png)),
        client.post("/segment", content=png),
        client.get("/metadata"),
    ):
        refused(answer, 503, "stopping")
        assert answer.headers["connection"] == "close" and int(answer.headers["retry-after"]) > 0
    refused(client.get("/ready"), 503)
    assert client.get("/health").status_code == 200
    server.close()


def test_more_than_may_wait_is_refused_before_it_is_read(model, exported, png):
    server = Server(model, ServerSettings(exported, queue=2, batch=1, workers=1))
    requests = [("POST", PREDICT, {"json": compact(png)})] * 12
    answers = Client(server.gate).together(*requests)
    found = [answer.status_code for answer in answers]
    assert set(found) == {200, 503} and found.count(200) >= 3
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 503)
    assert {answer.status_code for answer in Client(server.gate).together(*requests[:2])} == {200}
    server.close()


@pytest.mark.parametrize(
    "change",
    [
        {"port": 70_000},
        {"batch": 0},
        {"queue": 0},
        {"largest_upload_mb": 0},
        {"largest_upload_mb": float("nan")},
        {"name": "a/b"},
        {"name": "a:b"},
        {"name": "x" * 200},
        {"public_host": "https://us.hospital.example"},
        {"public_host": "us.hospital.example:443"},
        {"queue_megapixels": 0},
    ],
)
def test_settings_out_of_range_are_refused(exported, change):
    with pytest.raises(UstoolkitError, match="--"):
        ServerSettings(exported, **change)


def test_what_is_local():
    hosts = {"127.0.0.1": True, "localhost": True, "::1": True, "127.3.2.1": True, "0.0.0.0": False, "10.1.1.1": False}
    assert {host: ServerSettings("x", host=host).local for host in hosts} == hosts
    assert np.isclose(ServerSettings("x").largest_upload, 20e6)
    assert json.dumps(ServerSettings("x").port) == "8501"
