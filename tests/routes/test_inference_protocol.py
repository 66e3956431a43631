"""`/v2`: asked by a client that nobody here wrote, and what no client would send."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from app.routes.tensors import MAX_QUERIES
from tests.in_process import InProcess, in_process
from tests.service import Service
from training.rule import RULE
from training.vocabulary import ALPHABET

QUERIES = [RULE.example, RULE.alphabet[-1] * RULE.max_length, RULE.alphabet[0], RULE.example]


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(service.url.removeprefix("http://")) as client:
        yield client


def queries_of(queries: list[str], *, binary: bool, column: bool = False) -> triton.InferInput:
    values = np.array(queries, dtype=object)
    values = values[:, None] if column else values
    tensor = triton.InferInput("query", list(values.shape), "BYTES")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def texts_of(tensor: Any) -> Any:
    return [text.decode() if isinstance(text, bytes) else text for text in tensor.ravel()]


def test_tritons_client_finds_a_server_and_a_model_that_are_ready(
    client: triton.InferenceServerClient, service: Service
) -> None:
    version = service.client.get("/health").json()["model_version"]
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("menny")
    assert client.is_model_ready("menny", version)
    assert not client.is_model_ready("menny", "0123456789ab")
    assert not client.is_model_ready("another")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    model = client.get_model_metadata("menny")
    assert model["versions"] == [version]
    assert [tensor["name"] for tensor in model["outputs"]] == ["response", "probabilities"]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("column", [True, False])
def test_tritons_client_gets_the_answers_that_transform_gives(
    client: triton.InferenceServerClient,
    service: Service,
    binary_in: bool,
    binary_out: bool,
    column: bool,
) -> None:
    result = client.infer(
        "menny",
        [queries_of(QUERIES, binary=binary_in, column=column)],
        outputs=[triton.InferRequestedOutput("response", binary_data=binary_out)],
        request_id="forty-two",
    )
    responses = result.as_numpy("response")
    assert responses.shape == ((len(QUERIES), 1) if column else (len(QUERIES),))
    expected = [service.transform(query) for query in QUERIES]
    assert texts_of(responses) == [answer["response"] for answer in expected]
    assert result.get_response()["model_version"] == expected[0]["model_version"]
    assert result.get_response()["id"] == "forty-two"


def test_probabilities_are_those_of_explain_with_zeros_after_the_end_however_they_are_sent(
    client: triton.InferenceServerClient, service: Service
) -> None:
    found = [
        client.infer(
            "menny",
            [queries_of(QUERIES, binary=True)],
            outputs=[
                triton.InferRequestedOutput("probabilities", binary_data=binary),
                triton.InferRequestedOutput("response", binary_data=True),
            ],
        )
        for binary in (True, False)
    ]
    probabilities = found[0].as_numpy("probabilities")
    assert (probabilities.shape, probabilities.dtype) == (
        (4, RULE.max_length, len(ALPHABET)),
        np.float32,
    )
    assert (found[1].as_numpy("probabilities") == probabilities).all()
    for row, query, response in zip(
        probabilities, QUERIES, texts_of(found[0].as_numpy("response")), strict=True
    ):
        explained = service.client.post("/explain", json={"query": query}).json()
        assert np.allclose(row[: len(query)], explained["distribution"], atol=1e-6)
        assert not row[len(query) :].any()
        assert response == explained["response"]


def test_a_seed_gives_each_query_the_sample_that_transform_gives_it(
    client: triton.InferenceServerClient, service: Service
) -> None:
    how = {"temperature": 1.5, "seed": 7}
    result = client.infer("menny", [queries_of(QUERIES, binary=True)], parameters=how)
    expected = [service.transform(query, **how)["response"] for query in QUERIES]
    assert texts_of(result.as_numpy("response")) == expected


@pytest.mark.parametrize(
    ("queries", "options", "status", "message"),
    [
        ([RULE.example, "!"], {}, "400", "element 1 of the input query: character 1 of the query"),
        (["é"], {}, "400", "U+00E9"),
        ([RULE.example], {"model_version": "0123456789ab"}, "404", "is not the one that answers"),
        ([RULE.example], {"parameters": {"temperature": 3.0}}, "400", "temperature"),
        ([RULE.example], {"parameters": {"warmth": 1}}, "400", "there is no field 'warmth'"),
        ([RULE.example] * (MAX_QUERIES + 1), {}, "400", "1 to 1,024 queries"),
    ],
)
def test_tritons_client_is_told_what_is_wrong(
    client: triton.InferenceServerClient,
    queries: list[str],
    options: dict[str, Any],
    status: str,
    message: str,
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("menny", [queries_of(queries, binary=True)], **options)
    assert caught.value.status() == status
    assert message in caught.value.message()


def test_what_the_server_does_not_know_is_an_error_that_tritons_client_can_read(
    client: triton.InferenceServerClient,
) -> None:
    for ask in (client.get_model_repository_index, lambda: client.get_model_config("menny")):
        with pytest.raises(InferenceServerException, match="there is nothing here"):
            ask()


# --- what no client of the protocol would send ----------------------------------------------------


def body_of(*queries: str, shape: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    shape = [len(queries)] if shape is None else shape
    tensor = {"name": "query", "datatype": "BYTES", "shape": shape, "data": list(queries)}
    return {"inputs": [tensor | more]}


def infer(menny: InProcess, body: Any, behind: bytes = b"", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    length = {"Inference-Header-Content-Length": str(len(content))} if behind else {}
    return menny.client.post(
        "/v2/models/menny/infer", content=content + behind, headers=length | headers
    )


def assert_error(response: httpx.Response, status: int, fragment: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    assert fragment in response.json()["error"]


def test_nested_data_and_a_name_of_the_model_are_taken(menny: InProcess) -> None:
    body = body_of(shape=[2, 1], data=[[RULE.example], [RULE.alphabet[0]]]) | {
        "model_name": "menny"
    }
    (output,) = infer(menny, body).json()["outputs"]
    assert output["shape"] == [2, 1]
    assert output["data"] == [
        menny.transform(query)["response"] for query in (RULE.example, RULE.alphabet[0])
    ]


def test_the_most_queries_there_may_be_are_answered_as_alone(menny: InProcess) -> None:
    rng = np.random.default_rng(0)
    queries = [
        "".join(rng.choice(list(ALPHABET), 1 + i % RULE.max_length)) for i in range(MAX_QUERIES)
    ]
    (output,) = infer(menny, body_of(*queries)).json()["outputs"]
    batch = menny.client.post("/transform/batch", json={"queries": queries}).json()
    assert output["data"] == [answer["response"] for answer in batch["answers"]]


@pytest.mark.parametrize(
    ("body", "behind", "fragment"),
    [
        (b"", b"", "not JSON"),
        (b"[]", b"", "not an object"),
        (b'{"inputs": [], "inputs": []}', b"", "twice"),
        ({"inputs": []}, b"", "inputs"),
        (body_of(), b"", "1 to 1,024"),
        (body_of("a", "b", shape=[3]), b"", "the shape [3] and 2 elements"),
        (body_of("a", shape=[1, 2]), b"", "the shape [1, 2]"),
        (body_of("a", shape=[True]), b"", "integer"),
        (body_of("a", name="another"), b"", "name: input should be 'query'"),
        (body_of("a", datatype="FP32"), b"", "datatype"),
        (body_of("a", data=[1]), b"", "string"),
        (body_of("a", data=None), b"", "either data or binary_data_size"),
        (body_of("a", parameters={"binary_data_size": 5}), b"", "either data"),
        (body_of("a"), b"xy", "2 bytes are behind the JSON"),
        (body_of("a", data=None, parameters={"binary_data_size": 6}), b"12345", "query has 6"),
        (body_of("a", data=None, parameters={"binary_data_size": 3}), b"123", "end within"),
        (
            body_of("a", data=None, parameters={"binary_data_size": 5}),
            struct.pack("<I", 2**32 - 1) + b"a",
            "end within",
        ),
        (body_of("a") | {"outputs": [{"name": "another"}]}, b"", "name"),
        (
            body_of("a") | {"outputs": [{"name": "response", "parameters": {"classification": 3}}]},
            b"",
            "there is no field 'classification'",
        ),
    ],
)
def test_a_wrong_request_is_400_with_the_protocols_error(
    menny: InProcess, body: Any, behind: bytes, fragment: str
) -> None:
    assert_error(infer(menny, body, behind), 400, fragment)


@pytest.mark.parametrize("length", ["-1", "1e3", "99999", "", "²"])
def test_a_length_of_the_json_that_makes_no_sense_is_400(menny: InProcess, length: str) -> None:
    response = menny.client.post(
        "/v2/models/menny/infer",
        content=json.dumps(body_of("a")).encode(),
        headers=[(b"Inference-Header-Content-Length", length.encode())],
    )
    assert_error(response, 400, "Inference-Header-Content-Length")


def test_every_error_below_v2_is_the_protocols_and_others_are_as_they_were(
    menny: InProcess,
) -> None:
    ask = menny.client.request
    assert_error(ask("GET", "/v2/nothing"), 404, "there is nothing here")
    assert_error(ask("GET", "/v2/models/menny/infer"), 405, "use POST")
    assert_error(ask("GET", "/v2", headers={"Host": "elsewhere.example"}), 421, "Host")
    assert_error(infer(menny, b" " * 300_000), 413, "262,144 bytes")
    assert_error(infer(menny, body_of("a"), Origin="https://elsewhere.example"), 403, "origin")
    other = ask("GET", "/v2nothing")
    assert other.headers["content-type"] == "application/problem+json"


def test_without_a_model_the_server_is_alive_and_not_ready(tmp_path: Any) -> None:
    with in_process(weights=tmp_path / "none.npz") as menny:
        assert menny.client.get("/v2/health/live").json() == {"live": True}
        ready = menny.client.get("/v2/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"ready": False})
        for path in ("", "/ready"):
            assert_error(menny.client.get(f"/v2/models/menny{path}"), 503, "no model to answer")
        assert_error(infer(menny, body_of(RULE.example)), 503, "no model to answer")


def test_answers_are_all_of_one_version_though_another_comes_in_between(
    menny: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    responder = menny.app.state.responder
    respond, calls = responder.respond, []

    async def of_two_versions(*arguments: Any) -> Any:
        answers = await respond(*arguments)
        calls.append(len(answers))
        if len(calls) == 1:
            answers[0] = type(answers[0])("aIa", "0123456789ab")
        return answers

    monkeypatch.setattr(responder, "respond", of_two_versions)
    answer = infer(menny, body_of(*RULE.alphabet[:2])).json()
    assert calls == [2, 2]
    assert answer["model_version"] == menny.client.get("/health").json()["model_version"]
