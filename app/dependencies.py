"""What routes ask for.

All of them are coroutines: FastAPI sends a plain function to a thread pool, on every request.
"""

from typing import Annotated

from fastapi import Depends, Request

from app.inference.engine import Engine
from app.inference.responder import Responder
from app.metrics import Metrics
from app.server import Lifecycle


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def _responder(request: Request) -> Responder:
    responder: Responder = request.app.state.responder
    return responder


async def _lifecycle(request: Request) -> Lifecycle:
    lifecycle: Lifecycle = request.app.state.lifecycle
    return lifecycle


async def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


EngineDep = Annotated[Engine, Depends(_engine)]
ResponderDep = Annotated[Responder, Depends(_responder)]
LifecycleDep = Annotated[Lifecycle, Depends(_lifecycle)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
