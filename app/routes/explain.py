"""A look inside Menny: `POST /explain` for one query, `GET /card` for the model that answers."""

from http import HTTPStatus
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from app.errors import ModelUnavailableError
from app.http.api import problem_responses
from app.http.bodies import StrictRoute
from app.inference.model import Answer
from app.routes.dependencies import EngineDep, RetrainingDep
from app.routes.health import facts_of, proof_of
from app.routes.schemas import (
    EXAMPLE,
    ArraysField,
    CounterExampleField,
    DeviceField,
    Query,
    Source,
    SourceReason,
)
from app.routes.transform import PROBLEMS, disconnect_of, responder_of
from training.dataset import LABEL_ODDS
from training.proof.check import Proof
from training.rule import RULE
from training.weights import ModelCard

router = APIRouter(tags=["inside"], route_class=StrictRoute)


class ExplainRequest(BaseModel):
    """A query to look inside with."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    query: Query


AttentionWeights = Annotated[
    list[list[list[list[float]]]],
    Field(description="[layer][head][row][column]: how much the row looks at the column"),
]


class Attention(BaseModel):
    """The attention weights of the forward pass, to six decimals; each row sums to 1."""

    encoder: AttentionWeights = Field(description="the encoder's look at the query")
    decoder: AttentionWeights = Field(description="the decoder's look at the query")
    cross: AttentionWeights = Field(
        description="the decoder's look (rows) at what the encoder made of the query (columns)"
    )


class ExplainResponse(BaseModel):
    """What happens inside Menny while she answers."""

    model_config = ConfigDict(
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "query": RULE.alphabet[0],
                    "response": RULE.answers[RULE.alphabet[0]][0],
                    "model_version": "0123456789ab",
                    "positions": [RULE.alphabet[0], *[""] * (RULE.max_length - 1)],
                    "alphabet": RULE.alphabet,
                    "distribution": LABEL_ODDS[:1].tolist(),
                    "attention": {
                        name: [[[[1 / RULE.max_length] * RULE.max_length]]]
                        for name in ("encoder", "decoder", "cross")
                    },
                }
            ]
        },
    )

    query: str = Field(description="the query, as it was sent")
    response: str = Field(description="what /transform answers at temperature 0")
    model_version: str = Field(description="the version of the model that answered")
    positions: list[str] = Field(
        description="the rows and columns of `attention`: the query's letters, then an empty "
        "string for each empty position. The model has no mask: she looks at those as well"
    )
    alphabet: str = Field(description="the columns of `distribution`")
    distribution: list[list[float]] = Field(
        description="for each letter of the query the probabilities of all letters at temperature "
        "1, to six decimals"
    )
    attention: Attention

    @classmethod
    def of(cls, query: str, answer: Answer) -> Self:
        """The answer to a query and its explanation, on the wire."""
        assert answer.explanation is not None  # noqa: S101 - it was asked for
        assert answer.distribution is not None  # noqa: S101
        explanation = answer.explanation
        return cls(
            query=query,
            response=answer.response,
            model_version=answer.model_version,
            positions=list(query) + [""] * (RULE.max_length - len(query)),
            alphabet=RULE.alphabet,
            distribution=_rounded(answer.distribution),
            attention=Attention(
                encoder=_rounded(explanation.encoder),
                decoder=_rounded(explanation.decoder),
                cross=_rounded(explanation.cross),
            ),
        )


def _rounded(values: npt.NDArray[np.floating]) -> Any:
    """Nested lists of numbers short enough to read; float64, so that JSON shows no more digits."""
    return values.astype(np.float64).round(6).tolist()


class ServedModelCard(BaseModel):
    """What there is to know of the model that answers."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str = Field(description="the version of the model that answers")
    device: DeviceField
    arrays: ArraysField
    answers: Source
    answers_reason: SourceReason
    proven: bool = Field(
        description="whether this very model was checked on every query that exists and keeps the "
        "rule, by `menny verify` or in the background"
    )
    counter_example: CounterExampleField = None
    proof: Proof | None = Field(
        description="what that check has shown; null as long as there was none"
    )
    card: ModelCard | None = Field(
        description="where it comes from and what was measured of it; null for a file without one"
    )


@router.post("/explain", summary="See Menny think", responses=PROBLEMS)
async def explain(body: ExplainRequest, request: Request) -> ExplainResponse:
    """How she gets at her answer: all attention weights, and every letter's probability.

    These are the weights of the model that answers `/transform`, computed for this query alone.
    A few are explained at a time; when more are asked for, 503 says when to try again.
    """
    answer = await responder_of(request).explain(body.query, disconnect_of(request))
    return ExplainResponse.of(body.query, answer)


@router.get(
    "/card",
    summary="Her model card",
    responses=problem_responses(HTTPStatus.SERVICE_UNAVAILABLE),
)
async def card(engine: EngineDep, retraining: RetrainingDep, request: Request) -> ServedModelCard:
    """Where the model that answers comes from, what was measured of it and what is proven."""
    served = engine.served
    if served is None:
        raise ModelUnavailableError(f"there is no model to answer: {engine.fault}")
    proof = await proof_of(served, retraining)
    return ServedModelCard(card=served.card, proof=proof, **facts_of(served, request, proof))
