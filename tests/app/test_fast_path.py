"""The fast path says what the route says: each request is sent once for each of them.

What is sent with `application/json; charset=utf-8` the fast path leaves to the route.
"""

import json
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service import Service, running_service
from training.vocabulary import ALPHABET

FAST, ROUTED = "application/json", "application/json; charset=utf-8"
OF_EACH_REQUEST = {"date", "x-request-id"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
plausible = st.fixed_dictionaries(
    {"query": st.text(ALPHABET, min_size=1, max_size=6) | json_values},
    optional={
        "temperature": st.floats(-1, 3) | json_values,
        "seed": st.just(7) | json_values,
        "candidates": st.integers(-1, 11) | json_values,
        "more": json_values,
    },
)


def both(service: Service, content: bytes) -> tuple[httpx.Response, httpx.Response]:
    fast, routed = (
        service.client.post("/transform", content=content, headers={"Content-Type": content_type})
        for content_type in (FAST, ROUTED)
    )
    return fast, routed


def assert_same(fast: httpx.Response, routed: httpx.Response) -> None:
    assert fast.status_code == routed.status_code, (fast.text, routed.text)
    documents = [response.json() for response in (fast, routed)]
    for document in documents:
        document.pop("request_id", None)
    assert documents[0] == documents[1]
    headers = [
        {name: value for name, value in response.headers.items() if name not in OF_EACH_REQUEST}
        for response in (fast, routed)
    ]
    assert headers[0] == headers[1]


@given(body=plausible)
@settings(deadline=None, max_examples=150)
def test_the_fast_path_says_what_the_route_says_to_any_json(service: Service, body: object) -> None:
    # Samples are random unless they are seeded.
    if isinstance(body, dict) and body.get("temperature") and body.get("seed") is None:
        body["seed"] = 1
    assert_same(*both(service, json.dumps(body).encode()))


@given(content=st.binary(max_size=40))
@settings(deadline=None, max_examples=100)
def test_the_fast_path_says_what_the_route_says_to_any_bytes(
    service: Service, content: bytes
) -> None:
    assert_same(*both(service, content))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"query": "MeM"',
        b'{"query": "MeM", "query": "you"}',
        b'{"query": "MeM", "temperature": NaN}',
        b'\xef\xbb\xbf{"query": "MeM"}',
        b'{"query": "\\ud800"}',
        b"[" * 100_000,
        b'{"query": "MeM", "seed": ' + b"9" * 10_000 + b"}",
        b'{"query": "' + b"a" * 2_000_000 + b'"}',
    ],
)
def test_the_fast_path_says_what_the_route_says_to_unusual_bodies(
    service: Service, content: bytes
) -> None:
    assert_same(*both(service, content))


def test_a_body_in_chunks_is_answered(service: Service) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"query": '
        yield b'"MeM"}'

    headers = {"Content-Type": FAST}
    response = service.client.post("/transform", content=chunks(), headers=headers)
    assert response.status_code == 200
    assert response.json() == service.transform("MeM")


def test_both_are_counted_as_the_same_route(service: Service) -> None:
    def count() -> float:
        wanted = 'menny_requests_total{route="/transform",status="200"}'
        lines = service.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(wanted))

    before = count()
    for response in both(service, b'{"query": "MeM"}'):
        assert response.status_code == 200
    assert count() == before + 2


def test_without_weights_the_fast_path_and_the_route_say_what_is_missing(tmp_path) -> None:
    with running_service(MENNY_WEIGHTS=tmp_path / "none.npz") as service:
        fast, routed = both(service, b'{"query": "MeM"}')
        assert fast.status_code == 503
        assert_same(fast, routed)


def test_where_other_origins_are_allowed_they_may_read_the_answer() -> None:
    origin = "http://page.example"
    with running_service(MENNY_CORS_ORIGINS=origin) as service:
        response = service.client.post(
            "/transform", json={"query": "MeM"}, headers={"Origin": origin}
        )
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == origin
