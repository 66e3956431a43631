"""`/train`: start, watch and cancel training jobs."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel

from app.errors import StateUnavailableError
from app.http.api import BODY_PROBLEMS, problem_responses
from app.http.bodies import StrictRoute
from app.http.lifecycle import Lifecycle
from app.jobs.job import Job, JobRequest
from app.jobs.store import Store
from app.routes.dependencies import AdminOnly, LifecycleDep, StoreDep
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

LOOK_S = 0.33
"""How often the store is looked at for news of a job that somebody watches."""
HEARTBEAT_S = 0.66
"""Seconds without news after which the job is sent as it is: events come at least every second."""
CANCEL_S = 2.0
"""Seconds that a job gets to end before the answer to its cancellation."""

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
    request: Request, response: Response, store: StoreDep, body: JobRequest | None = None
) -> Job:
    """Start a job in the background, while Menny goes on answering. One at a time.

    What is left out is the recipe's; without a body, that is the default recipe.
    """
    wanted = body or JobRequest()
    job = store.create_job(wanted.recipe, wanted.config(), wanted.promote)
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
    found = store.list_jobs(limit + 1, before)
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
    return store.get_job(job_id)


@router.delete(
    "/{job_id}",
    summary="Cancel a job",
    responses={HTTPStatus.ACCEPTED: {"model": Job, "description": "It has not ended yet"}}
    | problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
async def cancel(response: Response, job_id: JobId, store: StoreDep) -> Job:
    """Answers with the job once it has ended; with 202, if that takes longer than two seconds."""
    deadline = time.monotonic() + CANCEL_S
    await asyncio.to_thread(store.cancel_job, job_id)
    while not (job := await asyncio.to_thread(store.get_job, job_id)).state.has_ended:
        if time.monotonic() > deadline:
            response.status_code = HTTPStatus.ACCEPTED
            break
        await asyncio.sleep(0.05)
    return job


EVENTS: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK.value: {"content": {"text/event-stream": {}}}
}
_EVENTS_RESPONSES = EVENTS | {
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
    await asyncio.to_thread(store.get_job, job_id)
    if last_event_id == END:
        return Response(status_code=HTTPStatus.NO_CONTENT)  # an EventSource then gives up
    return EventSourceResponse(
        _stream(lifecycle, store, job_id, _epoch_of(last_event_id)),
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _epoch_of(last_event_id: str | None) -> int:
    """The latest epoch that the client knows; 0 if its id is none of ours."""
    if last_event_id is not None and re.fullmatch("[0-9]{1,9}", last_event_id):
        return int(last_event_id)
    return 0


async def _stream(
    lifecycle: Lifecycle, store: Store, job_id: int, after: int
) -> AsyncIterator[bytes]:
    shown, shown_at = None, 0.0
    while not lifecycle.is_draining:
        try:
            job, epochs = await asyncio.to_thread(store.watch_job, job_id, after)
        except StateUnavailableError as error:
            logger.error("the events of job %d are cut off: %s", job_id, error)
            return
        for epoch in epochs:
            after = epoch.epoch
            yield sse_event("epoch", epoch, str(after))
        if job.state.has_ended:
            yield sse_event(END, job, END)
            return
        looks = job.state, job.phase, job.epoch
        if looks != shown or time.monotonic() - shown_at >= HEARTBEAT_S:
            shown, shown_at = looks, time.monotonic()
            yield sse_event("progress", job)
        await asyncio.sleep(LOOK_S)


def sse_event(event: str, data: BaseModel, event_id: str | None = None) -> bytes:
    """A server-sent event with a model as JSON."""
    return format_sse_event(event=event, data_str=data.model_dump_json(), id=event_id)
