"""What a supervisor tells a worker."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, SecretStr

from app.settings import Settings


class Task(BaseModel):
    """One line of JSON, through a pipe: the settings have secrets in them."""

    index: int
    listener: int
    """The descriptor of the socket, which the worker inherits."""
    scoreboard: Path
    unavailable: str | None
    """Why the supervisor could not take the state directory, if it couldn't."""
    settings: dict[str, Any]

    @classmethod
    def of(cls, settings: Settings, **rest: Any) -> Self:
        """A task with these settings."""
        plain = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in settings
        }
        return cls(settings=plain, **rest)
