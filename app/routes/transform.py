"""`POST /transform`: a query in, Menny's answer out; `POST /transform/batch`: many at once."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request

from app.http.api import BODY_PROBLEMS, problem_responses
from app.http.bodies import DirectRoute
from app.http.edge import AnswerAtOnce
from app.inference.answers import Responder, WaitForDisconnect
from app.inference.decoding import Prompt
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
    recorded = recorded_response(body, responder_of(request))
    if recorded is not None:
        return recorded
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
    recorded = recorded_batch(body, responder_of(request))
    if recorded is not None:
        return recorded
    prompts = [Prompt(query) for query in body.queries]
    answers = await responder_of(request).respond(prompts, disconnect_of(request))
    return batch_response(body.queries, [answer[:2] for answer in answers])


def recorded_response(body: TransformRequest, responder: Responder) -> bytes | None:
    """What the answer table has for a query without wishes; `None` without a table."""
    if len(body.model_fields_set) > 1:
        return None
    found = responder.look_up([body.query])
    return plain_response(body.query, *found[0]) if found else None


def recorded_batch(body: BatchRequest, responder: Responder) -> bytes | None:
    """The same for many queries."""
    found = responder.look_up(body.queries)
    return batch_response(body.queries, found) if found else None


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

_RECORDED: dict[str, Callable[[Any, Responder], bytes | None]] = {
    "/transform": recorded_response,
    "/transform/batch": recorded_batch,
}


def recorded_answers(app: FastAPI) -> dict[tuple[bytes, bytes], AnswerAtOnce]:
    """What the edge may answer at once, read and validated as its route does it."""

    def of(path: str) -> AnswerAtOnce:
        parse, find = DIRECT["POST", path].parse, _RECORDED[path]
        return lambda content_type, body: find(parse(content_type, body), app.state.responder)

    return {(b"POST", path.encode()): of(path) for path in _RECORDED}
