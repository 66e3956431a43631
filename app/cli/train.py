"""`menny train`: here, or by a running service with `--remote`."""

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from app.cli.jobs import watch_job
from app.cli.remote import open_remote
from app.jobs.job import JobRequest, Promote
from training.commands.train import option_of
from training.commands.train import train as train_here


def train_remotely(
    context: typer.Context,
    remote: Annotated[
        str | None,
        typer.Option(
            help="Have a service train, the local one or that at URL, and watch it: the admin "
            "token is MENNY_ADMIN_TOKEN or that of MENNY_STATE_DIR.",
            metavar="[URL]",
        ),
    ] = None,
    promote: Annotated[
        Promote, typer.Option(help="With --remote: when the service is to serve the new version.")
    ] = Promote.IF_BETTER,
) -> None:
    """Start a job with the options that were given, and watch it; the service checks them."""
    given = _given(context) - {"remote"}
    if extra := given - JobRequest.model_fields.keys():
        raise typer.BadParameter(f"{option_of(min(extra))} does not go with --remote")
    with open_remote(remote or None) as service:
        request = {name: context.params[name] for name in given} | {"promote": promote}
        job = service.start_job(request)
        cancel = service.command("jobs", "cancel", job.id)
        typer.echo(f"job {job.id} is started; `{cancel}` would end it")
        watch_job(service, job)


class _HereOrRemotely(TyperCommand):
    """The command of `training`, and the options that have a service do it instead."""

    def __init__(self, *, params: list[Any], **settings: Any) -> None:
        alone = typer.Typer(add_completion=False)
        alone.command()(train_remotely)
        own = typer.main.get_command(alone).params
        super().__init__(params=[*own, *params], **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """An address need not follow --remote."""
        words = [
            f"{word}=" if word == "--remote" and following.startswith("-") else word
            for word, following in zip(args, [*args[1:], "-"], strict=False)
        ]
        return super().parse_args(ctx, words)

    def invoke(self, ctx: Any) -> Any:
        if ctx.params["remote"] is not None:
            return train_remotely(ctx, ctx.params["remote"], ctx.params["promote"])
        if "promote" in _given(ctx):
            raise typer.BadParameter("--promote goes with --remote")
        del ctx.params["remote"], ctx.params["promote"]
        return super().invoke(ctx)


def _given(context: typer.Context) -> set[str]:
    """The names of the options that stand on the command line."""
    sources = ((name, context.get_parameter_source(name)) for name in context.params)
    return {name for name, source in sources if source is not None and source.name != "DEFAULT"}


train = typer.Typer(rich_markup_mode=None, add_completion=False)
train.command(cls=_HereOrRemotely)(train_here)
