"""`POST /transform`: a query in, Menny's answer out."""

import asyncio
from http import HTTPStatus

from fastapi import APIRouter

from app.dependencies import EngineDep
from app.problems import BODY_PROBLEMS, problem_responses
from app.schemas import TransformRequest, TransformResponse

router = APIRouter(tags=["transform"])


@router.post(
    "/transform",
    summary="Ask Menny",
    responses=problem_responses(*BODY_PROBLEMS, HTTPStatus.SERVICE_UNAVAILABLE),
)
async def transform(request: TransformRequest, engine: EngineDep) -> TransformResponse:
    """Each letter of the query is answered with a vowel of the opposite case.

    The same query gets the same answer as long as `model_version` is the same.
    """
    answer = await asyncio.wrap_future(engine.submit(request.query))
    return TransformResponse(
        query=request.query, response=answer.response, model_version=answer.model_version
    )
