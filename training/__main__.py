"""`python -m training`: the same as `menny train`."""

import sys

import typer

from training.commands.train import train_command
from training.errors import MennyError


def main() -> None:
    """Train; exit with 0, 1 for a failure, 2 for wrong usage."""
    cli = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)
    cli.command(name="training")(train_command)
    try:
        cli()
    except MennyError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
