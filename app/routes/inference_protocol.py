"""The Open Inference Protocol, version 2: what clients of KServe, Triton and MLServer speak.

The same answers as `/transform`'s, by the same way; `app.routes.tensors` has what goes in and out.
"""

import json
from collections.abc import Callable
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ModelUnavailableError, NotFoundError
from app.http.bodies import Handler
from app.http.json import loads
from app.http.problems import MEDIA_TYPE as PROBLEM
from app.inference.model import Answer, Served
from app.routes.dependencies import EngineDep, LifecycleDep
from app.routes.tensors import InferRequest, InferResponse, encode
from app.routes.transform import disconnect_of, responder_of
from training.vocabulary import MAX_QUERY_LENGTH, VOCABULARY_SIZE

PREFIX = "/v2"

_HEAD_LENGTH = "Inference-Header-Content-Length"
"""The header that says how long the JSON is, if there are bytes behind it."""


class ProtocolError(BaseModel):
    """What is wrong, and what would be right."""

    error: str


class Server(BaseModel):
    """The server, as the protocol describes it."""

    name: Literal["menny"] = "menny"
    version: str
    extensions: list[str] = ["binary_tensor_data"]


class ServerLive(BaseModel):
    """The process is there."""

    live: Literal[True] = True


class ServerReady(BaseModel):
    """Whether she can answer."""

    ready: bool


class ModelReady(BaseModel):
    """The model can answer."""

    name: Literal["menny"] = "menny"
    ready: Literal[True] = True


class Tensor(BaseModel):
    """A tensor's name, type and shape; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class Model(BaseModel):
    """The model, as the protocol describes it."""

    name: Literal["menny"] = "menny"
    versions: list[str]
    platform: Literal["mlx"] = "mlx"
    inputs: list[Tensor] = [Tensor(name="query", datatype="BYTES", shape=[-1])]
    outputs: list[Tensor] = [
        Tensor(name="response", datatype="BYTES", shape=[-1]),
        Tensor(
            name="probabilities", datatype="FP32", shape=[-1, MAX_QUERY_LENGTH, VOCABULARY_SIZE]
        ),
    ]


router = APIRouter(
    prefix=PREFIX,
    tags=["open inference protocol"],
    responses={"default": {"model": ProtocolError, "description": "Any error, with its status"}},
)


async def _served(request: Request, engine: EngineDep) -> Served:
    """What answers; raises `NotFoundError` if the path names another version."""
    served = engine.served
    if served is None:
        raise ModelUnavailableError(f"there is no model to answer: {engine.fault}")
    wanted = request.path_params.get("version", served.version)
    if wanted != served.version:
        raise NotFoundError(
            f"version {wanted} is not the one that answers: that is {served.version}"
        )
    return served


ServedDep = Annotated[Served, Depends(_served)]

_VERSION_PARAMETER = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "the version that is to answer: another one than the active one is a 404",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{12}$"},
}


def _of_the_model(
    method: str, path: str, routes: APIRouter = router, **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Route a path of the model's, with its version and without."""

    def route(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        extra: dict[str, Any] = options.pop("openapi_extra", {})
        for place, more in (
            ("/models/menny", {}),
            ("/models/menny/versions/{version}", {"parameters": [_VERSION_PARAMETER]}),
        ):
            routes.add_api_route(
                place + path, endpoint, methods=[method], openapi_extra=extra | more, **options
            )
        return endpoint

    return route


@router.get("", summary="What server is this?")
async def server() -> Server:
    """Its name and the extensions of the protocol that it knows."""
    return Server(version=version("menny"))


@router.get("/health/live", summary="Is the process there?")
async def live() -> ServerLive:
    """200 as long as the process can answer at all."""
    return ServerLive()


@router.get("/health/ready", summary="Can she answer?")
async def ready(response: Response, engine: EngineDep, lifecycle: LifecycleDep) -> ServerReady:
    """200 when she can answer; 503 when she can't or is about to stop. `/health` says why."""
    can_answer = not lifecycle.is_draining and engine.can_answer
    if not can_answer:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return ServerReady(ready=can_answer)


@_of_the_model("GET", "/ready")
async def model_ready(_: ServedDep) -> ModelReady:
    """Whether the model can answer: 503 without one, 404 for a version that is not the active."""
    return ModelReady()


@_of_the_model("GET", "")
async def model(served: ServedDep) -> Model:
    """What goes into the model and comes out of it, and the version that answers."""
    return Model(versions=[served.version])


class _InferRoute(APIRoute):
    """Reads a body that may have bytes behind its JSON, and answers in the same way.

    The endpoint is given what was asked for, read and checked, and returns the answers to it.
    """

    def get_route_handler(self) -> Handler:
        """What answers; FastAPI asks for it when it makes the route."""

        async def respond(request: Request) -> Response:
            body = _parse(await request.body(), request.headers.get(_HEAD_LENGTH))
            head, behind = encode(body, await self.endpoint(body, request))
            if not behind:
                return Response(head, media_type="application/json")
            return Response(
                head + behind,
                media_type="application/octet-stream",
                headers={_HEAD_LENGTH: str(len(head))},
            )

        return respond


_binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_inference = APIRouter(route_class=_InferRoute)


@_of_the_model(
    "POST",
    "/infer",
    _inference,
    response_model=InferResponse,
    openapi_extra={"requestBody": {"content": _binary}},
    responses={HTTPStatus.OK: {"content": _binary}},
)
async def infer(body: InferRequest, request: Request) -> list[Answer]:
    """Answer up to 1,024 queries: all of them, or none if one is not right.

    A tensor may be sent as bytes behind the JSON (`binary_data_size`); then the header
    `Inference-Header-Content-Length` says how long the JSON is. So may the answer.
    """
    while True:
        served = await _served(request, request.app.state.engine)
        answers = await responder_of(request).respond(body.to_prompts(), disconnect_of(request))
        if {answer.model_version for answer in answers} == {served.version}:
            return answers  # else a new version came in between: all are to be of one


router.include_router(_inference)


def _parse(content: bytes, head_length: str | None) -> InferRequest:
    """What is asked for, whether or not it comes with bytes behind the JSON."""
    length = len(content)
    if head_length is not None:
        if not (head_length.isdecimal() and int(head_length) <= length):
            raise HTTPException(
                HTTPStatus.BAD_REQUEST,
                f"{_HEAD_LENGTH} is not the length of the JSON in a body of {length:,} bytes",
            )
        length = int(head_length)
    try:
        document = loads(content[:length])
        if not isinstance(document, dict):
            raise HTTPException(HTTPStatus.BAD_REQUEST, "the body is JSON, but not an object")
        body = InferRequest.model_validate(document)
    except json.JSONDecodeError as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from None
    except ValidationError as error:
        raise RequestValidationError(
            [part | {"loc": ("body", *part["loc"])} for part in error.errors()]
        ) from None
    body.inputs[0].read(content[length:])
    return body


class ProtocolErrors:
    """ASGI: problem documents under `/v2` become the protocol's errors, whoever made them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        is_ours = scope["type"] == "http" and (scope["path"] + "/").startswith(f"{PREFIX}/")
        await self._app(scope, receive, _translated(send) if is_ours else send)


def _translated(send: Send) -> Send:
    start: Message | None = None

    async def translate(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            if headers.get("content-type") == PROBLEM:
                start = message
                return
        elif start is not None:  # a problem document's body comes in one piece
            error = json.loads(message["body"])["detail"]
            content = ProtocolError(error=error).model_dump_json().encode()
            headers = MutableHeaders(raw=start["headers"])
            headers["content-type"] = "application/json"
            headers["content-length"] = str(len(content))
            if start["status"] == HTTPStatus.UNPROCESSABLE_ENTITY:
                start["status"] = HTTPStatus.BAD_REQUEST.value
            await send(start)
            start, message = None, {**message, "body": content}
        await send(message)

    return translate
