"""Whether Menny can answer (`GET /health`) and the process is there (`GET /health/live`)."""

import asyncio
import time
from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.inference.model import Served
from app.jobs.retraining import Retraining
from app.replica.follower import Follower, Following
from app.routes.dependencies import EngineDep, LifecycleDep, RetrainingDep
from app.routes.schemas import ArraysField, CounterExampleField, DeviceField, Source, SourceReason
from app.scoreboard import Worker
from training.proof.check import Proof

router = APIRouter(prefix="/health", tags=["health"])


class Health(BaseModel):
    """How the service is."""

    model_config = ConfigDict(protected_namespaces=())

    status: Literal["ok", "unavailable", "draining"] = Field(
        description="`ok` when she can answer; `draining` when the service is about to stop"
    )
    reason: str | None = Field(
        None,
        description="why she can't answer, and the remedy; with `ok`: why the weights file that "
        "should have replaced the model did not, or what is wrong with the engine",
    )
    engine: Literal["starting", "ok", "failed"] = Field(
        "starting",
        description="whether the model can be asked. A table answers without it; temperatures, "
        "candidates and explanations get 503 while it can't",
    )
    answers: Source | None = None
    answers_reason: SourceReason | None = None
    model_version: str | None = Field(None, description="the version of the model that answers")
    rule_accuracy: float | None = Field(
        None,
        description="share of letters answered with an allowed one, on 20,000 queries that the "
        "model was not trained on; null where no model card says",
    )
    proven: bool = Field(
        False,
        description="whether this very model was checked on every query that exists and keeps the "
        "rule, by a margin that rounding can't eat up: by `menny verify`, or in the background",
    )
    counter_example: CounterExampleField = None
    device: DeviceField = None
    arrays: ArraysField = None
    workers: int = Field(1, description="processes that answer here, and are not silent")
    uptime_seconds: float = Field(description="since this process started")
    note: str | None = Field(
        None, description="why retraining is unavailable, or why the shipped weights answer"
    )
    following: Following | None = Field(None, description="how a replica follows its primary")


class Live(BaseModel):
    """The process is there."""

    status: Literal["alive"] = "alive"


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
    """200 when Menny can answer; 503 with the reason when she can't or is about to stop.

    Of several workers that answer, one is enough.
    """
    worker: Worker | None = request.app.state.worker
    served, reason = engine.served, engine.fault
    if (failing_s := engine.failing_s) is not None:
        reason = f"every batch has failed for {failing_s:.0f} s; the log says more"
    status: Literal["ok", "unavailable", "draining"] = "ok"
    if lifecycle.is_draining:
        status = "draining"
    elif not (engine.can_answer or (worker and worker.scoreboard.can_answer)):
        status = "unavailable"
    if status != "ok":
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    found = Health(
        status=status,
        reason=_redacted(request, reason),
        engine=engine.state,
        workers=worker.scoreboard.num_live if worker else 1,
        uptime_seconds=round(time.monotonic() - request.app.state.started, 3),
        note=_redacted(request, retraining.note),
        following=_following(request, retraining),
    )
    if served is None:
        return found
    return found.model_copy(
        update={
            "rule_accuracy": served.card and served.card.metrics.rule_accuracy,
            **facts_of(served, request, await proof_of(served, retraining)),
        }
    )


async def proof_of(served: Served, retraining: Retraining | Follower) -> Proof | None:
    """What is known of what answers; the database is asked, which may be slow to answer."""
    return await asyncio.to_thread(retraining.proof_of, served.version, served.card)


def facts_of(served: Served, request: Request, proof: Proof | None) -> dict[str, Any]:
    """What `/health` and `/card` both say of what answers."""
    backend = served.model.backend if served.model else None
    return {
        "model_version": served.version,
        "device": backend and backend.device,
        "arrays": backend and backend.arrays,
        "answers": "model" if served.table is None else "table",
        "answers_reason": _redacted(request, served.table_note),
        "proven": proof is not None and proof.holds,
        "counter_example": next(iter(proof.counter_examples), None) if proof else None,
    }


@router.get("/live", summary="Is the process there?")
async def live() -> Live:
    """200 as long as the process can answer at all, model or not."""
    return Live()


def _redacted(request: Request, text: str | None) -> str | None:
    return text and str(request.app.state.redact(text))


def _following(request: Request, retraining: Retraining | Follower) -> Following | None:
    if not isinstance(retraining, Follower):
        return None
    following = retraining.following
    return following.model_copy(update={"fault": _redacted(request, following.fault)})
