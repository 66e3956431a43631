"""JSON that two readers could take for two different things is refused; so is what is too deep."""

import gzip
import time

import pytest

from app.http.json import MAX_DEPTH
from tests.in_process import InProcess, in_process
from tests.retraining import ADMIN, TOKEN
from tests.routes.test_transform import assert_problem, post


@pytest.mark.parametrize("path", ["/transform", "/explain"])
@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        (b'{"query": "a", "query": "b"}', "the name 'query' twice"),
        (b'{"query": "a", "qu\\u0065ry": "b"}', "the name 'query' twice"),
        (b'{"query": "a", "seed": {"x": 1, "x": 1}}', "the name 'x' twice"),
        (b'{"query": "a", "temperature": NaN}', "there is no NaN"),
        (b'{"query": "a", "temperature": -Infinity}', "there is no -Infinity"),
        (b'{"query": "a", "seed": ' + b"9" * 100_000 + b"}", "a number is too long"),
        (b'\xef\xbb\xbf{"query": "a"}', "BOM"),
        ('{"query": "a"}'.encode("utf-16"), "not UTF-8"),
        ('{"query": "a"}'.encode("utf-32"), "not JSON"),
        (b'{"query": "\xff"}', "not UTF-8"),
        (b'{"query": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"query": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "levels deep"),
        (b'{"a": ' * 9_000 + b"1" + b"}" * 9_000, "levels deep"),
        (b"[" * 9_000, "levels deep"),
        (b"[" * 200_000, "more than 10,000 brackets"),
        (b'{"query": "a"} {"query": "b"}', "Extra data"),
    ],
)
def test_what_is_no_strict_json_is_400_and_says_why(
    menny: InProcess, body: bytes, fragment: str, path: str
) -> None:
    response = menny.client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert_problem(response, 400, "the body is not JSON", fragment)


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": "a", "temperature": 1e999999}',
        b'{"query": "a", "temperature": -1e999999}',
        b'{"query": "a", "temperature": ' + b"9" * 4000 + b"}",
        b'{"query": "a", "seed": ' + b"9" * 4000 + b"}",
        b'{"query": "a", "seed": 1e3}',
        b'{"query": "a", "candidates": 1e999999}',
        b'{"query": "a", "\\ud800": 1}',
        b'{"query": "\\ud800"}',
        b'{"query": "a", "": 1}',
        b'{"query": ' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}",
        b'{"query": "' + b"[" * 1000 + b'"}',
        b'{"query": "\\"' + b"{" * 1000 + b'"}',
    ],
)
def test_strict_json_that_is_no_request_is_422(menny: InProcess, body: bytes) -> None:
    assert_problem(post(menny, body), 422)


def test_training_is_asked_for_as_strictly() -> None:
    with in_process(admin_token=TOKEN) as menny:
        for body in (b'{"seed": 1, "seed": 2}', b'{"learning_rate": NaN}', b"[" * 100_000):
            response = menny.client.post(
                "/train", content=body, headers=ADMIN | {"Content-Type": "application/json"}
            )
            assert_problem(response, 400, "the body is not JSON")


def test_no_body_makes_the_reader_work_for_long(menny: InProcess) -> None:
    for body in (
        b'"' + b'\\"' * 120_000 + b"[" * 30,
        b"[" * 30 + b'"\\' * 100_000,
        b"{" + b",".join(b'"%d":1' % number for number in range(25_000)) + b',"24999":1}',
    ):
        began = time.monotonic()
        assert post(menny, body).status_code == 400
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP", "identity, gzip"])
def test_a_compressed_body_is_415(menny: InProcess, encoding: str) -> None:
    response = menny.client.post(
        "/transform",
        content=gzip.compress(b'{"query": "MeM"}'),
        headers={"Content-Type": "application/json", "Content-Encoding": encoding},
    )
    assert_problem(response, 415, "send it as it is")
    assert response.headers["accept-encoding"] == "identity"
