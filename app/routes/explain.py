"""A look inside Menny: `POST /explain` for one query, `GET /card` for the model that answers."""

from http import HTTPStatus

from fastapi import APIRouter, Request

from app.errors import ModelUnavailableError
from app.http.api import problem_responses
from app.http.bodies import StrictRoute
from app.routes.dependencies import EngineDep, RetrainingDep
from app.routes.health import facts_of, proof_of
from app.routes.schemas import ExplainRequest, ExplainResponse, ServedModelCard
from app.routes.transform import PROBLEMS, disconnect_of, responder_of

router = APIRouter(tags=["inside"], route_class=StrictRoute)


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
