"""`menny models`: list, activate and delete the versions of a running service."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.cli.remote import Url, open_remote

models_cli = typer.Typer(help="The versions of a running service.", rich_markup_mode=None)

Name = Annotated[
    str, typer.Argument(metavar="VERSION", help="Its digits, or its first ones; or `shipped`.")
]


@models_cli.callback(invoke_without_command=True)
def models(context: typer.Context, url: Url = None) -> None:
    """List the versions, the newest first."""
    context.obj = url
    if context.invoked_subcommand is not None:
        return
    table = Table("version", "active", "job", "created", "rule_accuracy", "excess_nll", box=None)
    with open_remote(url) as remote:
        for version in remote.versions():
            metrics = version.card and version.card.metrics
            table.add_row(
                version.version,
                "active" if version.active else "",
                "shipped" if version.shipped else str(version.job),
                f"{version.created.astimezone():%Y-%m-%d %H:%M}" if version.created else "",
                f"{metrics.rule_accuracy:.6f}" if metrics else "",
                f"{metrics.excess_nll:.5f}" if metrics else "",
            )
    Console().print(table)


@models_cli.command()
def activate(context: typer.Context, name: Name, url: Url = None) -> None:
    """Serve a version from now on, an older one too, without a restart.

    Example: menny models activate 0123
    """
    with open_remote(url or context.obj) as remote:
        version = remote.activate(remote.version(name))
    typer.echo(f"version {version.version} is active")


@models_cli.command()
def delete(context: typer.Context, name: Name, url: Url = None) -> None:
    """Delete a version that is neither active nor shipped."""
    with open_remote(url or context.obj) as remote:
        version = remote.version(name)
        remote.delete(version)
    typer.echo(f"version {version.version} is deleted")
