"""One request has many spellings, and all of them get the same answer."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http.wire import Wire, serving
from tests.raw_http import exchange

BODIES = ['{"query":"MeM"}', '{"query":"a","seed":1}', '{"query":"M3M"}', '{"question":"a"}', "[1]"]
LAST = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def head(*lines: str) -> bytes:
    return "\r\n".join(["POST /transform HTTP/1.1", *lines, "", ""]).encode()


def plain(body: str) -> bytes:
    """As most clients send it."""
    fields = ("Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}")
    return head(*fields) + body.encode()


@st.composite
def unusual(draw: st.DrawFn, body: str) -> bytes:
    """The same request with other spaces, escapes, charset, framing, case and order of headers."""
    document = json.loads(body)
    text = json.dumps(document, indent=draw(st.sampled_from([None, 0, 3])))
    if draw(st.booleans()):
        text = text.replace("M", "\\u004d").replace("q", "\\u0071")
    text = draw(st.sampled_from(["", "  ", "\r\n\t"])) + text + draw(st.sampled_from(["", "\n "]))
    media_type = draw(
        st.sampled_from(
            [
                "application/json",
                "application/json; charset=utf-8",
                "Application/JSON ;charset=UTF-8",
            ]
        )
    )
    fields = {"Host": draw(st.sampled_from(["localhost", "127.0.0.1:80", "[::1]"]))}
    fields["Content-Type"] = media_type
    if draw(st.booleans()):
        fields["Transfer-Encoding"] = "chunked"
        at = draw(st.integers(1, len(text) - 1))
        extension = draw(st.sampled_from(["", ";name=value", ';quoted="a b"']))
        chunks = [f"{len(part):x}{extension}\r\n{part}\r\n" for part in (text[:at], text[at:])]
        text = "".join([*chunks, "0\r\n\r\n"])
    else:
        fields["Content-Length"] = str(len(text))
    fields |= draw(
        st.sampled_from(
            [{}, {"X-Other": "a, b"}, {"Origin": "http://localhost"}, {"Range": "bytes=0-1"}]
        )
    )
    if "Origin" in fields:
        fields["Host"] = "localhost"
    spell = draw(st.sampled_from([str, str.lower, str.upper]))
    lines = [
        f"{spell(name)}:{draw(st.sampled_from(['', ' ', '  ']))}{value}"
        for name, value in fields.items()
    ]
    return head(*draw(st.permutations(lines))) + text.encode()


@pytest.fixture(scope="module", params=["recorded", "asked"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """A server that answers from a table, at once, and one that has none."""
    with serving() as running:
        running.app.state.responder.has_table = request.param == "recorded"
        yield running


def ask(wire: Wire, request: bytes) -> tuple[int, dict[str, str], dict[str, object]]:
    """Status, headers and document of the answer, without what is each answer's own."""
    reply = exchange(wire, request + LAST)
    document = json.loads(reply.body[: int(reply.headers["content-length"])])
    document.pop("request_id", None)
    for name in ("date", "x-request-id"):
        del reply.headers[name]
    return reply.status, reply.headers, document


@pytest.mark.parametrize("body", BODIES)
@settings(max_examples=15, deadline=None, suppress_health_check=[*HealthCheck])
@given(data=st.data())
def test_all_spellings_of_a_request_get_the_same_answer(
    wire: Wire, body: str, data: st.DataObject
) -> None:
    expected = ask(wire, plain(body))
    assert ask(wire, data.draw(unusual(body))) == expected


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Host": []}, 400),
        ({"Host": ["localhost", "localhost"]}, 400),
        ({"Host": ["elsewhere.example"]}, 421),
        ({"Origin": ["http://elsewhere.example"]}, 403),
        ({"Sec-Fetch-Site": ["cross-site"]}, 403),
        ({"Content-Type": ["application/json", "application/json"]}, 400),
        ({"Content-Type": ["text/plain"]}, 415),
        ({"Content-Encoding": ["gzip"]}, 415),
    ],
)
def test_what_is_refused_is_refused_although_its_answer_is_recorded(
    wire: Wire, changed: dict[str, list[str]], status: int
) -> None:
    body = BODIES[0]
    fields = {
        "Host": ["localhost"],
        "Content-Type": ["application/json"],
        "Content-Length": [str(len(body))],
    }
    lines = [f"{name}: {value}" for name, of in (fields | changed).items() for value in of]
    assert ask(wire, head(*lines) + body.encode())[0] == status


def test_a_body_above_the_limit_is_refused_although_its_answer_is_recorded() -> None:
    with serving(max_body_bytes=1024) as running:
        for size, status in ((1024, 200), (1025, 413)):
            body = BODIES[0].ljust(size)
            assert exchange(running, plain(body) + LAST).status == status


def test_the_last_answer_before_a_stop_says_that_it_is_although_it_is_recorded() -> None:
    with serving() as running:
        assert "connection" not in exchange(running, plain(BODIES[0]) + LAST).headers
        running.app.state.lifecycle.is_closing = True
        reply = exchange(running, plain(BODIES[0]))
        assert (reply.status, reply.headers["connection"]) == (200, "close")


def test_what_is_answered_at_once_and_what_is_not_are_the_same_to_the_client() -> None:
    answers = []
    for has_table in (True, False):
        with serving() as running:
            running.app.state.responder.has_table = has_table
            answers.append([ask(running, plain(body)) for body in BODIES])
            counted = running.client.get("/metrics").text
        assert f'menny_requests_total{{route="/transform",status="200"}} {2.0}' in counted
    assert answers[0] == answers[1]
