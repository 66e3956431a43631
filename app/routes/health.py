"""Whether Menny can answer (`GET /health`) and the process is there (`GET /health/live`)."""

import time
from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Request, Response

from app.inference.model import Served
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
    served, reason = engine.served, engine.fault
    if (failing_s := engine.failing_s) is not None:
        reason = f"every batch has failed for {failing_s:.0f} s; the log says more"
    status: Literal["ok", "unavailable", "draining"] = "ok"
    if lifecycle.is_draining:
        status = "draining"
    elif not engine.can_answer:
        status = "unavailable"
    if status != "ok":
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    found = Health(
        status=status,
        reason=_redacted(request, reason),
        engine=engine.state,
        uptime_seconds=round(time.monotonic() - request.app.state.started, 3),
        note=_redacted(request, retraining.note),
    )
    if served is None:
        return found
    return found.model_copy(
        update={
            "rule_accuracy": served.card and served.card.metrics.rule_accuracy,
            **facts_of(served, request),
        }
    )


def facts_of(served: Served, request: Request) -> dict[str, Any]:
    """What `/health` and `/card` both say of what answers."""
    backend = served.model.backend if served.model else None
    return {
        "model_version": served.version,
        "device": backend and backend.device,
        "arrays": backend and backend.arrays,
        "answers": "model" if served.table is None else "table",
        "answers_reason": _redacted(request, served.table_note),
        "proven": served.is_proven,
    }


@router.get("/live", summary="Is the process there?")
async def live() -> Live:
    """200 as long as the process can answer at all, model or not."""
    return Live()


def _redacted(request: Request, text: str | None) -> str | None:
    return text and str(request.app.state.redact(text))
