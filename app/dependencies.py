"""What routes ask for."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.errors import StateUnavailableError
from app.inference.engine import Engine
from app.jobs.bell import Bell
from app.jobs.manager import JobManager
from app.jobs.retraining import Retraining
from app.jobs.store import Store
from app.jobs.versions import Versions
from app.security import AdminGuard


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def _retraining(request: Request) -> Retraining:
    retraining: Retraining = request.app.state.retraining
    return retraining


EngineDep = Annotated[Engine, Depends(_engine)]
RetrainingDep = Annotated[Retraining, Depends(_retraining)]


def _jobs(retraining: RetrainingDep) -> JobManager:
    return retraining.jobs


def _versions(retraining: RetrainingDep) -> Versions:
    return retraining.versions


def _store(retraining: RetrainingDep) -> Store:
    return retraining.store


def _bell(request: Request) -> Bell:
    bell: Bell = request.app.state.bell
    return bell


JobsDep = Annotated[JobManager, Depends(_jobs)]
VersionsDep = Annotated[Versions, Depends(_versions)]
StoreDep = Annotated[Store, Depends(_store)]
BellDep = Annotated[Bell, Depends(_bell)]

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
