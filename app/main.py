"""The application: load the model once, serve, drain."""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from app.admin_token import AdminGuard, read_or_create_token
from app.errors import StateUnavailableError
from app.http.api import Api
from app.http.binding import own_names
from app.http.disclosure import redactor
from app.http.edge import Gate
from app.http.fast_path import FastPath
from app.http.headers import SecurityHeaders
from app.http.hosts import HostRule
from app.http.observability import RequestObserver
from app.http.problems import on_bug, on_menny_error
from app.http.server import Lifecycle
from app.inference.answers import Responder
from app.inference.batcher import Batcher
from app.inference.engine import Engine
from app.jobs.bell import Bell
from app.jobs.retraining import Retraining
from app.metrics import Metrics
from app.routes import docs, explain, health, models, playground, train, transform
from app.routes import metrics as metrics_route
from app.settings import Settings

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Menny is a tiny Transformer with attitude: you say up to five letters, she answers with as many
letters, every one a vowel of the opposite case (`MeM` -> `uIu`).

Every error is an [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem document that says
what is wrong and what would be right.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI application; its lifespan loads the model and lets it go."""
    settings = settings or Settings()
    metrics = Metrics()
    lifecycle = Lifecycle()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.admin = await asyncio.to_thread(_admin_guard, settings)
        app.state.retraining = retraining = Retraining(settings, metrics.registry)
        await asyncio.to_thread(retraining.open)
        batcher = Batcher(settings.max_batch, settings.max_queue, settings.batch_wait_ms / 1000)
        metrics.watch_queue(lambda: len(batcher))
        engine = Engine(batcher, metrics, settings.device)
        with engine:
            await asyncio.to_thread(engine.load, retraining.weights)
            app.state.engine = engine
            app.state.responder = Responder(
                engine,
                batcher,
                metrics,
                timeout_s=settings.request_timeout_s,
                cache_size=settings.cache_size,
            )
            app.state.bell = bell = Bell()
            await asyncio.to_thread(retraining.start, engine.swap, bell.ring)
            app.state.started = time.monotonic()
            try:
                with _on_hangup(lambda: engine.load(retraining.weights)):
                    yield
            finally:
                await asyncio.to_thread(retraining.stop)

    app = Api(
        title="Menny",
        version=version("menny"),
        summary="Up to five letters in, as many vowels of the opposite case out.",
        description=DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lifespan,
    )
    app.state.metrics = metrics
    app.state.lifecycle = lifecycle
    app.state.redact = redactor(settings)
    for module in (transform, explain, train, models, health, metrics_route, docs, playground):
        app.include_router(module.router)
    app.mount("/static-offline-docs", docs.SWAGGER_UI)
    origins = settings.cors_origins
    inner: ASGIApp = app.innermost
    if origins:  # CORS adds its headers further inside
        inner = CORSMiddleware(
            inner,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "X-Request-ID"],
            expose_headers=["Location", "Retry-After", "WWW-Authenticate", "X-Request-ID"],
        )
    else:
        inner = FastPath(inner, app, transform.route, on_menny_error, on_bug)
    gate = Gate(inner, HostRule(own_names(settings)), origins, settings.max_body_bytes)
    app.outermost = RequestObserver(
        SecurityHeaders(gate), metrics, lifecycle, access_log=settings.access_log
    )
    return app


@contextmanager
def _on_hangup(reload: Callable[[], None]) -> Iterator[None]:
    """Call `reload` on a thread of its own at each SIGHUP, if signals are ours to handle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, reload))
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _admin_guard(settings: Settings) -> AdminGuard | StateUnavailableError:
    """The guard of the admin routes, or the reason why nobody can pass it."""
    if settings.admin_token is not None:
        return AdminGuard(settings.admin_token.get_secret_value())
    try:
        return AdminGuard(read_or_create_token(settings.state_dir))
    except StateUnavailableError as error:
        logger.error("nobody is let in to /train and /models: %s", error)
        return error
