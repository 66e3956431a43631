"""Whether Menny can answer (`GET /health`) and the process is there (`GET /health/live`)."""

import time
from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from app.dependencies import EngineDep, RetrainingDep
from app.schemas import Health, Live

router = APIRouter(prefix="/health", tags=["health"])


@router.get(
    "",
    summary="Can she answer?",
    responses={
        HTTPStatus.SERVICE_UNAVAILABLE: {"model": Health, "description": "She can't answer"}
    },
)
async def health(
    request: Request, response: Response, engine: EngineDep, retraining: RetrainingDep
) -> Health:
    """200 when Menny can answer, 503 with the reason and the remedy when she can't."""
    uptime = round(time.monotonic() - request.app.state.started, 3)
    if engine.info is None:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return Health(
            status="unavailable",
            reason=engine.unavailable,
            uptime_seconds=uptime,
            note=retraining.note,
        )
    card = engine.info.card
    return Health(
        status="ok",
        model_version=engine.info.version,
        rule_accuracy=card and card.metrics.rule_accuracy,
        device=engine.info.device,
        uptime_seconds=uptime,
        note=retraining.note,
    )


@router.get("/live", summary="Is the process there?")
async def live() -> Live:
    """200 as long as the process can answer at all, model or not."""
    return Live()
