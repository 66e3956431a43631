"""Errors into HTTP, all of them here: RFC 9457 problem documents."""

import logging
import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
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
)
from app.http.observability import request_id
from app.routes.schemas import FieldError, Problem
from training.errors import MennyError, VocabularyError, WeightsError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

_STATUS_OF: dict[type[MennyError], HTTPStatus] = {
    VocabularyError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ModelUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    OverloadedError: HTTPStatus.SERVICE_UNAVAILABLE,
    DeadlineError: HTTPStatus.GATEWAY_TIMEOUT,
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
) -> Response:
    """An error response."""
    document = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=errors,
        request_id=request_id.get(),
    )
    return Response(
        document.model_dump_json(exclude_none=True),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def problem_responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """The `responses` argument of a route: how OpenAPI documents these errors."""
    return {
        status.value: {
            "description": _MEANING[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


_MEANING = {
    HTTPStatus.BAD_REQUEST: "The body is not JSON, or the request is not HTTP with one Host",
    HTTPStatus.FORBIDDEN: "A page of another origin may change nothing here",
    HTTPStatus.REQUEST_TIMEOUT: "The request did not arrive in time",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not sent as application/json, as it is",
    HTTPStatus.MISDIRECTED_REQUEST: "The Host header names another host",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The headers are too large",
    HTTPStatus.UNAUTHORIZED: "The admin token is missing or wrong",
    HTTPStatus.NOT_FOUND: "There is no such job or version",
    HTTPStatus.CONFLICT: "What is asked for doesn't go with how things are",
    HTTPStatus.UNPROCESSABLE_ENTITY: "The request is not what is asked for",
    HTTPStatus.TOO_MANY_REQUESTS: "There were too many wrong admin tokens",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The service has failed; its log says more",
    HTTPStatus.SERVICE_UNAVAILABLE: "There is no model that could answer, no place in the "
    "queue, no database or no connection left; with Retry-After it is worth trying again",
    HTTPStatus.GATEWAY_TIMEOUT: "There was no answer in time",
}

BODY_PROBLEMS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
"""What can be wrong with any JSON body."""

REQUEST_PROBLEMS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.MISDIRECTED_REQUEST,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""What can be wrong with any request, or with the service."""


def install_problem_handlers(app: FastAPI) -> None:
    """Have every error of `app` answered with a problem document, and documented as such."""
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(MennyError, on_menny_error)
    app.add_exception_handler(Exception, on_bug)

    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            problem_schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= problem_schema.pop("$defs") | {"Problem": problem_schema}
            _document_request_problems(document)
            schemas.pop("HTTPValidationError", None)  # FastAPI's own, which is never sent here
            schemas.pop("ValidationError", None)
        assert app.openapi_schema is not None  # noqa: S101 - generate() has just set it
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document_request_problems(document: dict[str, Any]) -> None:
    for operations in document["paths"].values():
        for method, operation in operations.items():
            statuses = REQUEST_PROBLEMS + ((HTTPStatus.FORBIDDEN,) if method != "get" else ())
            for status, response in problem_responses(*statuses).items():
                known = operation["responses"].setdefault(str(status), response)
                known["content"] |= response["content"]


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    first, *_ = found = error.errors()
    if first["type"] == "json_invalid":
        position = first["loc"][-1]
        where = f" at character {position}" if position >= 0 else ""
        return problem(
            HTTPStatus.BAD_REQUEST, f"the body is not JSON: {first['ctx']['error']}{where}"
        )
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = content_type == "application/json" or content_type.endswith("+json")
    if first["loc"] == ("body",) and first["type"] != "missing" and not is_json:
        return problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the body is sent as {content_type or 'nothing in particular'}; send JSON, with the "
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


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
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


async def on_menny_error(request: Request, error: Exception) -> Response:
    """The answer to one of our own errors."""
    status = next(status for kind, status in _STATUS_OF.items() if isinstance(error, kind))
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


async def on_bug(request: Request, error: Exception) -> Response:
    """The answer to an error that nobody has thought of."""
    # uvicorn logs the traceback, and closes the connection; the client learns nothing of it.
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "something went wrong in the service",
        headers={"Connection": "close"},
    )
