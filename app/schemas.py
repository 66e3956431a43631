"""The wire contract: what goes in and out as JSON."""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from app.jobs.schemas import Job, Version
from training.errors import VocabularyError
from training.vocabulary import MAX_QUERY_LENGTH, check_query


def _say_what_is_wrong(value: object, validate: ValidatorFunctionWrapHandler) -> str:
    """Pydantic decides; what is wrong is said in Menny's words."""
    try:
        return str(validate(value))
    except ValidationError:
        try:
            if not isinstance(value, str):
                raise VocabularyError('the query is not a string; send {"query": "MeM"}')
            check_query(value)
        except VocabularyError as error:
            raise PydanticCustomError("query", "{reason}", {"reason": str(error)}) from None
        raise


Query = Annotated[
    str,
    StringConstraints(
        strict=True, min_length=1, max_length=MAX_QUERY_LENGTH, pattern=r"^[A-Za-z]+$"
    ),
    WrapValidator(_say_what_is_wrong),
    Field(description="1 to 5 ASCII letters", examples=["MeM"]),
]


class TransformRequest(BaseModel):
    """A query for Menny."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"query": "MeM"}]})

    query: Query


class TransformResponse(BaseModel):
    """Menny's answer."""

    model_config = ConfigDict(
        protected_namespaces=(),
        json_schema_extra={
            "examples": [{"query": "MeM", "response": "uIu", "model_version": "0123456789ab"}]
        },
    )

    query: str = Field(description="the query, as it was sent")
    response: str = Field(
        description="as many letters as the query has, each a vowel of the opposite case"
    )
    model_version: str = Field(description="the version of the model that answered")


class Health(BaseModel):
    """How the service is."""

    model_config = ConfigDict(protected_namespaces=())

    status: Literal["ok", "unavailable"] = Field(description="`ok` when she can answer")
    reason: str | None = Field(None, description="why she can't answer, and the remedy")
    model_version: str | None = Field(None, description="the version of the model that answers")
    rule_accuracy: float | None = Field(
        None,
        description="share of letters answered with an allowed vowel, on 20,000 queries that the "
        "model was not trained on; null where no model card says",
    )
    device: str | None = Field(None, description="where MLX computes: cpu or gpu")
    uptime_seconds: float = Field(description="since the service started")
    note: str | None = Field(
        None, description="why retraining is unavailable, or why the shipped weights answer"
    )


class Live(BaseModel):
    """The process is there."""

    status: Literal["alive"] = "alive"


class JobPage(BaseModel):
    """Some of the jobs."""

    jobs: list[Job] = Field(description="the newest first")
    next: str | None = Field(description="where the older ones are; null after the last page")


class VersionList(BaseModel):
    """The versions that there are."""

    models: list[Version] = Field(description="the newest first, the shipped one last")


class FieldError(BaseModel):
    """What is wrong with one part of the request."""

    pointer: str = Field(description="JSON Pointer to the part", examples=["#/query"])
    detail: str = Field(description="what is wrong with it, and what would be right")


class Problem(BaseModel):
    """An error, as RFC 9457 has it (`application/problem+json`)."""

    type: str = Field("about:blank", description="always `about:blank`: the status says it all")
    title: str = Field(description="the HTTP status in words", examples=["Unprocessable Content"])
    status: int = Field(description="the HTTP status", examples=[422])
    detail: str = Field(description="what is wrong, and what would be right")
    errors: list[FieldError] | None = Field(None, description="what is wrong where, if known")
