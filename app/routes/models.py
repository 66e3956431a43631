"""`/models`: the versions there are, and which one answers."""

import asyncio
import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.sse import EventSourceResponse
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from app.errors import NotFoundError, StateUnavailableError
from app.http.api import problem_responses
from app.http.lifecycle import Lifecycle
from app.jobs.job import Version
from app.jobs.versions import Versions
from app.routes.dependencies import AdminOnly, LifecycleDep, VersionsDep
from app.routes.schemas import VersionList
from app.routes.train import EVENTS, sse_event

router = APIRouter(
    prefix="/models",
    tags=["retraining"],
    dependencies=[AdminOnly],
    responses=problem_responses(
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
)

LOOK_S = 1.0
"""How often a version that is being proven is looked at for somebody who watches."""

_VERSION = "^([0-9a-f]{12}|shipped)$"


def _check_name(name: str) -> str:
    if re.match(_VERSION, name) is None:
        raise PydanticCustomError(
            "version",
            "a version is named by its 12 digits (0-9, a-f), or as `shipped`; GET /models lists "
            "those there are",
        )
    return name


VersionName = Annotated[
    str,
    Path(
        description="the version's 12 digits, or `shipped` for the one that came with the service",
        json_schema_extra={"pattern": _VERSION},
    ),
    AfterValidator(_check_name),
]


@router.get("", summary="List the versions")
def list_versions(versions: VersionsDep) -> VersionList:
    """The newest first, the shipped one last."""
    return VersionList(models=versions.list_all())


@router.get(
    "/{version}",
    summary="Look at a version",
    responses=problem_responses(HTTPStatus.NOT_FOUND),
)
def show_version(version: VersionName, versions: VersionsDep) -> Version:
    """Its model card: where it comes from and what was measured of it."""
    return versions.get(version)


@router.post(
    "/{version}/activate",
    summary="Serve a version",
    responses=problem_responses(
        HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.GATEWAY_TIMEOUT
    ),
)
def activate(version: VersionName, versions: VersionsDep) -> Version:
    """Forward or back, without a restart: once this has been answered, that version answers.

    No request fails meanwhile. If the version's file is damaged, all stays as it is; and so it does
    if one of several workers is not ready in time, which 504 names.
    """
    return versions.activate(version)


@router.post(
    "/{version}/prove",
    summary="Prove a version",
    status_code=HTTPStatus.ACCEPTED,
    responses=problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def prove(version: VersionName, versions: VersionsDep) -> Version:
    """Have it asked every query that exists, in the background, until one is answered wrongly.

    One version at a time, whenever no job runs; minutes on one core. Which version answers stays
    as it is, whatever the verdict.
    """
    return versions.prove(version)


@router.get(
    "/{version}/events",
    summary="Watch a proof",
    response_class=Response,
    responses=EVENTS | problem_responses(HTTPStatus.NOT_FOUND),
)
async def events(version: VersionName, versions: VersionsDep, lifecycle: LifecycleDep) -> Response:
    """Server-sent events: the version as it is each second, `progress` while it is being proven.

    Then `end`, and the stream ends.
    """
    found = await asyncio.to_thread(versions.get, version)
    return EventSourceResponse(
        _stream(lifecycle, versions, found),
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _stream(lifecycle: Lifecycle, versions: Versions, found: Version) -> AsyncIterator[bytes]:
    while not lifecycle.is_draining:
        if found.proving is None or found.proving.fault is not None:
            yield sse_event("end", found)
            return
        yield sse_event("progress", found)
        await asyncio.sleep(LOOK_S)
        try:
            found = await asyncio.to_thread(versions.get, found.version)
        except (NotFoundError, StateUnavailableError):  # deleted meanwhile, or out of reach
            return


@router.delete(
    "/{version}",
    summary="Delete a version",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def delete(version: VersionName, versions: VersionsDep) -> None:
    """Neither the active one nor the shipped one can be deleted."""
    versions.delete(version)
