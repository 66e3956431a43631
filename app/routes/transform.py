"""`POST /transform`: a query in, Menny's answer out; `POST /transform/batch`: many at once."""

from http import HTTPStatus

from fastapi import APIRouter, Request

from app.http.api import BODY_PROBLEMS, problem_responses
from app.http.bodies import DirectRoute
from app.inference.answers import Responder, WaitForDisconnect
from app.routes.schemas import (
    BatchRequest,
    BatchResponse,
    TransformRequest,
    TransformResponse,
    batch_response,
    plain_response,
    transform_response,
)

router = APIRouter(tags=["transform"], route_class=DirectRoute)

PROBLEMS = problem_responses(
    *BODY_PROBLEMS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


@router.post(
    "/transform",
    summary="Ask Menny",
    response_model=TransformResponse,
    responses=PROBLEMS,
)
async def transform(body: TransformRequest, request: Request) -> TransformResponse | bytes:
    """Each letter of the query is answered as the rule has it (`GET /rule`).

    The same query gets the same answer as long as `model_version` is the same, whatever else is
    asked at the same time; so does the same `seed` where a `temperature` makes the answer a sample.
    """
    if len(body.model_fields_set) == 1:  # a query and no wishes
        ((response, version),) = await responder_of(request).respond_greedily(
            [body.query], disconnect_of(request)
        )
        return plain_response(body.query, response, version)
    (answer,) = await responder_of(request).respond([body.to_prompt()], disconnect_of(request))
    return transform_response(body.query, answer)


@router.post(
    "/transform/batch",
    summary="Ask Menny many things",
    response_model=BatchResponse,
    responses=PROBLEMS,
)
async def transform_batch(body: BatchRequest, request: Request) -> bytes:
    """Answers up to 1,024 queries, in order: all of them, or none if one is not right.

    Each gets the very answer that it gets alone.
    """
    answers = await responder_of(request).respond_greedily(body.queries, disconnect_of(request))
    return batch_response(body.queries, answers)


def responder_of(request: Request) -> Responder:
    """What answers."""
    responder: Responder = request.app.state.responder
    return responder


def disconnect_of(request: Request) -> WaitForDisconnect:
    """What waits until the caller of this request has gone, or at least sends no more."""

    async def wait() -> None:
        await request.receive()  # the body was there before, and nothing else can follow it

    return wait


DIRECT = {
    (method, route.path): route
    for route in router.routes
    if isinstance(route, DirectRoute)
    for method in route.methods or ()
}
"""What needs nothing of FastAPI's, by method and path."""
