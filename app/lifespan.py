"""What the service does before it answers, beside it and after it: load, watch, let go."""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from fastapi import FastAPI

from app.admin_token import AdminGuard, read_or_create_token
from app.errors import ModelUnavailableError, StateUnavailableError
from app.http.lifecycle import Lifecycle
from app.inference.answers import Responder
from app.inference.batcher import Batcher
from app.inference.engine import Engine
from app.inference.tables import Tables
from app.jobs.metrics import JobMetrics
from app.jobs.retraining import Retraining
from app.metrics import ServiceMetrics
from app.replica.follower import Follower
from app.scoreboard import BEAT_S, Worker
from app.settings import Settings

logger = logging.getLogger(__name__)

WATCH_S = 1.0
"""How often a failing engine is looked at."""


def lifespan_of(
    settings: Settings,
    metrics: ServiceMetrics,
    lifecycle: Lifecycle,
    worker: Worker | None = None,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The application's lifespan, which puts into `app.state` what its routes ask for."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.admin = await asyncio.to_thread(_admin_guard, settings)
        batcher = Batcher(settings.max_batch, settings.max_queue, settings.batch_wait_ms / 1000)
        if worker is None:
            metrics.queue_depth.set_function(lambda: len(batcher))
        tables = Tables(settings.state_dir / "answers", settings.answers)
        with Engine(batcher, metrics, settings.device, tables) as engine:
            app.state.engine = engine
            app.state.responder = Responder(
                engine, batcher, metrics, timeout_s=settings.request_timeout_s
            )
            retraining: Retraining | Follower = (
                Follower(settings, engine)
                if settings.follow
                else Retraining(settings, engine, JobMetrics(metrics.registry), worker=worker)
            )
            app.state.retraining = retraining
            await asyncio.to_thread(retraining.start)
            loading = asyncio.create_task(asyncio.to_thread(retraining.reload))
            if engine.served is None:  # no table that answers until there is a model
                await loading
            app.state.started = time.monotonic()
            try:
                async with (
                    _beside(_reload_on_hangup(retraining.reload)),
                    _beside(_watch(engine, lifecycle, settings.exit_when_failing_s)),
                    _beside(_beat(worker, engine, batcher, metrics)) if worker else nullcontext(),
                ):
                    yield
            finally:
                await loading
                await asyncio.to_thread(retraining.stop)

    return lifespan


@asynccontextmanager
async def _beside(coroutine: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run a coroutine as long as the block is open."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _reload_on_hangup(reload: Callable[[], None]) -> None:
    """Call `reload` on another thread at each SIGHUP, if signals are ours to handle.

    Those that come while it is being done are one more.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    hung_up = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    try:
        while True:
            await hung_up.wait()
            hung_up.clear()
            await asyncio.to_thread(reload)
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # by default it would end the process


async def _beat(worker: Worker, engine: Engine, batcher: Batcher, metrics: ServiceMetrics) -> None:
    """Say that this event loop turns, and how it is, as long as it does."""
    while True:
        worker.row.beat = time.monotonic_ns()
        worker.row.can_answer = engine.can_answer
        metrics.queue_depth.set(len(batcher))
        await asyncio.sleep(BEAT_S)


async def _watch(engine: Engine, lifecycle: Lifecycle, limit_s: float) -> None:
    """Ask a failing engine again and again; after `limit_s` seconds of it let the service fail.

    Whoever runs the service (launchd, systemd) then starts it anew; 0 leaves it as it is, and so
    does a table that answers.
    """
    while True:
        await asyncio.sleep(WATCH_S)
        if engine.failing_s is None:
            continue
        try:
            await asyncio.to_thread(engine.probe)
        except ModelUnavailableError:  # it has been stopped
            return
        failing_s = engine.failing_s
        if limit_s and failing_s is not None and failing_s >= limit_s and not engine.can_answer:
            logger.critical("every batch has failed for %.0f s: the service ends", failing_s)
            lifecycle.has_failed = True
            return


def _admin_guard(settings: Settings) -> AdminGuard | StateUnavailableError:
    """The guard of the admin routes, or the reason why nobody can pass it."""
    read_token = settings.read_token.get_secret_value() if settings.read_token else None
    try:
        if settings.admin_token is not None:
            return AdminGuard(settings.admin_token.get_secret_value(), read_token)
        return AdminGuard(read_or_create_token(settings.state_dir), read_token)
    except StateUnavailableError as error:
        logger.error("nobody is let in to /train and /models: %s", error)
        return error
