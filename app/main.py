"""The application: load the model once, serve, drain."""

from importlib.metadata import version

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

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
from app.lifespan import lifespan_of
from app.metrics import Metrics
from app.routes import docs, explain, health, models, playground, train, transform
from app.routes import metrics as metrics_route
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
    metrics = Metrics()
    lifecycle = Lifecycle()

    app = Api(
        title="Menny",
        version=version("menny"),
        summary="Up to five letters in, as many vowels of the opposite case out.",
        description=DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lifespan_of(settings, metrics, lifecycle),
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
