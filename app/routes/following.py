"""What replicas read of a service: which version answers (`GET /models/active`), and its files."""

import hashlib
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Response

from app.http.api import problem_responses
from app.jobs.job import ActiveVersion
from app.jobs.parts import Part
from app.routes.dependencies import ReadersOnly, VersionsDep
from app.routes.models import VersionName

router = APIRouter(
    prefix="/models",
    tags=["following"],
    dependencies=[ReadersOnly],
    responses=problem_responses(
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.CONFLICT,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
)

_FILE = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@router.get(
    "/active",
    summary="Which version answers?",
    response_model=ActiveVersion,
    responses={HTTPStatus.NOT_MODIFIED: {"description": "It is as the ETag says"}},
)
def active(
    versions: VersionsDep, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """Its name, its generation and the SHA-256 of its files; for replicas, which ask every second.

    With the ETag of an earlier answer in If-None-Match the answer is 304 if nothing has changed.
    """
    content = versions.announce().model_dump_json().encode()
    headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}
    if if_none_match == headers["ETag"]:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type="application/json", headers=headers)


@router.delete("/active", include_in_schema=False)
def delete_active() -> None:
    """No version has this name: 405, and not what DELETE /models/{version} says of it."""
    raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED)


def _route(part: Part, what: str) -> None:
    @router.get(
        f"/{{version}}/{part}",
        summary=f"Fetch {what} of a version",
        name=part,
        response_class=Response,
        responses={HTTPStatus.OK: {"content": _FILE}} | problem_responses(HTTPStatus.NOT_FOUND),
    )
    def read(version: VersionName, versions: VersionsDep) -> Response:
        """The file, as it is."""
        return Response(versions.read(version, part), media_type="application/octet-stream")


_route("weights", "the weights")
_route("card", "the model card")
_route("answers", "the answer table")
