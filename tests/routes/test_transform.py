import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from app.routes.schemas import BatchResponse, TransformResponse, batch_response
from tests.in_process import InProcess
from training.dataset import IS_ALLOWED
from training.rule import RULE
from training.vocabulary import ALPHABET, encode

queries = st.text(ALPHABET, min_size=1, max_size=RULE.max_length)
asking_a_server = settings(deadline=None, max_examples=50)


def post(menny: InProcess, content: bytes, content_type: str | None = "application/json"):
    headers = {"Content-Type": content_type} if content_type else {}
    return menny.client.post("/transform", content=content, headers=headers)


def assert_problem(response: httpx.Response, status: int, *fragments: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    for fragment in fragments:
        assert fragment in problem["detail"]


@given(query=queries)
@asking_a_server
def test_every_letter_is_answered_with_a_vowel_of_the_opposite_case(
    menny: InProcess, query: str
) -> None:
    answer = menny.transform(query)
    assert answer["query"] == query
    assert len(answer["response"]) == len(query)
    assert IS_ALLOWED[encode(query), encode(answer["response"])].all()


def test_the_answer_names_the_model_version_that_health_names(menny: InProcess) -> None:
    health = menny.client.get("/health").json()
    assert menny.transform(RULE.example)["model_version"] == health["model_version"]


def test_many_clients_at_once_each_get_their_own_answer(menny: InProcess) -> None:
    alone = {query: menny.transform(query) for query in (RULE.example, *RULE.alphabet[:4])}
    with ThreadPoolExecutor(16) as pool:
        for answer in pool.map(menny.transform, list(alone) * 40):
            assert answer == alone[answer["query"]]


@pytest.mark.default_rule
@pytest.mark.parametrize(
    ("query", "fragment"),
    [
        ('""', "the query is empty"),
        ('"abcdef"', "the query has 6 characters"),
        ('"' + "a" * 100_000 + '"', "the query has 100,000 characters"),
        ('"a1"', "character 2 of the query, '1' (U+0031), is not in the alphabet"),
        ('" a"', "character 1 of the query, ' ' (U+0020)"),
        ('"a\\n"', "character 2 of the query, '\\n' (U+000A)"),
        ('"é"', "U+00E9"),
        ('"e\\u0301"', "U+0301"),
        ('"Ａ"', "U+FF21"),
        ('"а"', "U+0430"),
        ('"\\ud800"', "U+D800"),
        ('"\\u0000"', "U+0000"),
        ("null", "not a string"),
        ("3", "not a string"),
        ("true", "not a string"),
        ('["a"]', "not a string"),
        ('{"a": 1}', "not a string"),
    ],
)
def test_a_bad_query_gets_an_error_that_says_what_is_wrong_and_what_would_be_right(
    menny: InProcess, query: str, fragment: str
) -> None:
    response = post(menny, f'{{"query": {query}}}'.encode())
    assert_problem(response, 422, fragment, RULE.example)
    assert [error["pointer"] for error in response.json()["errors"]] == ["#/query"]


@pytest.mark.parametrize(
    ("body", "status", "fragment"),
    [
        (b"", 422, "there is no body"),
        (b"{}", 422, "field 'query' is missing"),
        (b"[]", 422, "not an object"),
        (b'"MeM"', 422, "not an object"),
        (b"null", 422, "not an object"),
        (b'{"query": "a", "more": 1}', 422, "there is no field 'more'"),
        (b'{"query": ', 400, "not JSON"),
        (b"MeM", 400, "not JSON"),
        (b"{'query': 'a'}", 400, "not JSON"),
        (b'{"query": "a"', 400, "not JSON"),
        (b"\xff\xfe", 400, "body"),
        (b"[" * 100_000, 400, "body"),
    ],
)
def test_a_bad_body_gets_an_error_that_says_what_is_wrong(
    menny: InProcess, body: bytes, status: int, fragment: str
) -> None:
    assert_problem(post(menny, body), status, fragment)


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/xml"]
)
def test_a_body_that_is_not_sent_as_json_is_415_with_the_remedy(
    menny: InProcess, content_type: str | None
) -> None:
    response = post(menny, b'{"query": "MeM"}', content_type)
    assert_problem(response, 415, "Content-Type: application/json")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"]
)
def test_json_under_its_other_names_is_taken(menny: InProcess, content_type: str) -> None:
    body = json.dumps({"query": RULE.example}).encode()
    assert post(menny, body, content_type).status_code == 200


@given(body=st.binary(max_size=50) | st.text(max_size=20).map(str.encode))
@asking_a_server
def test_no_body_whatever_it_is_makes_the_service_stumble(menny: InProcess, body: bytes) -> None:
    response = post(menny, body)
    assert response.status_code in {200, 400, 422}


@given(value=st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
@asking_a_server
def test_any_json_value_as_a_query_is_answered_or_refused(menny: InProcess, value) -> None:
    try:
        body = httpx.Request("POST", "http://x", json={"query": value}).content
    except ValueError:  # a float that JSON doesn't have
        return
    response = post(menny, body)
    is_right = (
        isinstance(value, str)
        and 1 <= len(value) <= RULE.max_length
        and set(value) <= set(ALPHABET)
    )
    assert response.status_code == (200 if is_right else 422)


def test_another_method_is_405_and_says_which_one_works(menny: InProcess) -> None:
    response = menny.client.get("/transform")
    assert_problem(response, 405, "use POST")
    assert response.headers["allow"] == "POST"


def test_an_unknown_path_is_404_and_points_to_the_docs(menny: InProcess) -> None:
    assert_problem(menny.client.get("/nothing"), 404, "/docs")


def test_a_batch_is_written_as_its_schema_has_it() -> None:
    queries, pairs = ["MeM", "é日"], [("uIu", "0123456789ab"), ("日é", "ba9876543210")]
    dictionaries = [
        TransformResponse(query=query, response=response, model_version=version)
        for query, (response, version) in zip(queries, pairs, strict=True)
    ]
    as_schema_has_it = TypeAdapter(BatchResponse).dump_json(BatchResponse(answers=dictionaries))
    assert batch_response(queries, pairs) == as_schema_has_it
