"""The settings as a command gets them: complaints in a sentence, a hint for misspelt variables."""

import os
from typing import Any

import typer
from pydantic import ValidationError

from app.settings import Settings, format_validation_error, unknown_variables


def read_settings(**flags: Any) -> Settings:
    """`MENNY_*` variables, and the flags that are not None, which win.

    Raises `typer.BadParameter` that names the variable or flag that makes no sense.
    """
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise typer.BadParameter(format_validation_error(error)) from None


def client_settings() -> Settings:
    """The same for a command that asks a service, with its warnings on standard error."""
    for sentence in unknown_variables(os.environ):
        typer.echo(f"warning: {sentence}", err=True)
    return read_settings()
