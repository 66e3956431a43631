"""`POST /transform` without the detours, for the request that everybody sends.

FastAPI takes two thirds of the time that an answer from the cache needs: middleware, routing,
dependencies, checking the response against its own schema. A small JSON object with nothing unusual
about it needs none of that. Everything else goes to the route itself, in `app.routes.transform`,
which says the same to the same request; `tests/app/test_fast_path.py` compares the two.
"""

from collections.abc import Awaitable, Callable
from json import JSONDecodeError

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.json import loads
from app.inference.answers import Responder, WaitForDisconnect
from app.routes.schemas import TransformRequest, TransformResponse
from training.errors import MennyError

OnError = Callable[[Request, Exception], Awaitable[Response]]


class FastPath:
    """ASGI middleware, the innermost: answers plain queries, hands on whatever is unusual.

    Args:
        inner: What answers the rest.
        app: The application whose `state.responder` answers; `inner` without its middleware.
        route: The route whose place this takes.
        on_error: What answers for one of our own errors.
        on_bug: What answers for any other; the error is raised all the same.
    """

    def __init__(
        self, inner: ASGIApp, app: FastAPI, route: BaseRoute, on_error: OnError, on_bug: OnError
    ) -> None:
        self._inner = inner
        self._app = app
        self._route = route
        self._on_error = on_error
        self._on_bug = on_bug

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        if not _may_be_plain(scope):
            await self._inner(scope, receive, send)
            return
        message = await receive()
        body = _parse(message)
        if body is None:
            await self._inner(scope, _again(message, receive), send)
            return
        scope["route"] = self._route
        responder: Responder = self._app.state.responder
        try:
            (answer,) = await responder.respond([body.to_prompt()], _disconnect_of(receive))
        except Exception as error:
            scope["app"] = self._app
            is_ours = isinstance(error, MennyError)
            answer_for = self._on_error if is_ours else self._on_bug
            await (await answer_for(Request(scope), error))(scope, receive, send)
            if is_ours:
                return
            raise
        content = TransformResponse.of(body.query, answer).model_dump_json(exclude_none=True)
        await _send_json(send, content.encode())


def _may_be_plain(scope: Scope) -> bool:
    if not (
        scope["type"] == "http"
        and scope["path"] == "/transform"
        and scope["method"] == "POST"
        and not scope["query_string"]
    ):
        return False
    headers = dict(scope["headers"])
    # A body in chunks may turn out too large while it is received.
    return headers.get(b"content-type") == b"application/json" and (
        b"transfer-encoding" not in headers
    )


def _parse(message: Message) -> TransformRequest | None:
    """The request in a message that has the whole of a good one."""
    if message["type"] != "http.request" or message.get("more_body"):
        return None
    try:
        return TransformRequest.model_validate(loads(message["body"]))
    except (JSONDecodeError, ValidationError):
        return None


def _again(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives a message once more before those to come."""
    messages = [message]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def _disconnect_of(receive: Receive) -> WaitForDisconnect:
    async def wait() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    return wait


async def _send_json(send: Send, content: bytes) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-length", b"%d" % len(content)),
                (b"content-type", b"application/json"),
            ],
        }
    )
    await send({"type": "http.response.body", "body": content})
