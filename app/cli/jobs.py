"""`menny jobs`: list, watch and cancel the training jobs of a running service."""

from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from app.cli.remote import Remote, RemoteError, Url, open_remote
from app.jobs.job import Job, JobState
from training.commands.progress import show_progress
from training.epoch import Epoch

jobs_cli = typer.Typer(help="The training jobs of a running service.", rich_markup_mode=None)

JobId = Annotated[int, typer.Argument(min=1, help="The job's number.")]


@jobs_cli.callback(invoke_without_command=True)
def jobs(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    url: Url = None,
) -> None:
    """List the training jobs, the newest first."""
    context.obj = url
    if context.invoked_subcommand is not None:
        return
    with open_remote(url) as remote:
        found = remote.jobs(limit)
        if not found:
            typer.echo("there are no jobs yet: `menny train --remote` starts one")
        for job in found:
            epochs = f"{job.epoch}/{job.config.num_epochs} epochs"
            created = f"{job.created.astimezone():%Y-%m-%d %H:%M}"
            typer.echo(f"job {job.id}: {job.state}, recipe {job.recipe}, {epochs}, {created}")
            if said := job.reason or job.phase:
                typer.echo(f"  {said}")


@jobs_cli.command()
def watch(context: typer.Context, job: JobId, url: Url = None) -> None:
    """Watch a training job until it ends; exit status 1 unless it succeeds.

    Example: menny jobs watch 5
    """
    with open_remote(url or context.obj) as remote:
        watch_job(remote, remote.job(job))


@jobs_cli.command()
def cancel(context: typer.Context, job: JobId, url: Url = None) -> None:
    """Cancel a training job."""
    with open_remote(url or context.obj) as remote:
        ended = remote.cancel_job(job)
    typer.echo(f"job {ended.id}: {ended.state}: {ended.reason}")


def watch_job(remote: Remote, job: Job) -> None:
    """Show how a job goes on, until it ends. Ctrl-C leaves it alone, and says so.

    Raises `RemoteError` with the reason unless it succeeds.
    """
    try:
        with show_progress(Console(), job.config) as on_epoch:
            job = _follow(remote, job, on_epoch)
    except KeyboardInterrupt:
        typer.echo(
            f"job {job.id} goes on: `{remote.command('jobs', 'watch', job.id)}` watches it again, "
            f"`{remote.command('jobs', 'cancel', job.id)}` ends it",
            err=True,
        )
        raise typer.Exit(130) from None
    sentence = f"job {job.id}: {job.state}: {job.reason}"
    if job.state is not JobState.SUCCEEDED:
        raise RemoteError(sentence)
    typer.echo(sentence)


def _follow(remote: Remote, job: Job, on_epoch: Callable[[Epoch], None]) -> Job:
    for news in remote.watch(job.id):
        if news.epoch is not None:
            on_epoch(news.epoch)
        job = news.job or job
    return job
