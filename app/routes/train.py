"""`/train`: start, watch and cancel training jobs."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel

from app.errors import StateUnavailableError
from app.http.api import BODY_PROBLEMS, problem_responses
from app.http.json import StrictRoute
from app.http.server import Lifecycle
from app.jobs.bell import Bell
from app.jobs.job import Job, JobRequest
from app.jobs.store import Store
from app.routes.dependencies import AdminOnly, BellDep, JobsDep, LifecycleDep, StoreDep
from app.routes.schemas import JobPage

logger = logging.getLogger(__name__)

router = APIRouter(
    prefix="/train",
    tags=["retraining"],
    route_class=StrictRoute,
    dependencies=[AdminOnly],
    responses=problem_responses(
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
)

HEARTBEAT_S = 0.8
"""Events come at least every second."""

END = "end"
"""The last event, and its id."""

JobId = Annotated[int, Path(ge=1, le=2**63 - 1, description="the job's number")]


@router.post(
    "",
    summary="Train a new version",
    status_code=HTTPStatus.ACCEPTED,
    responses=problem_responses(*BODY_PROBLEMS, HTTPStatus.CONFLICT),
)
def start(
    request: Request, response: Response, jobs: JobsDep, body: JobRequest | None = None
) -> Job:
    """Start a job in the background, while Menny goes on answering. One at a time.

    What is left out is the recipe's; without a body, that is the default recipe.
    """
    job = jobs.start(body or JobRequest())
    response.headers["Location"] = request.url_for("show", job_id=job.id).path
    return job


@router.get("", summary="List the jobs")
def list_jobs(
    request: Request,
    store: StoreDep,
    limit: Annotated[int, Query(ge=1, le=100, description="how many")] = 20,
    before: Annotated[
        int | None, Query(ge=1, le=2**63 - 1, description="only those with a smaller number")
    ] = None,
) -> JobPage:
    """The newest first, a page at a time."""
    found = store.jobs(limit + 1, before)
    page = found[:limit]
    following = (
        str(request.url_for("list_jobs").include_query_params(limit=limit, before=page[-1].id))
        if len(found) > limit
        else None
    )
    return JobPage(jobs=page, next=following)


@router.get("/{job_id}", summary="Look at a job", responses=problem_responses(HTTPStatus.NOT_FOUND))
def show(job_id: JobId, store: StoreDep) -> Job:
    """Its state, how far it is, how it ended."""
    return store.job(job_id)


@router.delete(
    "/{job_id}",
    summary="Cancel a job",
    responses=problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def cancel(job_id: JobId, jobs: JobsDep) -> Job:
    """Answers with the job once it has ended, within two seconds."""
    return jobs.cancel(job_id)


_EVENTS_RESPONSES: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK.value: {"content": {"text/event-stream": {}}},
    HTTPStatus.NO_CONTENT.value: {"description": "The client has had the end already"},
}


@router.get(
    "/{job_id}/events",
    summary="Watch a job",
    response_class=Response,
    responses=_EVENTS_RESPONSES | problem_responses(HTTPStatus.NOT_FOUND),
)
async def events(
    job_id: JobId,
    store: StoreDep,
    bell: BellDep,
    lifecycle: LifecycleDep,
    last_event_id: Annotated[
        str | None, Header(description="where to go on: the id of the last event received")
    ] = None,
) -> Response:
    """Server-sent events, from the first epoch or from where the client was cut off.

    - `epoch`, its id the epoch's number: what the job reported at its end;
    - `progress`, without an id: the job as it is, at least every second;
    - `end`: the job as it ended. Then the stream ends.
    """
    await asyncio.to_thread(store.job, job_id)
    if last_event_id == END:
        return Response(status_code=HTTPStatus.NO_CONTENT)  # an EventSource then gives up
    return EventSourceResponse(
        _stream(lifecycle, store, bell, job_id, _epoch_of(last_event_id)),
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _epoch_of(last_event_id: str | None) -> int:
    """The latest epoch that the client knows; 0 if its id is none of ours."""
    if last_event_id is not None and re.fullmatch("[0-9]{1,9}", last_event_id):
        return int(last_event_id)
    return 0


async def _stream(
    lifecycle: Lifecycle, store: Store, bell: Bell, job_id: int, after: int
) -> AsyncIterator[bytes]:
    while not lifecycle.is_draining:
        news = bell.listen()
        try:
            job = await asyncio.to_thread(store.job, job_id)
            # Read after the job: if that has ended, these are all.
            epochs = await asyncio.to_thread(store.epochs, job_id, after)
        except StateUnavailableError as error:
            logger.error("the events of job %d are cut off: %s", job_id, error)
            return
        for epoch in epochs:
            after = epoch.epoch
            yield _event("epoch", epoch, str(after))
        if job.state.has_ended:
            yield _event(END, job, END)
            return
        yield _event("progress", job)
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_S):
                await news.wait()


def _event(event: str, data: BaseModel, event_id: str | None = None) -> bytes:
    return format_sse_event(event=event, data_str=data.model_dump_json(), id=event_id)
