"""`menny token`: what guards /train and /models."""

import typer

from app.cli.remote import admin_token
from app.cli.settings import client_settings


def token() -> None:
    """Print the admin token, which guards /train and /models.

    A service makes it at its first start; where it was found is said on standard error.

    Example: curl -H "Authorization: Bearer $(menny token)" localhost:8000/train
    """
    found = admin_token(client_settings())
    typer.echo(f"the admin token of {found.origin}:", err=True)
    typer.echo(found.token)
