"""FastAPI as it is used here: each error is a problem document, and documented as one."""

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.edge import Edge
from app.http.problems import (
    MEDIA_TYPE,
    Problem,
    answer_to,
)
from training.errors import MennyError


class Api(FastAPI):
    """FastAPI, without its own pages, and with `outermost` around all of it.

    What `add_middleware` adds is inside of what answers 500, and would miss that answer.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            exception_handlers=dict.fromkeys(
                (RequestValidationError, HTTPException, MennyError, Exception), _answer_to
            ),
            **options,
        )
        self.innermost: ASGIApp = super().__call__
        """FastAPI itself."""
        self.outermost = self.innermost
        """What is given every request; to be replaced by what is put around `innermost`."""
        self.edge: Edge | None = None
        """What a connection may ask for an answer before it makes a request of ASGI's."""
        self._document: bytes | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        scope["app"] = self
        await self.outermost(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """FastAPI's document, with our problems in it; made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            problem_schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= problem_schema.pop("$defs") | {"Problem": problem_schema}
            for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's, never sent here
                schemas.pop(name, None)
            _document_request_problems(document["paths"].values())
            self.openapi_schema = document
        return self.openapi_schema

    def openapi_json(self) -> bytes:
        """The same as bytes; made once, for that takes some milliseconds."""
        if self._document is None:
            self._document = json.dumps(self.openapi(), ensure_ascii=False).encode()
        return self._document


async def _answer_to(request: Request, error: Exception) -> Response:
    return answer_to(request, error)


def _document_request_problems(paths: Iterable[dict[str, Any]]) -> None:
    for operations in paths:
        for method, operation in operations.items():
            if "default" in operation["responses"]:  # it says itself what all its errors are
                continue
            statuses = REQUEST_PROBLEMS + ((HTTPStatus.FORBIDDEN,) if method != "get" else ())
            for status, response in problem_responses(*statuses).items():
                known = operation["responses"].setdefault(str(status), response)
                known["content"] |= response["content"]


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
