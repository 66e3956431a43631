"""The offline commands: `menny train`, `menny evaluate` and `menny dataset`."""

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from training.config import RECIPES, Recipe, TrainingConfig, recipe_config
from training.dataset import generate_dataset, read_dataset, write_dataset
from training.errors import TrainingStoppedError
from training.evaluation import EXACT_MATCH_CEILING, Metrics
from training.weights import (
    SHIPPED_WEIGHTS,
    Weights,
    load_weights,
    save_weights,
)

if TYPE_CHECKING:
    from training.trainer import Learner

MEMORISED_EXCESS_NLL = 0.5
"""Nats a letter: far more than a model has that knows the rule, whatever she thinks of vowels."""


def _help_of(field: str) -> str:
    """The description and the recipes' values of a field of `TrainingConfig`."""
    description = TrainingConfig.model_fields[field].description
    values = ", ".join(f"{name}: {getattr(config, field)}" for name, config in RECIPES.items())
    return f"{description} ({values})"


def train_command(
    recipe: Annotated[Recipe, typer.Option(help="What to start from.")] = Recipe.DEFAULT,
    out: Annotated[
        Path, typer.Option(help="The .npz file to write; its card goes beside it.")
    ] = SHIPPED_WEIGHTS,
    data: Annotated[
        Path | None,
        typer.Option(help="Train on this .jsonl or .csv dataset instead of generated queries."),
    ] = None,
    num_samples: Annotated[int | None, typer.Option(help=_help_of("num_samples"))] = None,
    num_epochs: Annotated[int | None, typer.Option(help=_help_of("num_epochs"))] = None,
    batch_size: Annotated[int | None, typer.Option(help=_help_of("batch_size"))] = None,
    learning_rate: Annotated[float | None, typer.Option(help=_help_of("learning_rate"))] = None,
    seed: Annotated[int | None, typer.Option(help=_help_of("seed"))] = None,
    resample: Annotated[bool | None, typer.Option(help=_help_of("resample"))] = None,
    labels_per_query: Annotated[int | None, typer.Option(help=_help_of("labels_per_query"))] = None,
    hold_out: Annotated[bool | None, typer.Option(help=_help_of("hold_out"))] = None,
    shuffle: Annotated[bool | None, typer.Option(help=_help_of("shuffle"))] = None,
    mask_padding: Annotated[bool | None, typer.Option(help=_help_of("mask_padding"))] = None,
    warm_up_steps: Annotated[int | None, typer.Option(help=_help_of("warm_up_steps"))] = None,
    schedule: Annotated[
        Literal["constant", "cosine"] | None, typer.Option(help=_help_of("schedule"))
    ] = None,
    beta2: Annotated[float | None, typer.Option(help=_help_of("beta2"))] = None,
    weight_decay: Annotated[float | None, typer.Option(help=_help_of("weight_decay"))] = None,
    max_grad_norm: Annotated[float | None, typer.Option(help=_help_of("max_grad_norm"))] = None,
    early_stopping: Annotated[int | None, typer.Option(help=_help_of("early_stopping"))] = None,
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
    """Train Menny from scratch and write her weights and their model card.

    Ctrl-C stops cleanly: nothing is written before training has ended.

    Example: [bold]menny train --recipe default --seed 7 --out /tmp/menny.npz[/bold]
    """
    dataset = None if data is None else read_dataset(data)
    if dataset is not None:
        num_samples, resample, labels_per_query = len(dataset), False, 1
    try:
        config = recipe_config(
            recipe,
            num_samples=num_samples,
            num_epochs=num_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            resample=resample,
            labels_per_query=labels_per_query,
            hold_out=hold_out,
            shuffle=shuffle,
            mask_padding=mask_padding,
            warm_up_steps=warm_up_steps,
            schedule=schedule,
            beta2=beta2,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
            early_stopping=early_stopping,
        )
    except ValidationError as error:
        raise typer.BadParameter(_first_message(error)) from None

    from training.backend import mlx_on_this_thread
    from training.commands.progress import show_progress
    from training.trainer import MlxLearner, train

    build_learner: Callable[[TrainingConfig], Learner] = MlxLearner
    if framework == "torch":
        from training.torch_menny import TorchLearner, use_one_thread

        use_one_thread()
        build_learner = TorchLearner
    if plot is not None:
        from training.plots import plot_training

    console = Console()
    show = show_progress(console, config)
    with stop_on_signal() as stop, mlx_on_this_thread(), show as on_epoch:
        try:
            result = train(
                config,
                dataset,
                build_learner=build_learner,
                num_fresh_queries=num_fresh_queries,
                on_epoch=on_epoch,
                should_stop=stop.is_set,
            )
        except TrainingStoppedError as error:
            kept = f"{out} is as it was" if out.exists() else f"there is still no {out}"
            raise TrainingStoppedError(f"{error}; nothing was written, {kept}") from None
    packages = ["torch"] if framework == "torch" else []
    card = save_weights(out, result.parameters, result.card(recipe, *packages))
    typer.echo(f"trained in {result.seconds:.1f} s; wrote {out}, version {card.sha256[:12]}")
    columns = {"fresh queries": result.fresh}
    if config.hold_out:
        columns["test part"] = result.test
    if recipe is Recipe.BOOK:
        columns["training part"] = result.train
    console.print(_metrics_table(columns, show_book_accuracy=recipe is Recipe.BOOK))
    if recipe is Recipe.BOOK:
        typer.echo(
            f'The chapter\'s "accuracy" is the {result.train.book_accuracy:.1%} on the training '
            "part: `menny evaluate` says what it is worth."
        )
    if plot is not None:
        plot_training(result, plot)
        typer.echo(f"drew {plot}")


def evaluate_command(
    weights: Annotated[Path, typer.Option(help="The .npz file to measure.")] = SHIPPED_WEIGHTS,
    num_queries: Annotated[int, typer.Option(min=1, max=10_000_000, help="Queries to draw.")] = (
        20_000
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the queries.")] = 1,
    data: Annotated[
        Path | None,
        typer.Option(help="Measure on this .jsonl or .csv dataset instead of drawn queries."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw what she answers into this file, .png or .svg.")
    ] = None,
) -> None:
    """Measure weights on queries, over real letters only.

    Example: [bold]menny evaluate --weights /tmp/menny.npz --num-queries 100000[/bold]
    """
    import numpy as np

    checked = load_weights(weights)
    dataset = (
        generate_dataset(num_queries, np.random.default_rng(seed))
        if data is None
        else read_dataset(data)
    )

    from training.backend import mlx_on_this_thread
    from training.evaluation import evaluate
    from training.model import build_model
    from training.trainer import forward_of

    if plot is not None:
        from training.plots import plot_evaluation

    with mlx_on_this_thread():
        forward = forward_of(build_model(checked.parameters))
        metrics = evaluate(forward, dataset)
        if plot is not None:
            plot_evaluation(forward, dataset, metrics, f"Menny {checked.version}", plot)
    origin = f"recipe {checked.card.recipe}" if checked.card else "no model card"
    typer.echo(f"{weights}: version {checked.version}, {origin}")
    Console().print(_metrics_table({"measured": metrics}, show_book_accuracy=True))
    for sentence in _meaning(checked, metrics):
        typer.echo(sentence)
    if plot is not None:
        typer.echo(f"drew {plot}")


def dataset_command(
    out: Annotated[Path, typer.Option(help="The .jsonl or .csv file to write.")],
    num_samples: Annotated[int, typer.Option(min=1, max=10_000_000, help="Rows to draw.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same rows.")] = 0,
) -> None:
    """Draw queries and their labels and write them to a file, for `menny train --data`.

    Example: [bold]menny dataset --num-samples 500 --out pairs.jsonl[/bold]
    """
    import numpy as np

    write_dataset(generate_dataset(num_samples, np.random.default_rng(seed)), out)
    typer.echo(f"wrote {num_samples:,} rows to {out}")


def _first_message(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    option = "".join(f"--{part}: ".replace("_", "-") for part in first["loc"])
    return option + first["msg"].removeprefix("Value error, ")


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Set the event on the first Ctrl-C or SIGTERM; the second one does what it always does."""
    stop = threading.Event()
    previous = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}

    def handler(signum: int, _frame: object) -> None:
        stop.set()
        signal.signal(signum, previous[signal.Signals(signum)])

    for signum in previous:
        signal.signal(signum, handler)
    try:
        yield stop
    finally:
        for signum, old in previous.items():
            signal.signal(signum, old)


def _meaning(weights: Weights, metrics: Metrics) -> Iterator[str]:
    """What the figures say, in words."""
    if metrics.rule_accuracy < 1:
        one_in = 1 / (1 - metrics.rule_accuracy)
        yield (
            f"{math.floor(metrics.rule_accuracy * 1e4) / 1e4:.2%} of letters get an allowed "
            f"vowel: one letter in {one_in:,.0f} gets a forbidden one."
        )
    else:
        yield "Every letter of these queries gets an allowed vowel."
    if metrics.excess_nll > MEMORISED_EXCESS_NLL:
        yield (
            "She has not learnt that all five vowels are equally likely, but to be sure of one: "
            f"her excess_nll is {metrics.excess_nll:.2f} nats, as it gets by learning the labels "
            "of a small dataset by heart."
        )
    if weights.card is not None and weights.card.recipe is Recipe.BOOK:
        yield (
            "An accuracy above 91 %, as in the book, is measured on the queries that she was "
            "trained on and counts empty positions; on unseen labels nobody exceeds 20 %."
        )
    if weights.is_proven:
        yield "Proven: every query that exists was checked, and none gets a forbidden letter."
    elif (
        weights.card is not None
        and weights.card.proof is not None
        and weights.card.proof.violations
    ):
        yield (
            f"Refuted: {weights.card.proof.violations:,} of all queries that exist get a "
            "forbidden letter (`menny verify`)."
        )
    else:
        yield "Not proven: `menny verify` checks every query that exists."


def _metrics_table(columns: dict[str, Metrics], *, show_book_accuracy: bool) -> Table:
    rows = {
        "queries": lambda metrics: f"{metrics.num_queries:,}",
        # Rounded down: 100 % means all of them.
        "rule_accuracy": lambda metrics: f"{math.floor(metrics.rule_accuracy * 1e4) / 1e4:.2%}",
        "excess_nll": lambda metrics: f"{metrics.excess_nll:.5f}",
        "exact_match": lambda metrics: f"{metrics.exact_match:.2%}",
        "book accuracy": lambda metrics: f"{metrics.book_accuracy:.2%}",
    }
    meaning = {
        "queries": "",
        "rule_accuracy": "letters answered with an allowed vowel",
        "excess_nll": "cross-entropy above the best possible, ln 5; nats a letter",
        "exact_match": f"labels matched; {EXACT_MATCH_CEILING:.0%} is the ceiling on unseen ones",
        "book accuracy": "the book's: counts padding, answered with 'a', as right",
    }
    if not show_book_accuracy:
        del rows["book accuracy"]
    table = Table("", *columns, "meaning", box=None, header_style="bold")
    for name, show in rows.items():
        table.add_row(name, *map(show, columns.values()), f"[dim]{meaning[name]}[/dim]")
    return table
