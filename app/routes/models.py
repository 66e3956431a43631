"""`/models`: the versions there are, and which one answers."""

import re
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from app.http.api import problem_responses
from app.jobs.job import Version
from app.routes.dependencies import AdminOnly, VersionsDep
from app.routes.schemas import VersionList

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
    responses=problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def activate(version: VersionName, versions: VersionsDep) -> Version:
    """Forward or back, without a restart: once this has been answered, that version answers.

    No request fails meanwhile. If the version's file is damaged, all stays as it is.
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


@router.delete(
    "/{version}",
    summary="Delete a version",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def delete(version: VersionName, versions: VersionsDep) -> None:
    """Neither the active one nor the shipped one can be deleted."""
    versions.delete(version)
