"""Routes with a JSON body, which is read strictly (`app.http.json`)."""

from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from json import JSONDecodeError
from typing import Any, get_type_hints

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import DisconnectedError
from app.http.headers import JSON
from app.http.json import is_json, loads
from app.http.problems import answer_to, is_bug

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """A route of FastAPI's whose body is read strictly."""

    def get_route_handler(self) -> Handler:
        """FastAPI's, but for how it reads JSON."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly if self.body_field is not None else handle


class _StrictRequest(Request):
    async def json(self) -> Any:
        return loads(await self.body())


class DirectRoute(APIRoute):
    """A route from bytes to bytes: one validation, one call, and nothing of FastAPI's between.

    FastAPI takes two thirds of the time that a remembered answer needs: middleware, routing,
    dependencies, checking the answer against its own schema. The endpoint is an
    `async def endpoint(body: Model, request: Request) -> TypedDict`, whose two types are what
    OpenAPI shows, or it returns `bytes` that are JSON of its `response_model`. Nothing that is
    valid for the body may have a colon but those behind its fields' names.
    """

    def get_route_handler(self) -> Handler:
        """What answers; FastAPI asks for it when it makes the route."""
        models = get_type_hints(self.endpoint)
        self._body: TypeAdapter[BaseModel] = TypeAdapter(models["body"])
        self._answer: TypeAdapter[Any] = TypeAdapter(models["return"])
        return self.respond

    async def respond(self, request: Request) -> Response:
        """Answer a request. Raises `RequestValidationError`, and whatever the endpoint does."""
        content_type = request.headers.get("content-type", "")
        body = self.parse(content_type, await _body_of(request))
        answer = await self.endpoint(body, request)
        return _JsonResponse(answer if type(answer) is bytes else self._answer.dump_json(answer))

    def parse(self, content_type: str, content: bytes) -> BaseModel:
        """The endpoint's `body`; raises `RequestValidationError`."""
        if not content:
            raise _invalid("missing")
        if not is_json(content_type):
            raise _invalid("model_type")
        try:
            body = self._body.validate_json(content)
            # Pydantic takes the last of two fields of the same name.
            if content.count(b":") == len(body.model_fields_set):
                return body
        except ValidationError:
            pass  # what is wrong is said by a reader that is strict, and slower
        try:
            return self._body.validate_python(loads(content))
        except JSONDecodeError as error:
            raise _invalid("json_invalid", error.pos, ctx={"error": error.msg}) from None
        except ValidationError as error:
            raise RequestValidationError(
                [part | {"loc": ("body", *part["loc"])} for part in error.errors()]
            ) from None


class _JsonResponse(Response):
    """JSON that is bytes already, with the headers that the edge knows as plain."""

    status_code = HTTPStatus.OK.value
    background = None

    def __init__(self, content: bytes) -> None:
        self.body = content
        self.raw_headers = [JSON, (b"content-length", b"%d" % len(content))]


async def _body_of(request: Request) -> bytes:
    """All of a request's body. Raises `DisconnectedError` if the client goes before its end."""
    parts = []
    while (message := await request.receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
    raise DisconnectedError("the caller has gone")


def _invalid(kind: str, *location: int, **more: Any) -> RequestValidationError:
    """As FastAPI says it of a body."""
    return RequestValidationError([{"type": kind, "loc": ("body", *location), "msg": kind, **more}])


class Shortcut:
    """ASGI: asks the `DirectRoute`s of `routes` themselves, and `app` for all others."""

    def __init__(self, app: ASGIApp, routes: Mapping[tuple[str, str], DirectRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        route = scope["type"] == "http" and self._routes.get((scope["method"], scope["path"]))
        if not route:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive)
        try:
            response = await route.respond(request)
        except Exception as error:
            await answer_to(request, error)(scope, receive, send)
            if is_bug(error):
                raise
        else:
            await response(scope, receive, send)
