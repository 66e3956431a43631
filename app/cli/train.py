"""`menny train`: here, or by a running service with `--remote`."""

from typing import Annotated, Any

import typer

from app.cli.jobs import watch_job
from app.cli.remote import open_remote
from app.jobs.job import JobRequest, Promote
from training.commands import options as opt
from training.commands import train as offline
from training.config import Recipe


def train(
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
    recipe: opt.RecipeName = Recipe.DEFAULT,
    out: opt.Out = opt.DEFAULT_OUT,
    force: opt.Force = False,
    data: opt.Data = None,
    num_samples: opt.NumSamples = None,
    num_epochs: opt.NumEpochs = None,
    batch_size: opt.BatchSize = None,
    learning_rate: opt.LearningRate = None,
    seed: opt.Seed = None,
    resample: opt.Resample = None,
    labels_per_query: opt.LabelsPerQuery = None,
    hold_out: opt.HoldOut = None,
    shuffle: opt.Shuffle = None,
    mask_padding: opt.MaskPadding = None,
    warm_up_steps: opt.WarmUpSteps = None,
    schedule: opt.Schedule = None,
    beta2: opt.Beta2 = None,
    weight_decay: opt.WeightDecay = None,
    max_grad_norm: opt.MaxGradNorm = None,
    early_stopping: opt.EarlyStopping = None,
    framework: opt.Framework = "mlx",
    plot: opt.Plot = None,
    num_fresh_queries: opt.NumFreshQueries = None,
) -> None:
    """Train Menny from scratch and write her weights and their model card.

    Ctrl-C stops cleanly: nothing is written before training has ended.

    Example: menny train --recipe default --seed 7 --out /tmp/menny.npz
    """
    options = dict(locals())
    for own in ("context", "remote", "promote"):
        del options[own]
    if remote is not None:
        given = {name: value for name, value in options.items() if _is_given(context, name)}
        _train_remotely(remote, promote, given)
        return
    if _is_given(context, "promote"):
        raise typer.BadParameter("--promote goes with --remote")
    offline.train(**options)


def _train_remotely(url: str, promote: Promote, given: dict[str, Any]) -> None:
    if extra := given.keys() - JobRequest.model_fields.keys():
        raise typer.BadParameter(f"{opt.option_of(min(extra))} does not go with --remote")
    request = JobRequest.model_construct(promote=promote, **given)  # the service checks it
    with open_remote(url) as remote:
        job = remote.start_job(request.model_dump(mode="json", exclude_unset=True))
        cancel = remote.command("jobs", "cancel", job.id)
        typer.echo(f"job {job.id} is started; `{cancel}` would end it")
        watch_job(remote, job)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
