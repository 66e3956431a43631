"""What routes ask for.

All of them are coroutines: FastAPI sends a plain function to a thread pool, on every request.
"""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.admin_token import AdminGuard
from app.errors import StateUnavailableError
from app.http.lifecycle import Lifecycle
from app.inference.engine import Engine
from app.jobs.retraining import Retraining
from app.jobs.store import Store
from app.jobs.versions import Versions
from app.metrics import ServiceMetrics


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def _lifecycle(request: Request) -> Lifecycle:
    lifecycle: Lifecycle = request.app.state.lifecycle
    return lifecycle


async def _metrics(request: Request) -> ServiceMetrics:
    metrics: ServiceMetrics = request.app.state.metrics
    return metrics


EngineDep = Annotated[Engine, Depends(_engine)]
LifecycleDep = Annotated[Lifecycle, Depends(_lifecycle)]
MetricsDep = Annotated[ServiceMetrics, Depends(_metrics)]


async def _retraining(request: Request) -> Retraining:
    retraining: Retraining = request.app.state.retraining
    return retraining


RetrainingDep = Annotated[Retraining, Depends(_retraining)]


async def _versions(retraining: RetrainingDep) -> Versions:
    return retraining.versions


async def _store(retraining: RetrainingDep) -> Store:
    return retraining.store


VersionsDep = Annotated[Versions, Depends(_versions)]
StoreDep = Annotated[Store, Depends(_store)]

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="Admin token",
    description="`menny token` prints it",
)


async def require_admin(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    """Refuse whoever has not the admin token."""
    guard: AdminGuard | StateUnavailableError = request.app.state.admin
    if isinstance(guard, StateUnavailableError):
        raise StateUnavailableError(str(guard))
    await guard.check(credentials.credentials if credentials else None)


AdminOnly = Depends(require_admin)
