"""Whether Menny can answer (`GET /health`) and the process is there (`GET /health/live`)."""

import time
from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Request, Response

from app.routes.dependencies import EngineDep, LifecycleDep, RetrainingDep
from app.routes.schemas import Health, Live

router = APIRouter(prefix="/health", tags=["health"])


@router.get(
    "",
    summary="Can she answer?",
    responses={
        HTTPStatus.SERVICE_UNAVAILABLE: {"model": Health, "description": "She can't answer"}
    },
)
async def health(
    request: Request,
    response: Response,
    engine: EngineDep,
    lifecycle: LifecycleDep,
    retraining: RetrainingDep,
) -> Health:
    """200 when Menny can answer; 503 with the reason when she can't or is about to stop."""
    info, reason = engine.info, engine.fault
    status: Literal["ok", "unavailable", "draining"] = "ok"
    if lifecycle.is_draining:
        status = "draining"
    elif info is None:
        status = "unavailable"
    elif (failing_s := engine.failing_s) is not None:
        status = "unavailable"
        reason = f"every batch has failed for {failing_s:.0f} s; the log says more"
    if status != "ok":
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    card = info and info.card
    return Health(
        status=status,
        reason=_redacted(request, reason),
        model_version=info and info.version,
        rule_accuracy=card and card.metrics.rule_accuracy,
        proven=bool(info and card and card.proves(info.version)),
        device=info and info.device,
        uptime_seconds=round(time.monotonic() - request.app.state.started, 3),
        note=_redacted(request, retraining.note),
    )


@router.get("/live", summary="Is the process there?")
async def live() -> Live:
    """200 as long as the process can answer at all, model or not."""
    return Live()


def _redacted(request: Request, text: str | None) -> str | None:
    return text and str(request.app.state.redact(text))
