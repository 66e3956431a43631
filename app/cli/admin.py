"""The commands for a running service: `menny jobs`, `models`, `token` and `train --remote`."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from app.admin_token import read_or_create_token
from app.cli.remote import Remote, end_of, open_remote
from app.jobs.job import Job, JobRequest, Promote
from app.settings import Settings
from training.commands.progress import show_progress
from training.commands.train import train_command

Url = Annotated[
    str | None,
    typer.Option("--url", help="The service's address (the local one).", metavar="URL"),
]

jobs_cli = typer.Typer(help="The training jobs of a running service.", no_args_is_help=False)
models_cli = typer.Typer(help="The versions of a running service.", no_args_is_help=False)


def token() -> None:
    """Print the admin token, which guards /train and /models.

    Example: [bold]curl -H "Authorization: Bearer $(menny token)" localhost:8000/train[/bold]
    """
    settings = Settings()
    if settings.admin_token is not None:
        typer.echo(settings.admin_token.get_secret_value())
    else:
        typer.echo(read_or_create_token(settings.state_dir))


@jobs_cli.callback(invoke_without_command=True)
def jobs(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    url: Url = None,
) -> None:
    """List the training jobs, the newest first."""
    if context.invoked_subcommand is not None:
        return
    table = Table("job", "state", "recipe", "created", "epochs", "version", "reason", box=None)
    with open_remote(url) as remote:
        for job in remote.jobs(limit):
            table.add_row(*_job_row(job))
    Console().print(table)


@jobs_cli.command(name="cancel")
def cancel(job: Annotated[int, typer.Argument(help="The job's number.")], url: Url = None) -> None:
    """Cancel a training job."""
    with open_remote(url) as remote:
        ended = remote.cancel_job(job)
    typer.echo(f"job {ended.id}: {ended.state}: {ended.reason}")


@models_cli.callback(invoke_without_command=True)
def models(context: typer.Context, url: Url = None) -> None:
    """List the versions, the newest first."""
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
                f"{version.created:%Y-%m-%d %H:%M}" if version.created else "",
                f"{metrics.rule_accuracy:.6f}" if metrics else "",
                f"{metrics.excess_nll:.5f}" if metrics else "",
            )
    Console().print(table)


@models_cli.command(name="activate")
def activate(
    version: Annotated[str, typer.Argument(help="Its 12 digits, or `shipped`.")], url: Url = None
) -> None:
    """Have a version served, forward or back, without a restart."""
    with open_remote(url) as remote:
        typer.echo(f"version {remote.activate(version).version} is active")


@models_cli.command(name="delete")
def delete(version: Annotated[str, typer.Argument(help="Its 12 digits.")], url: Url = None) -> None:
    """Delete a version that is neither active nor shipped."""
    with open_remote(url) as remote:
        remote.delete(version)
    typer.echo(f"version {version} is deleted")


def _train(
    context: typer.Context,
    remote: Annotated[
        str | None,
        typer.Option(
            help="Have the service at this address train, and watch it: the admin token is "
            "MENNY_ADMIN_TOKEN or that of MENNY_STATE_DIR.",
            metavar="URL",
        ),
    ] = None,
    promote: Annotated[
        Promote, typer.Option(help="With --remote: when the service is to serve the new version.")
    ] = Promote.IF_BETTER,
    **options: Any,
) -> None:
    if remote is None:
        if _is_given(context, "promote"):
            raise typer.BadParameter("--promote goes with --remote")
        train_command(**options)
        return
    given = {name: value for name, value in options.items() if _is_given(context, name)}
    if extra := given.keys() - JobRequest.model_fields.keys():
        raise typer.BadParameter(f"--{min(extra).replace('_', '-')} does not go with --remote")
    request = JobRequest.model_construct(promote=promote, **given)  # the service checks it
    with open_remote(remote) as client:
        _train_remotely(client, request.model_dump(mode="json", exclude_unset=True))


def _train_remotely(client: Remote, request: dict[str, Any]) -> None:
    job = client.start_job(request)
    typer.echo(f"job {job.id} is started; `menny jobs cancel {job.id}` would end it")
    with show_progress(Console(), job.config) as on_epoch:
        for news in client.watch(job.id):
            if news.epoch is not None:
                on_epoch(news.epoch)
            job = news.job or job
    typer.echo(end_of(job))


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _with_options_of(command: Callable[..., None]) -> Callable[..., None]:
    """`_train` with the options of `command` in place of its `**options`."""

    @wraps(command)  # for its help
    def train(**arguments: Any) -> None:
        _train(**arguments)

    own = [
        part
        for part in signature(_train).parameters.values()
        if part.kind is not Parameter.VAR_KEYWORD
    ]
    parameters = [*own, *signature(command).parameters.values()]
    train.__signature__ = signature(train).replace(parameters=parameters)  # type: ignore[attr-defined]
    train.__annotations__ = {part.name: part.annotation for part in parameters} | {"return": None}
    return train


train = _with_options_of(train_command)


def _job_row(job: Job) -> tuple[str, ...]:
    return (
        str(job.id),
        job.state.value,
        job.recipe.value,
        f"{job.created:%Y-%m-%d %H:%M}",
        f"{job.epoch}/{job.config.num_epochs}",
        job.version or "",
        job.reason or job.phase or "",
    )
