"""Clients that nobody here wrote see every answer, each in its own way of speaking HTTP."""

import asyncio
import http.client
import io
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest
import requests

from app.errors import OverloadedError
from tests.http.wire import Wire, serving
from tests.raw_http import exchange

Client = Callable[[str, bytes], tuple[int, bytes]]
"""Posts a body of JSON to a URL; returns the status and the body of the answer."""
JSON = {"Content-Type": "application/json"}
GOOD, BAD, TOO_LARGE = b'{"query":"MeM"}', b'{"query":"M3M"}', b" " * 5_000_000


def with_curl(url: str, body: bytes) -> tuple[int, bytes]:
    return curl(url, "--data-binary", "@-", body=body)


def with_curl_in_chunks(url: str, body: bytes) -> tuple[int, bytes]:
    return curl(url, "-H", "Transfer-Encoding: chunked", "--data-binary", "@-", body=body)


def with_curl_that_waits_for_100_continue(url: str, body: bytes) -> tuple[int, bytes]:
    return curl(url, "-H", "Expect: 100-continue", "--data-binary", "@-", body=body)


def curl(url: str, *options: str, body: bytes = b"") -> tuple[int, bytes]:
    command = ["curl", "-sS", "--noproxy", "*", "-w", "%{stderr}%{http_code}"]
    done = subprocess.run(
        [*command, "-H", "Content-Type: application/json", *options, url],
        input=body,
        capture_output=True,
        timeout=30,
        check=True,
    )
    return int(done.stderr), done.stdout


def with_http_client(url: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", urlsplit(url).path, body, JSON)
    response = connection.getresponse()
    status, content = response.status, response.read()
    connection.close()
    return status, content


def with_urllib(url: str, body: bytes) -> tuple[int, bytes]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(url, body, JSON)  # noqa: S310 - the URL is ours
        with opener.open(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def with_httpx(url: str, body: bytes) -> tuple[int, bytes]:
    response = httpx.post(url, content=body, headers=JSON, timeout=30, trust_env=False)
    return response.status_code, response.content


def with_requests(url: str, body: bytes) -> tuple[int, bytes]:
    with requests.Session() as session:
        session.trust_env = False
        response = session.post(url, data=body, headers=JSON, timeout=30)
        return response.status_code, response.content


def with_requests_in_chunks(url: str, body: bytes) -> tuple[int, bytes]:
    with requests.Session() as session:
        session.trust_env = False
        parts = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
        response = session.post(url, data=parts, headers=JSON, timeout=30)
        return response.status_code, response.content


def with_aiohttp(url: str, body: bytes) -> tuple[int, bytes]:
    made: list[socket.socket] = []

    def make_socket(address: aiohttp.AddrInfoType) -> socket.socket:
        made.append(socket.socket(*address[:3]))
        return made[-1]

    async def post() -> tuple[int, bytes]:
        connector = aiohttp.TCPConnector(socket_factory=make_socket)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(url, data=io.BytesIO(body), headers=JSON) as response,
        ):
            answer = response.status, await response.read()
        # What was not sent yet when the answer came keeps the connection open after the session.
        async with asyncio.timeout(60):
            while any(each.fileno() != -1 for each in made):  # noqa: ASYNC110 - no event says it
                await asyncio.sleep(0.01)
        return answer

    return asyncio.run(post())


FETCH = """
const parts = []
process.stdin.on("data", part => parts.push(part)).on("end", async () => {
  const headers = {"Content-Type": "application/json"}
  const body = Buffer.concat(parts)
  const answer = await fetch(process.argv[1], {method: "POST", headers, body})
  console.log(JSON.stringify([answer.status, await answer.text()]))
})
"""


def with_fetch_of_node(url: str, body: bytes) -> tuple[int, bytes]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node")
    done = subprocess.run(
        [node, "-e", FETCH, url], input=body, capture_output=True, timeout=60, check=True
    )
    status, text = json.loads(done.stdout)
    return status, text.encode()


CLIENTS = [
    *(with_curl, with_curl_in_chunks, with_curl_that_waits_for_100_continue),
    *(with_http_client, with_urllib, with_httpx, with_requests, with_aiohttp),
    with_fetch_of_node,
]


@pytest.fixture
def overloaded(wire: Wire) -> Iterator[None]:
    wire.app.state.responder.error = OverloadedError("there is no place")
    yield
    wire.app.state.responder.error = None


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_each_client_sees_good_and_bad_answers_and_the_413_for_5_mb(
    wire: Wire, client: Client
) -> None:
    for body, status in ((GOOD, 200), (BAD, 422), (TOO_LARGE, 413)):
        seen, content = client(f"{wire.url}/transform", body)
        assert seen == status
        assert json.loads(content).get("status", 200) == status


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
@pytest.mark.usefixtures("overloaded")
def test_each_client_sees_the_503_of_a_full_queue(wire: Wire, client: Client) -> None:
    status, content = client(f"{wire.url}/transform", GOOD)
    assert (status, json.loads(content)["status"]) == (503, 503)


def test_a_generator_that_is_sent_in_chunks_is_a_body_as_any_other(wire: Wire) -> None:
    assert with_requests_in_chunks(f"{wire.url}/transform", GOOD)[0] == 200
    assert with_requests_in_chunks(f"{wire.url}/transform", BAD)[0] == 422


def test_http_client_sees_the_413_each_time_it_sends_far_too_much(wire: Wire) -> None:
    for _ in range(5):
        assert with_http_client(f"{wire.url}/transform", TOO_LARGE)[0] == 413


def test_a_connection_is_kept_for_good_and_bad_requests_alike(wire: Wire) -> None:
    connection = http.client.HTTPConnection(urlsplit(wire.url).netloc, timeout=30)
    sockets = set()
    for body, status in ((GOOD, 200), (BAD, 422), (GOOD, 200)):
        connection.request("POST", "/transform", body, JSON)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read()).get("status", 200)) == (
            status,
            status,
        )
        sockets.add(connection.sock)
    assert len(sockets) == 1
    connection.close()


def test_http_1_0_gets_its_answer_and_the_end_of_the_connection(wire: Wire) -> None:
    seen = curl(f"{wire.url}/transform", "--http1.0", "--data-binary", "@-", body=GOOD)
    assert seen[0] == 200


def test_a_request_line_with_a_whole_url_is_answered_as_one_without(wire: Wire) -> None:
    head = "Content-Type: application/json\r\nContent-Length: 15\r\nConnection: close"
    answers = {
        exchange(
            wire, f"POST {target} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode() + GOOD
        ).body
        for target in ("/transform", f"{wire.url}/transform")
    }
    assert len(answers) == 1
    assert json.loads(answers.pop())["response"] == "uUu"


def test_options_names_what_is_allowed(wire: Wire) -> None:
    response = wire.client.options("/transform")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


def test_an_ipv6_address_is_answered_as_well() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6")
    with serving(address="::1") as running:
        for client in (with_curl, with_httpx, with_http_client):
            assert client(f"{running.url}/transform", GOOD)[0] == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/health", "/health/live", "/openapi.json"])
def test_head_is_answered_as_get_without_the_body(wire: Wire, path: str) -> None:
    whole, head = wire.client.get(path), wire.client.head(path)
    assert head.status_code == whole.status_code == 200
    assert head.content == b""
    if path != "/health":  # whose seconds of uptime may have had a digit less
        assert head.headers["content-length"] == whole.headers["content-length"]
    assert wire.client.get(path).status_code == 200  # and the connection goes on


def test_head_of_what_is_only_for_posts_is_405(wire: Wire) -> None:
    response = wire.client.head("/transform")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
