"""However a request is spelled, it gets the same answer."""

import json
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http.wire import stubbed
from tests.in_process import InProcess, in_process
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


def both(menny: InProcess, content: bytes) -> tuple[httpx.Response, httpx.Response]:
    fast, routed = (
        menny.client.post("/transform", content=content, headers={"Content-Type": content_type})
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
@settings(deadline=None, max_examples=60)
def test_any_json_gets_the_same_answer_under_both_content_types(
    menny: InProcess, body: object
) -> None:
    # Samples are random unless they are seeded.
    if isinstance(body, dict) and body.get("temperature") and body.get("seed") is None:
        body["seed"] = 1
    assert_same(*both(menny, json.dumps(body).encode()))


@given(content=st.binary(max_size=40))
@settings(deadline=None, max_examples=40)
def test_any_bytes_get_the_same_answer_under_both_content_types(
    menny: InProcess, content: bytes
) -> None:
    assert_same(*both(menny, content))


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
def test_an_unusual_body_gets_the_same_answer_under_both_content_types(
    menny: InProcess, content: bytes
) -> None:
    assert_same(*both(menny, content))


@pytest.mark.default_rule
def test_a_body_in_chunks_is_answered(menny: InProcess) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"query": '
        yield b'"MeM"}'

    headers = {"Content-Type": FAST}
    response = menny.client.post("/transform", content=chunks(), headers=headers)
    assert response.status_code == 200
    assert response.json() == menny.transform("MeM")


@pytest.mark.default_rule
def test_both_content_types_are_counted_as_the_same_route(menny: InProcess) -> None:
    def count() -> float:
        wanted = 'menny_requests_total{route="/transform",status="200"}'
        lines = menny.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(wanted))

    before = count()
    for response in both(menny, b'{"query": "MeM"}'):
        assert response.status_code == 200
    assert count() == before + 2


@pytest.mark.default_rule
def test_without_weights_both_content_types_get_the_same_503(tmp_path) -> None:
    with in_process(weights=tmp_path / "none.npz") as menny:
        fast, routed = both(menny, b'{"query": "MeM"}')
        assert fast.status_code == 503
        assert_same(fast, routed)


@pytest.mark.default_rule
def test_where_other_origins_are_allowed_they_may_read_the_answer() -> None:
    origin = "http://page.example"
    with stubbed(cors_origins=(origin,)) as menny:
        response = menny.client.post(
            "/transform", json={"query": "MeM"}, headers={"Origin": origin}
        )
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == origin


@pytest.mark.default_rule
@pytest.mark.parametrize(
    "content",
    [
        b' {"query":"MeM"}',
        b'\t{ "query" :\r\n"MeM" } ',
        b'{"qu\\u0065ry": "MeM"}',
        b'{"query": "\\u004deM"}',
        b'{"seed": null, "temperature": 0.0, "query": "MeM"}',
        b'{"query": "MeM", "candidates": 0}',
    ],
)
@pytest.mark.parametrize("path", ["/transform", "/transform?a=b"])
def test_the_same_query_spelled_otherwise_gets_the_same_answer(
    menny: InProcess, content: bytes, path: str
) -> None:
    response = menny.client.post(path, content=content, headers={"Content-Type": FAST})
    assert response.status_code == 200, response.text
    assert response.json() == menny.transform("MeM")
