"""What routes ask for."""

from typing import Annotated

from fastapi import Depends, Request

from app.inference.engine import Engine


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


EngineDep = Annotated[Engine, Depends(_engine)]
