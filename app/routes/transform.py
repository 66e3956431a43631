"""`POST /transform`: a query in, Menny's answer out; `POST /transform/batch`: many at once."""

from http import HTTPStatus

from fastapi import APIRouter, Request

from app.http.api import BODY_PROBLEMS, problem_responses
from app.http.json import StrictRoute
from app.inference.answers import WaitForDisconnect
from app.inference.decoding import Prompt
from app.routes.dependencies import ResponderDep
from app.routes.schemas import BatchRequest, BatchResponse, TransformRequest, TransformResponse

router = APIRouter(tags=["transform"], route_class=StrictRoute)

PROBLEMS = problem_responses(
    *BODY_PROBLEMS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


@router.post(
    "/transform",
    summary="Ask Menny",
    responses=PROBLEMS,
    response_model_exclude_none=True,
)
async def transform(
    body: TransformRequest, request: Request, responder: ResponderDep
) -> TransformResponse:
    """Each letter of the query is answered with a vowel of the opposite case.

    The same query gets the same answer as long as `model_version` is the same, whatever else is
    asked at the same time; so does the same `seed` where a `temperature` makes the answer a sample.
    """
    (answer,) = await responder.respond([body.to_prompt()], disconnect_of(request))
    return TransformResponse.of(body.query, answer)


@router.post(
    "/transform/batch",
    summary="Ask Menny many things",
    responses=PROBLEMS,
    response_model_exclude_none=True,
)
async def transform_batch(
    body: BatchRequest, request: Request, responder: ResponderDep
) -> BatchResponse:
    """Answers up to 1,024 queries, in order: all of them, or none if one is not right.

    Each gets the very answer that it gets alone.
    """
    prompts = [Prompt(query) for query in body.queries]
    answers = await responder.respond(prompts, disconnect_of(request))
    return BatchResponse(
        answers=[
            TransformResponse.of(query, answer)
            for query, answer in zip(body.queries, answers, strict=True)
        ]
    )


def disconnect_of(request: Request) -> WaitForDisconnect:
    """What waits until the caller of this request has gone."""

    async def wait() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return wait


route = router.routes[0]
"""That of `POST /transform`, for `app.http.fast_path`."""
