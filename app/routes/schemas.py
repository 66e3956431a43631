"""The wire contract: what goes in and out as JSON."""

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NotRequired

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    with_config,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from typing_extensions import TypedDict

from app.inference.decoding import Prompt
from app.inference.model import Answer
from app.jobs.job import Job, Version
from training.errors import VocabularyError
from training.proof.check import CounterExample
from training.rule import RULE
from training.vocabulary import check_query

MAX_QUERIES = 1024
"""In one request."""
EXAMPLE: dict[str, JsonValue] = {"query": RULE.example}


def _in_words(value: object, validate: ValidatorFunctionWrapHandler) -> Any:
    """Pydantic decides; what is wrong with a query, or with one of many, is said in our words."""
    try:
        return validate(value)
    except ValidationError as error:
        found = [_detail_in_words(detail) for detail in error.errors()]
        raise ValidationError.from_exception_data(error.title, found) from None


def _detail_in_words(detail: ErrorDetails) -> InitErrorDetails:
    kind: str | PydanticCustomError = detail["type"]
    if detail["type"].startswith("string_"):
        reason = f"the query is not a string; send {json.dumps(EXAMPLE)}"
        if isinstance(detail["input"], str):
            try:
                check_query(detail["input"])
            except VocabularyError as error:
                reason = str(error)
        kind = PydanticCustomError("query", "{reason}", {"reason": reason})
    return InitErrorDetails(
        type=kind, loc=detail["loc"], input=detail["input"], ctx=detail.get("ctx", {})
    )


_Query = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=RULE.max_length, pattern=RULE.pattern),
    Field(description=RULE.query_in_words, examples=[RULE.example]),
]
Query = Annotated[_Query, WrapValidator(_in_words)]


Temperature = Annotated[
    float,
    Field(
        ge=0,
        le=2,
        strict=True,
        allow_inf_nan=False,
        description="0: the likeliest letters, always the same; 1: a sample from the model's "
        "distribution; above 1: bolder",
    ),
]
Seed = Annotated[
    int | None,
    Field(
        ge=0,
        le=2**53 - 1,  # larger numbers are not the same to every reader of JSON (RFC 8259, 6)
        strict=True,
        description="with a temperature: the same seed gives the same answer",
    ),
]


class TransformRequest(BaseModel):
    """A query for Menny."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    query: Query
    temperature: Temperature = 0
    seed: Seed = None
    candidates: int = Field(
        0,
        ge=0,
        le=10,
        strict=True,
        description="show this many of the likeliest letters for each position",
    )

    def to_prompt(self) -> Prompt:
        """The prompt that this asks for."""
        return Prompt(self.query, self.temperature, self.seed, self.candidates)


class BatchRequest(BaseModel):
    """Many queries for Menny."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"queries": [RULE.example, RULE.alphabet[0]]}]},
    )

    queries: Annotated[
        list[_Query],
        Field(min_length=1, max_length=MAX_QUERIES, description="what to answer, in order"),
        WrapValidator(_in_words),  # once for all of them: a call for each would take a millisecond
    ]


class LetterCandidate(TypedDict):
    """A letter that could answer."""

    letter: str
    probability: Annotated[float, Field(description="under the model, at temperature 1")]


@with_config(
    ConfigDict(
        json_schema_extra={
            "examples": [
                EXAMPLE | {"response": RULE.example_response, "model_version": "0123456789ab"}
            ]
        }
    )
)
class TransformResponse(TypedDict):
    """Menny's answer."""

    query: Annotated[str, Field(description="the query, as it was sent")]
    response: Annotated[
        str,
        Field(description=f"as many letters as the query has, each answered with {RULE.summary}"),
    ]
    model_version: Annotated[str, Field(description="the version of the model that answered")]
    candidates: NotRequired[
        Annotated[
            list[list[LetterCandidate]],
            Field(
                description="for each position the likeliest letters, if they were asked for; at "
                "temperature 0 the first one is the response"
            ),
        ]
    ]


class BatchResponse(TypedDict):
    """Menny's answers."""

    answers: Annotated[list[TransformResponse], Field(description="in the order of the queries")]


def batch_response(queries: Iterable[str], answers: Iterable[tuple[str, str]]) -> bytes:
    """A `BatchResponse` from queries and their responses with versions, as JSON."""
    shown = [
        plain_response(query, response, version)
        for query, (response, version) in zip(queries, answers, strict=True)
    ]
    return b'{"answers":[%b]}' % b",".join(shown)


def plain_response(query: str, response: str, version: str) -> bytes:
    """A `TransformResponse` as JSON: no rule's letters need an escape.

    A dictionary for each of many, and Pydantic's look at it, would take six times as long.
    """
    return f'{{"query":"{query}","response":"{response}","model_version":"{version}"}}'.encode()


def transform_response(query: str, answer: Answer) -> TransformResponse:
    """The answer to a query, on the wire."""
    shown = TransformResponse(
        query=query, response=answer.response, model_version=answer.model_version
    )
    if answer.candidates is not None:
        shown["candidates"] = [
            [LetterCandidate(letter=c.letter, probability=c.probability) for c in position]
            for position in answer.candidates
        ]
    return shown


Source = Annotated[
    Literal["table", "model"],
    Field(
        description="what answers at temperature 0: `table` looks up what the model answered when "
        "it was asked everything (`menny verify`), `model` asks it anew. All else is the model's"
    ),
]
SourceReason = Annotated[str, Field(description="why that answers, and not the other")]
DeviceField = Annotated[
    str | None, Field(description="where the model computes: cpu or gpu; null while it can't")
]
ArraysField = Annotated[
    str | None,
    Field(
        description="with what: numpy or mlx, whichever was faster here, or plain, for the slower "
        "plain model in MLX"
    ),
]


CounterExampleField = Annotated[
    CounterExample | None,
    Field(description="a query that this very model answers with a forbidden letter, if known"),
]


class JobPage(BaseModel):
    """Some of the jobs."""

    jobs: list[Job] = Field(description="the newest first")
    next: str | None = Field(description="where the older ones are; null after the last page")


class VersionList(BaseModel):
    """The versions that there are."""

    models: list[Version] = Field(description="the newest first, the shipped one last")
