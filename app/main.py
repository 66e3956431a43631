"""The application: load the model once, serve, drain."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from app.errors import StateUnavailableError
from app.inference.engine import Engine
from app.jobs.bell import Bell
from app.jobs.retraining import Retraining
from app.problems import install_problem_handlers
from app.routes import health, models, train, transform
from app.security import AdminGuard, read_or_create_token
from app.settings import Settings

DESCRIPTION = """\
Menny is a tiny Transformer with attitude: you say up to five letters, she answers with as many
letters, every one a vowel of the opposite case (`MeM` -> `uIu`).

Every error is an [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem document that says
what is wrong and what would be right.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI application; its lifespan loads the model and lets it go."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.admin = await asyncio.to_thread(_admin_guard, settings)
        app.state.retraining = retraining = Retraining(settings, app.state.metrics_registry)
        await asyncio.to_thread(retraining.open)
        engine = Engine(retraining.weights, settings.device)
        await asyncio.to_thread(engine.start)
        app.state.engine = engine
        app.state.bell = bell = Bell()
        await asyncio.to_thread(retraining.start, engine.swap, bell.ring)
        app.state.started = time.monotonic()
        yield
        await asyncio.to_thread(retraining.stop)
        await asyncio.to_thread(engine.stop)

    # Swagger UI comes from our own address: /docs works without the internet. ReDoc is left out,
    # for its page asks another host for a picture.
    app = FastAPIOffline(
        title="Menny",
        version=version("menny"),
        summary="Up to five letters in, as many vowels of the opposite case out.",
        description=DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lifespan,
        redoc_url=None,
    )
    app.state.metrics_registry = CollectorRegistry()
    app.state.is_stopping = lambda: False  # the server that runs the application may know better
    app.include_router(transform.router)
    app.include_router(train.router)
    app.include_router(models.router)
    app.include_router(health.router)
    install_problem_handlers(app)

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("docs")

    return app


def _admin_guard(settings: Settings) -> AdminGuard | StateUnavailableError:
    """The guard of the admin routes, or the reason why nobody can pass it."""
    if settings.admin_token is not None:
        return AdminGuard(settings.admin_token.get_secret_value())
    try:
        return AdminGuard(read_or_create_token(settings.state_dir))
    except StateUnavailableError as error:
        return error
