"""Menny on Ray Serve, `serve run app.ray:app`: `create_app` is the ingress of each replica.

A replica is the whole service but for jobs and versions, which none could have for all of them: it
follows the service that MENNY_FOLLOW names. Its settings are the MENNY_ variables of Ray's worker
processes; those of the deployment are in docs/serve_config.yaml.
"""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import FastAPI
from ray import serve

from app.main import create_app
from app.settings import Settings

UNWELL_S = 20.0
"""Seconds that a replica may be unable to answer, at its start and later, until it is replaced."""


def build() -> FastAPI:
    """The service of one replica, with a state directory that goes when it does.

    Without MENNY_FOLLOW it answers with MENNY_WEIGHTS, and nobody is told its admin token.
    """
    folder = TemporaryDirectory(prefix="menny-ray-")
    menny = create_app(
        Settings(state_dir=Path(folder.name), admin_token=None, prove="never", workers=1)
    )
    menny.state.folder = folder
    return menny


class Menny:
    """What Ray asks of a replica besides HTTP; `serve.ingress` adds `app`, what `build` made."""

    app: FastAPI

    async def check_health(self) -> None:
        """Raises `TimeoutError`, and Ray replaces the replica, if it can't answer.

        A new one gets its first request after this has returned once.
        """
        async with asyncio.timeout(UNWELL_S):
            while not self.app.state.engine.can_answer:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0.05)

    def __del__(self) -> None:
        self.app.state.folder.cleanup()


app = serve.deployment(serve.ingress(build)(Menny), max_ongoing_requests=256).bind()
