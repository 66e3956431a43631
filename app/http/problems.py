"""Errors into HTTP, all of them here: RFC 9457 problem documents."""

import logging
import re
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from app.errors import (
    ConflictError,
    DeadlineError,
    DisconnectedError,
    ModelUnavailableError,
    NotFoundError,
    OverloadedError,
    ServiceError,
    StateUnavailableError,
    TooManyFailuresError,
    UnauthorizedError,
    WorkerError,
)
from app.http.json import is_json
from app.logs import request_id
from training.errors import MennyError, VocabularyError, WeightsError

logger = logging.getLogger(__name__)


class FieldError(BaseModel):
    """What is wrong with one part of the request."""

    pointer: str = Field(description="JSON Pointer to the part", examples=["#/query"])
    detail: str = Field(description="what is wrong with it, and what would be right")


class Problem(BaseModel):
    """An error, as RFC 9457 has it (`application/problem+json`)."""

    type: str = Field("about:blank", description="always `about:blank`: the status says it all")
    title: str = Field(description="the HTTP status in words", examples=["Unprocessable Content"])
    status: int = Field(description="the HTTP status", examples=[422])
    detail: str = Field(description="what is wrong, and what would be right")
    errors: list[FieldError] | None = Field(None, description="what is wrong where, if known")
    request_id: str | None = Field(None, description="names this request in the service's log")


MEDIA_TYPE = "application/problem+json"

_STATUS_OF: dict[type[MennyError], HTTPStatus] = {
    VocabularyError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ModelUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    OverloadedError: HTTPStatus.SERVICE_UNAVAILABLE,
    DeadlineError: HTTPStatus.GATEWAY_TIMEOUT,
    WorkerError: HTTPStatus.GATEWAY_TIMEOUT,
    DisconnectedError: HTTPStatus.SERVICE_UNAVAILABLE,  # nobody is there to see it
    StateUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    TooManyFailuresError: HTTPStatus.TOO_MANY_REQUESTS,
    WeightsError: HTTPStatus.CONFLICT,  # of a version that was to be activated
    ServiceError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

_REJECTED_FOR: dict[type[Exception], str] = {
    OverloadedError: "overloaded",
    DeadlineError: "deadline",
    DisconnectedError: "disconnected",
}


def problem(
    status: int,
    detail: str,
    *,
    errors: list[FieldError] | None = None,
    headers: dict[str, str] | None = None,
    name: str | None = None,
) -> Response:
    """An error response; `name` is the request's id, if it is not the one being served."""
    document = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=errors,
        request_id=name or request_id.get(),
    )
    return Response(
        document.model_dump_json(exclude_none=True),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def answer_to(request: Request, error: Exception) -> Response:
    """The answer to any error at all; of one that nobody has thought of, the client learns nothing.

    Such a one is to be raised all the same (see `is_bug`): uvicorn logs it with its traceback.
    """
    match error:
        case RequestValidationError():
            return _on_invalid_request(request, error)
        case HTTPException():
            return _on_http_exception(request, error)
        case MennyError():
            return _on_menny_error(request, error)
        case _:
            return problem(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "something went wrong in the service",
                headers={"Connection": "close"},
            )


def is_bug(error: Exception) -> bool:
    """Whether an error is none that is raised on purpose."""
    return not isinstance(error, RequestValidationError | HTTPException | MennyError)


def _on_invalid_request(request: Request, error: RequestValidationError) -> Response:
    first, *_ = found = error.errors()
    if first["type"] == "json_invalid":
        position = first["loc"][-1]
        where = f" at character {position}" if position >= 0 else ""
        return problem(
            HTTPStatus.BAD_REQUEST, f"the body is not JSON: {first['ctx']['error']}{where}"
        )
    content_type = request.headers.get("content-type", "")
    if first["loc"] == ("body",) and first["type"] != "missing" and not is_json(content_type):
        media_type = content_type.partition(";")[0].strip().lower()
        return problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the body is sent as {media_type or 'nothing in particular'}; send JSON, with the "
            "header Content-Type: application/json",
            headers={"Accept": "application/json"},
        )
    errors = [
        FieldError(pointer=_pointer(part["loc"]), detail=_detail(part)) for part in found[:20]
    ]
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "; ".join(error.detail for error in errors[:3]),
        errors=errors,
    )


def _pointer(location: tuple[int | str, ...]) -> str:
    parts = (str(part)[:100].replace("~", "~0").replace("/", "~1") for part in location[1:])
    pointer = "/".join(["#", *parts])
    return pointer.encode(errors="replace").decode()  # a lone surrogate can't be sent


def _detail(error: dict[str, Any]) -> str:
    name = str(error["loc"][-1])[:100]
    match error["type"]:
        case "missing" if error["loc"] == ("body",):
            return "there is no body; send a JSON object"
        case "missing":
            return f"field {name!r} is missing"
        case "extra_forbidden":
            return f"there is no field {name!r}"
        case "model_attributes_type" | "model_type" | "dict_type":
            return "the body is JSON, but not an object"
        case "query" | "config":
            return str(error["msg"])  # in Menny's own words
        case _:
            message = str(error["msg"])
            return f"{name}: {message[:1].lower()}{message[1:]}"


def _on_http_exception(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            detail = "there is nothing here; /docs shows what there is"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = _allowed_at(request) or (error.headers or {}).get("Allow", "another method")
            headers["Allow"] = allowed
            detail = f"{request.method} does nothing here; use {allowed}"
        case _:
            detail = str(error.detail)
    return problem(error.status_code, detail, headers=headers)


def _allowed_at(request: Request) -> str:
    """Every method of a path; Starlette names those of one route, and each route has one."""
    for template, operations in request.app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), request.url.path):
            return ", ".join(sorted(method.upper() for method in operations))
    return ""


def _on_menny_error(request: Request, error: MennyError) -> Response:
    status = next(
        (status for kind, status in _STATUS_OF.items() if isinstance(error, kind)),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )
    if reason := _REJECTED_FOR.get(type(error)):
        request.app.state.metrics.rejected.labels(reason).inc()
    detail = request.app.state.redact(str(error))
    logger.debug("%s", error)  # with its paths, which are nothing for a client
    return problem(status, detail, headers=_headers_of(error))


def _headers_of(error: Exception) -> dict[str, str] | None:
    """What RFC 9110 wants beside the status."""
    match error:
        case OverloadedError():
            return {"Retry-After": "1"}
        case TooManyFailuresError():
            return {"Retry-After": str(error.retry_after_s)}
        case UnauthorizedError():
            return {"WWW-Authenticate": 'Bearer realm="menny"'}
        case _:
            return None
