"""The commands, put together. A command's module is imported when it is called, not before.

`menny --help` would otherwise wait for MLX, NumPy, SQLAlchemy and FastAPI.
"""

import signal
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from training.errors import MennyError
from training.rule import RULE

COMMANDS = {
    "serve": ("app.cli.serve:serve", "Serve Menny over HTTP until SIGTERM or Ctrl-C."),
    "chat": ("app.cli.chat:chat", "Talk to Menny: the book's interactive session."),
    "train": ("app.cli.train:train", "Train Menny from scratch: her weights and their model card."),
    "evaluate": ("training.commands.evaluate:evaluate", "Measure weights, over real letters only."),
    "verify": ("training.commands.verify:verify", "Check weights on every query that exists."),
    "dataset": ("training.commands.dataset:dataset", "Write queries and labels to a file."),
    "token": ("app.cli.token:token", "Print the admin token, which guards /train and /models."),
    "jobs": ("app.cli.jobs:jobs_cli", "The training jobs of a running service."),
    "models": ("app.cli.models:models_cli", "The versions of a running service."),
    "doctor": ("app.cli.doctor:doctor", "Examine Menny and this machine, and say what would help."),
    "service": ("app.cli.service:service_cli", "Keep Menny running: launchd on a Mac, or systemd."),
}
"""For each command the function or group of commands that it is, and its help in one line."""


class _LazyGroup(TyperGroup):
    """Lists stand-ins that have nothing but a line of help; calls the real commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Import the command that is named in `args`."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, stand_in and load_command(COMMANDS[stand_in.name or ""][0]), rest


cli = typer.Typer(
    cls=_LazyGroup,
    help=f"Menny, a tiny Transformer: {RULE.query_in_words} in, as many out. Each is answered with "
    f"{RULE.summary}.",
    rich_markup_mode=None,  # plain text, in a third of the time
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
for _name, (_, _help) in COMMANDS.items():
    cli.command(name=_name, help=_help)(lambda: None)


def run() -> None:
    """Call the command that `sys.argv` names; exceptions of ours become a sentence."""
    try:
        cli()
    except MennyError as error:
        sys.exit(f"error: {error}")


def load_command(where: str) -> Any:
    """The command at `MODULE:NAME`, ready to be called."""
    module, _, name = where.partition(":")
    command = getattr(import_module(module), name)
    if not isinstance(command, typer.Typer):
        alone = typer.Typer(rich_markup_mode=None, add_completion=False)
        alone.command()(command)
        command = alone
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see `app.cli.main`
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return typer.main.get_command(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"menny {version('menny')}")
        raise typer.Exit


@cli.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass
