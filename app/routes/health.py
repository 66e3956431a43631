"""Whether Menny can answer (`GET /health`) and the process is there (`GET /health/live`)."""

import time
from http import HTTPStatus

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
    uptime = round(time.monotonic() - request.app.state.started, 3)
    if engine.info is None:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return Health(
            status="unavailable",
            reason=_redacted(request, engine.fault),
            uptime_seconds=uptime,
            note=_redacted(request, retraining.note),
        )
    if lifecycle.is_draining:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    card = engine.info.card
    return Health(
        status="draining" if lifecycle.is_draining else "ok",
        reason=_redacted(request, engine.fault),
        model_version=engine.info.version,
        rule_accuracy=card.metrics.rule_accuracy if card else None,
        proven=card is not None and card.proves(engine.info.version),
        device=engine.info.device,
        uptime_seconds=uptime,
        note=_redacted(request, retraining.note),
    )


@router.get("/live", summary="Is the process there?")
async def live() -> Live:
    """200 as long as the process can answer at all, model or not."""
    return Live()


def _redacted(request: Request, text: str | None) -> str | None:
    return text and str(request.app.state.redact(text))
