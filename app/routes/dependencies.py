"""What routes ask for.

All of them are coroutines: FastAPI sends a plain function to a thread pool, on every request.
"""

from typing import Annotated, Any

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
from app.replica.follower import Follower


def _of_the_application(name: str) -> Any:
    """What the lifespan has put into `app.state` under a name."""

    async def find(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(find)


EngineDep = Annotated[Engine, _of_the_application("engine")]
LifecycleDep = Annotated[Lifecycle, _of_the_application("lifecycle")]
MetricsDep = Annotated[ServiceMetrics, _of_the_application("metrics")]
RetrainingDep = Annotated[Retraining | Follower, _of_the_application("retraining")]


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
_reader_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="Read token",
    description="`MENNY_READ_TOKEN`, or the admin token",
)


async def require_admin(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    """Refuse whoever has not the admin token."""
    await _guard_of(request).check(credentials.credentials if credentials else None)


async def require_reader(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_reader_bearer)],
) -> None:
    """Refuse whoever has neither the read token nor the admin token."""
    token = credentials.credentials if credentials else None
    await _guard_of(request).check(token, to_read=True)


def _guard_of(request: Request) -> AdminGuard:
    guard: AdminGuard | StateUnavailableError = request.app.state.admin
    if isinstance(guard, StateUnavailableError):
        raise StateUnavailableError(str(guard))
    return guard


AdminOnly = Depends(require_admin)
ReadersOnly = Depends(require_reader)
