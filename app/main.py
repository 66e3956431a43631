"""The application: load the model once, serve, drain."""

from importlib.metadata import version

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from app.addresses import own_names
from app.http.api import Api
from app.http.bodies import Shortcut
from app.http.disclosure import redactor
from app.http.edge import Edge
from app.http.hosts import HostRule
from app.http.lifecycle import Lifecycle
from app.lifespan import lifespan_of
from app.metrics import ServiceMetrics
from app.routes import (
    docs,
    explain,
    following,
    health,
    inference_protocol,
    models,
    playground,
    rule,
    train,
    transform,
)
from app.routes import metrics as metrics_route
from app.scoreboard import Worker
from app.settings import Settings
from training.rule import RULE

DESCRIPTION = f"""\
Menny is a tiny Transformer with attitude: you say {RULE.query_in_words}, she answers with as many.
Each letter is answered with {RULE.summary} (`{RULE.example}` -> `{RULE.example_response}`).

Every error is an [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem document that says
what is wrong and what would be right.
"""


def create_app(settings: Settings | None = None, worker: Worker | None = None) -> FastAPI:
    """The service as an ASGI application; its lifespan loads the model and lets it go.

    `worker`: what this process knows of the others, if it is one of several that answer.
    """
    settings = settings or Settings()
    metrics = ServiceMetrics(worker)
    lifecycle = Lifecycle()

    app = Api(
        title="Menny",
        version=version("menny"),
        summary=f"Each letter is answered with {RULE.summary}.",
        description=DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lifespan_of(settings, metrics, lifecycle, worker),
    )
    app.state.metrics = metrics
    app.state.lifecycle = lifecycle
    app.state.worker = worker
    app.state.redact = redactor(settings)
    for module in (
        *(transform, explain, inference_protocol, train, following, models),
        *(health, metrics_route, rule, docs, playground),
    ):
        app.include_router(module.router)
    app.mount("/static-offline-docs", docs.SWAGGER_UI)
    _compose(app, settings, metrics, lifecycle)
    return app


def _compose(app: Api, settings: Settings, metrics: ServiceMetrics, lifecycle: Lifecycle) -> None:
    """Put around FastAPI what a request passes before it: edge, CORS if it is on, shortcut."""
    origins = settings.cors_origins
    inner: ASGIApp = Shortcut(app.innermost, transform.DIRECT)
    if origins:
        inner = CORSMiddleware(
            inner,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "X-Request-ID"],
            expose_headers=["Location", "Retry-After", "WWW-Authenticate", "X-Request-ID"],
        )
    edge = Edge(
        inner,
        hosts=HostRule(own_names(settings.host, settings.allowed_hosts)),
        origins=origins,
        max_body_bytes=settings.max_body_bytes,
        metrics=metrics,
        lifecycle=lifecycle,
        access_log=settings.access_log,
        at_once=transform.recorded_answers(app),
    )
    app.edge = edge
    app.outermost = inference_protocol.ProtocolErrors(edge)
