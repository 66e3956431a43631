"""`python -m training`: the same as `menny train` without --remote, and without the service."""

import sys

import typer

from training.commands.train import train
from training.errors import MennyError


def main() -> None:
    """Train; exit with 0, 1 for a failure, 2 for wrong usage."""
    cli = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    cli.command(name="training")(train)
    try:
        cli()
    except MennyError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
