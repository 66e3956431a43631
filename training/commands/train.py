"""`menny train`, on this machine; `python -m training` is the same without the service."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError
from rich.console import Console

from training.backend import mlx_on_this_thread
from training.commands.interrupt import stop_on_signal
from training.commands.outputs import PICTURES, check_output, check_weights_output
from training.commands.progress import show_progress, warn_of_long_proof
from training.commands.tables import metrics_table
from training.config import RECIPES, Recipe, TrainingConfig, recipe_config
from training.cores import num_cores
from training.dataset import Dataset, read_dataset
from training.errors import TrainingStoppedError
from training.proof.queries import Plan
from training.trainer import Learner, MlxLearner, TrainingResult
from training.trainer import train as run_training
from training.weights import save_weights


def _field(name: str) -> Any:
    """An option that says what the field is and what the recipes have there."""
    description = TrainingConfig.model_fields[name].description
    values = ", ".join(f"{recipe}: {getattr(config, name)}" for recipe, config in RECIPES.items())
    return typer.Option(help=f"{description} ({values})")


def train(
    recipe: Annotated[Recipe, typer.Option(help="What to start from.")] = Recipe.DEFAULT,
    out: Annotated[
        Path, typer.Option(help="The .npz file to write; its card goes beside it.")
    ] = Path("menny_model_weights.npz"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace even shipped or proven weights.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Train on this .jsonl or .csv dataset instead of generated queries."),
    ] = None,
    num_samples: Annotated[int | None, _field("num_samples")] = None,
    num_epochs: Annotated[int | None, _field("num_epochs")] = None,
    batch_size: Annotated[int | None, _field("batch_size")] = None,
    learning_rate: Annotated[float | None, _field("learning_rate")] = None,
    seed: Annotated[int | None, _field("seed")] = None,
    resample: Annotated[bool | None, _field("resample")] = None,
    labels_per_query: Annotated[int | None, _field("labels_per_query")] = None,
    hold_out: Annotated[bool | None, _field("hold_out")] = None,
    shuffle: Annotated[bool | None, _field("shuffle")] = None,
    mask_padding: Annotated[bool | None, _field("mask_padding")] = None,
    warm_up_steps: Annotated[int | None, _field("warm_up_steps")] = None,
    schedule: Annotated[Literal["constant", "cosine"] | None, _field("schedule")] = None,
    beta2: Annotated[float | None, _field("beta2")] = None,
    weight_decay: Annotated[float | None, _field("weight_decay")] = None,
    max_grad_norm: Annotated[float | None, _field("max_grad_norm")] = None,
    early_stopping: Annotated[int | None, _field("early_stopping")] = None,
    framework: Annotated[
        Literal["mlx", "torch"], typer.Option(help="What computes; torch is an optional package.")
    ] = "mlx",
    plot: Annotated[
        Path | None, typer.Option(help="Draw the training curve into this file, .png or .svg.")
    ] = None,
    num_fresh_queries: Annotated[
        int | None,
        typer.Option(min=1, max=10_000_000, help="Queries to measure the result on (20,000)."),
    ] = None,
) -> None:
    """Train Menny from scratch: her weights and their model card.

    Ctrl-C stops cleanly: nothing is written before training has ended.

    Example: menny train --recipe default --seed 7 --out /tmp/menny.npz
    """
    given = locals()
    changes = {name: given[name] for name in TrainingConfig.model_fields}
    check_weights_output(out, force=force)
    check_output("--plot", plot, PICTURES)
    if plot is not None:
        from training.plots import plot_training  # needs an optional package
    dataset = None if data is None else _read(data, recipe, changes)
    try:
        config = recipe_config(recipe, **changes)
    except ValidationError as error:
        raise wrong_option(error) from None
    build_learner: Callable[[TrainingConfig], Learner] = MlxLearner
    if framework == "torch":
        from training.torch_menny import TorchLearner, use_one_thread  # an optional package

        use_one_thread()
        build_learner = TorchLearner

    warn_of_long_proof(Plan(), num_cores())
    console = Console()
    with (
        _stopped_cleanly(out) as stop,
        mlx_on_this_thread(),
        show_progress(console, config) as on_epoch,
    ):
        result = run_training(
            config,
            dataset,
            build_learner=build_learner,
            num_fresh_queries=num_fresh_queries,
            on_epoch=on_epoch,
            should_stop=stop,
        )
    packages = ["torch"] if framework == "torch" else []
    card = save_weights(out, result.parameters, result.card(recipe, *packages))
    typer.echo(f"trained in {result.seconds:.1f} s; wrote {out}, version {card.sha256[:12]}")
    _show_result(console, recipe, result)
    if plot is not None:
        plot_training(result, plot)
        typer.echo(f"drew {plot}")


def _read(path: Path, recipe: Recipe, changes: dict[str, Any]) -> Dataset:
    """The dataset to train on, and in `changes` what follows from it."""
    for name in ("num_samples", "resample", "labels_per_query"):
        if changes[name] is not None:
            raise typer.BadParameter(f"{option_of(name)} does not go with --data")
    dataset = read_dataset(path)
    changes |= {"num_samples": len(dataset), "resample": False, "labels_per_query": 1}
    given = {name: value for name, value in changes.items() if value is not None}
    config = RECIPES[recipe].model_copy(update=given)
    if len(dataset) < config.min_samples:
        raise typer.BadParameter(
            f"{path} has {len(dataset):,} rows, and batches of {config.batch_size} take "
            f"{config.min_samples} at least: give it more rows, or lower --batch-size"
        )
    return dataset


@contextmanager
def _stopped_cleanly(out: Path) -> Iterator[Callable[[], bool]]:
    """Yield what tells whether to stop; whoever does learns what became of `out`."""
    with stop_on_signal() as stop:
        try:
            yield stop.is_set
        except TrainingStoppedError as error:
            kept = f"{out} is as it was" if out.exists() else f"there is still no {out}"
            raise TrainingStoppedError(f"{error}; nothing was written, {kept}") from None


def _show_result(console: Console, recipe: Recipe, result: TrainingResult) -> None:
    columns = {"fresh queries": result.fresh}
    if result.config.hold_out:
        columns["test part"] = result.test
    if recipe is Recipe.BOOK:
        columns["training part"] = result.train
    console.print(metrics_table(columns, show_book_accuracy=recipe is Recipe.BOOK))
    if recipe is Recipe.BOOK:
        typer.echo(
            f'The chapter\'s "accuracy" is the {result.train.book_accuracy:.1%} on the training '
            "part: `menny evaluate` says what it is worth."
        )


def wrong_option(error: ValidationError) -> typer.BadParameter:
    """What is wrong with a configuration, in the words of the command line."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    for name in TrainingConfig.model_fields:
        message = message.replace(name, option_of(name))
    where = "".join(f"{option_of(str(name))}: " for name in first["loc"])
    return typer.BadParameter(where + message)


def option_of(field: str) -> str:
    """The option that sets a field of `TrainingConfig`."""
    return f"--{field.replace('_', '-')}"
