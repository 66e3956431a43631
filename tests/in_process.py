"""The whole application in this process, without a socket: for the variants of a promise.

What a real server has been asked once (`tests.service`), its variants ask here: it starts in half a
second, with the same model, database and child processes:

    with in_process(access_log=True) as menny:
        assert menny.transform("MeM")["response"] == "uIu"
        assert menny.client.get("/health").status_code == 200
        menny.app.state  # what the lifespan has made
        menny.run(something_async, 1, 2)  # on the application's event loop

Tests that need no settings of their own share the fixture `asked_in_process`, one a session.
An answer comes when it is complete, so a stream of events needs a real server.
"""

import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings


class InProcess:
    """A started application, and a client that any number of threads may use."""

    url = "http://localhost:8000"

    def __init__(self, app: FastAPI, portal: BlockingPortal) -> None:
        self.app = app
        self._portal = portal
        self.client = self.new_client()

    def new_client(self, **options: Any) -> httpx.Client:
        """A client with more `options` of httpx.Client, such as `headers`."""
        transport = _Transport(self.app, self._portal)
        return httpx.Client(transport=transport, base_url=self.url, **options)

    def transform(self, query: str, **fields: object) -> dict[str, object]:
        response = self.client.post("/transform", json={"query": query, **fields})
        assert response.status_code == 200, response.text
        return response.json()

    def wait_for_model(self) -> None:
        """A table answers before the model is there."""
        deadline = time.monotonic() + 60
        while self.app.state.engine.state == "starting" and time.monotonic() < deadline:
            time.sleep(0.005)

    def run(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Call an async function on the application's event loop and wait for its result."""
        return self._portal.call(function, *arguments)


@contextmanager
def in_process(**settings: Any) -> Iterator[InProcess]:
    """`create_app(Settings(**settings))` within its lifespan, on an event loop in a thread.

    The state directory is a fresh one unless `state_dir` is given; nothing is proven by itself.
    """
    with tempfile.TemporaryDirectory(prefix="menny-state-") as own_state:
        app = create_app(Settings(**{"state_dir": own_state, "prove": "never"} | settings))
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(app.router.lifespan_context(app)),
        ):
            menny = InProcess(app, portal)
            menny.wait_for_model()
            yield menny


class _Transport(httpx.BaseTransport):
    """`httpx.ASGITransport` for a client that isn't async."""

    def __init__(self, app: FastAPI, portal: BlockingPortal) -> None:
        self._asgi = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._portal = portal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return self._portal.call(self._ask, request)

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        answer = await self._asgi.handle_async_request(request)
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        body = b"".join([part async for part in answer.stream])
        return httpx.Response(
            answer.status_code, headers=answer.headers, stream=httpx.ByteStream(body)
        )
