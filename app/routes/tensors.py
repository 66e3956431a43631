"""What goes in and out at `/v2`: the Open Inference Protocol's tensors, as JSON and as bytes.

The protocol: https://github.com/kserve/open-inference-protocol/tree/main/specification/protocol.
Binary tensors are Triton's extension `binary_tensor_data`: behind the JSON, in the order of the
tensors, little-endian, an element of BYTES being its length (uint32) and so many bytes.
"""

import struct
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, JsonValue, PrivateAttr, StrictBool, StrictInt
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from app.inference.decoding import Prompt
from app.inference.model import Answer
from app.routes.schemas import MAX_QUERIES, Seed, Temperature
from training.errors import VocabularyError
from training.rule import RULE
from training.vocabulary import MAX_QUERY_LENGTH, VOCABULARY_SIZE, check_query

_LENGTH = struct.Struct("<I")

OutputName = Literal["response", "probabilities"]


class InferParameters(BaseModel):
    """How the queries are to be answered."""

    model_config = ConfigDict(extra="forbid")

    temperature: Temperature = 0
    seed: Seed = None
    binary_data_output: StrictBool = Field(
        False, description="send the outputs as bytes behind the JSON, unless one says otherwise"
    )


class InputParameters(BaseModel):
    """How an input is sent; others than these are no matter."""

    binary_data_size: StrictInt | None = Field(
        None, ge=0, description="bytes of the tensor, which are behind the JSON"
    )


class InputTensor(BaseModel):
    """The queries."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["query"]
    shape: list[StrictInt] = Field(description="[N] or [N, 1], N at most 1,024", examples=[[2]])
    datatype: Literal["BYTES"]
    parameters: InputParameters = InputParameters()
    data: list[str | list[str]] | None = Field(
        None,
        description=f"N queries of {RULE.query_in_words}; null if they are sent as bytes",
        examples=[[RULE.example, RULE.alphabet[0]]],
    )

    _queries: list[str] = PrivateAttr([])

    def read(self, binary: bytes) -> None:
        """Take the queries out of `data` or of what is behind the JSON; `HTTPException` 400."""
        size = self.parameters.binary_data_size
        if (size is None) == (self.data is None):
            raise _bad_request("the input query has either data or binary_data_size")
        if (size or 0) != len(binary):
            raise _bad_request(
                f"{len(binary):,} bytes are behind the JSON, and the input query has {size or 0:,}"
            )
        queries = list(_elements(binary) if self.data is None else _flat(self.data))
        if self.shape not in ([len(queries)], [len(queries), 1]):
            raise _bad_request(
                f"the input query has the shape {self.shape} and {len(queries):,} elements; send "
                "the shape [N] or [N, 1] and N elements"
            )
        if not 1 <= len(queries) <= MAX_QUERIES:
            raise _bad_request(f"a request has 1 to {MAX_QUERIES:,} queries")
        for place, query in enumerate(queries):
            try:
                check_query(query)
            except VocabularyError as error:
                raise _bad_request(f"element {place} of the input query: {error}") from None
        self._queries = queries


class OutputParameters(BaseModel):
    """How an output is to be sent."""

    model_config = ConfigDict(extra="forbid")

    binary_data: StrictBool | None = Field(None, description="as bytes behind the JSON, or in it")


class RequestedOutput(BaseModel):
    """An output that is asked for."""

    model_config = ConfigDict(extra="forbid")

    name: OutputName
    parameters: OutputParameters = OutputParameters()


EXAMPLE: dict[str, JsonValue] = {
    "name": "query",
    "shape": [1],
    "datatype": "BYTES",
    "data": [RULE.example],
}


class InferRequest(BaseModel):
    """Queries for Menny, as the protocol has them."""

    model_config = ConfigDict(
        extra="ignore",  # Triton's clients repeat the model's name
        json_schema_extra={"examples": [{"inputs": [EXAMPLE]}]},
    )

    id: str | None = Field(None, description="comes back with the answer")
    parameters: InferParameters = InferParameters()
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] = Field(
        [RequestedOutput(name="response")],
        min_length=1,
        max_length=2,
        description="`response` if left out; `probabilities` only if it is named",
    )

    def to_prompts(self) -> list[Prompt]:
        """The prompts that this asks for, once the input has been read."""
        how = self.parameters
        distribution = any(output.name == "probabilities" for output in self.outputs)
        return [
            Prompt(query, how.temperature, how.seed, distribution=distribution)
            for query in self.inputs[0]._queries
        ]


class OutputTensor(BaseModel):
    """An output: `data` in the JSON, or `binary_data_size` bytes behind it."""

    name: OutputName
    datatype: Literal["BYTES", "FP32"]
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[str] | list[float] | None = Field(None, description="row after row")


class InferResponse(BaseModel):
    """Menny's answers, as the protocol has them."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: Literal["menny"]
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor] = Field(
        description="`response`, of the shape of the queries: each answered as it is alone; "
        f"`probabilities` [N, {MAX_QUERY_LENGTH}, {VOCABULARY_SIZE}]: under the model, at "
        "temperature 1; zeros after a query's end"
    )


def encode(body: InferRequest, answers: list[Answer]) -> tuple[bytes, bytes]:
    """The answer's JSON, and the bytes behind it."""
    outputs, binary = [], []
    for wanted in body.outputs:
        if wanted.name == "response":
            shape, responses = body.inputs[0].shape, [answer.response for answer in answers]
            output: dict[str, Any] = {"datatype": "BYTES", "shape": shape}
            data: Any = responses
            raw = b"".join(
                _LENGTH.pack(len(text)) + text for text in (one.encode() for one in responses)
            )
        else:
            data = _probabilities(answers)
            output = {"datatype": "FP32", "shape": list(data.shape)}
            raw = data.tobytes()
        is_binary = wanted.parameters.binary_data
        if body.parameters.binary_data_output if is_binary is None else is_binary:
            output["parameters"] = {"binary_data_size": len(raw)}
            binary.append(raw)
        else:
            output["data"] = data if wanted.name == "response" else data.ravel().tolist()
        outputs.append({"name": wanted.name} | output)
    head = {"model_name": "menny", "model_version": answers[0].model_version}
    if body.id is not None:
        head["id"] = body.id
    return to_json(head | {"outputs": outputs}), b"".join(binary)


def _probabilities(answers: list[Answer]) -> npt.NDArray[np.float32]:
    """(N, L, V), little-endian."""
    shape = (len(answers), MAX_QUERY_LENGTH, VOCABULARY_SIZE)
    probabilities = np.zeros(shape, dtype="<f4")
    for row, answer in zip(probabilities, answers, strict=True):
        assert answer.distribution is not None  # noqa: S101 - it was asked for
        row[: len(answer.distribution)] = answer.distribution
    return probabilities


def _flat(data: list[str | list[str]]) -> Iterator[str]:
    for part in data:
        yield from [part] if isinstance(part, str) else part


def _elements(binary: bytes) -> Iterator[str]:
    """The elements of a tensor of BYTES; `HTTPException` 400."""
    position = 0
    while position < len(binary):
        start = position + _LENGTH.size
        size = int.from_bytes(binary[position:start], "little")
        position = start + size
        if position > len(binary):
            raise _bad_request("the input query's bytes end within an element")
        yield binary[start:position].decode(errors="replace")


def _bad_request(detail: str) -> HTTPException:
    return HTTPException(HTTPStatus.BAD_REQUEST, detail)
