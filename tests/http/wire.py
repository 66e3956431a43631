"""The wire alone: our HTTP server on a socket, in this process, with no model behind it.

What is behind the wire answers at once, from no model: a test of limits needs none, and starts in
milliseconds. `tests/service.py` has the whole service in a process of its own.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI

from app.http.server import Server, build_server
from app.inference.decoding import Prompt
from app.inference.model import Answer, Served
from app.main import create_app
from app.settings import Settings
from tests.in_process import InProcess
from tests.waiting import eventually
from training.proof.answers import NUM_MULTISETS, AnswerTable

VERSION = "0123456789ab"
ZEROS = np.zeros(NUM_MULTISETS, dtype=np.uint16)


class StubResponder:
    """Answers every letter with one vowel, after `delay_s`."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.has_table = True
        self.error: Exception | None = None

    def look_up(self, queries: Sequence[str]) -> list[tuple[str, str]] | None:
        """As `app.inference.answers.Responder`."""
        if self.delay_s or self.error or not self.has_table:
            return None
        return [(answer_to(query), VERSION) for query in queries]

    async def respond(self, prompts: Sequence[Prompt], _: object) -> list[Answer]:
        """As `app.inference.answers.Responder`."""
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.error:
            raise self.error
        return [Answer(answer_to(prompt.query), VERSION) for prompt in prompts]


def answer_to(query: str) -> str:
    """As the rule has it."""
    return "".join("U" if letter.islower() else "u" for letter in query)


class StubEngine:
    """Has a model, as far as /health looks."""

    served = Served(VERSION, None, AnswerTable(ZEROS, ""), "as it is")
    state = "ok"
    can_answer = True
    fault = None
    failing_s = None


class StubRetraining:
    """Has nothing to say, and proves nothing."""

    note = None

    def proof_of(self, *_: object) -> None:
        """As `app.jobs.retraining.Retraining`."""


def stubbed_app(settings: Settings | None = None) -> FastAPI:
    """The application as `menny serve` builds it, with no model behind it."""
    app = create_app(settings or Settings())
    app.state.responder = StubResponder()
    app.state.engine = StubEngine()
    app.state.retraining = StubRetraining()
    app.state.started = 0.0
    return app


@contextmanager
def stubbed(**settings: Any) -> Iterator[InProcess]:
    """The same without a socket: for what is decided by a request's headers and body."""
    with start_blocking_portal() as portal:
        yield InProcess(stubbed_app(Settings(**settings)), portal)


class Wire:
    """A server that runs in a thread; `log` has what was logged since it started."""

    def __init__(self, url: str, app: FastAPI, server: Server, records: list[logging.LogRecord]):
        self.url = url
        self.app = app
        self.server = server
        self.client = httpx.Client(base_url=url, timeout=30, trust_env=False)
        self._records = records

    @property
    def log(self) -> str:
        """Every line at WARNING or above, with its traceback."""
        formatter = logging.Formatter()
        return "\n".join(map(formatter.format, self._records))

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self.server.server_state.connections)


class _Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def serving(address: str = "127.0.0.1", **settings: object) -> Iterator[Wire]:
    """The wire with these settings, until the block ends."""
    chosen = Settings(**{"shutdown_timeout_s": 1} | settings)
    app = stubbed_app(chosen)
    server = build_server(app, chosen, app.state.lifecycle, lifespan="off")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family, backlog=2048)
    recorder = _Recorder()
    logging.getLogger().addHandler(recorder)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{listener.getsockname()[1]}"
    wire = Wire(url, app, server, recorder.records)
    try:
        eventually(lambda: server.started)
        yield wire
    finally:
        wire.client.close()
        server.should_exit = True
        thread.join(60)
        logging.getLogger().removeHandler(recorder)
        listener.close()
