"""`menny evaluate`: measure weights on queries."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from training.backend import mlx_on_this_thread
from training.commands.outputs import PICTURES, check_output
from training.commands.tables import meaning_of, metrics_table
from training.dataset import generate_dataset, read_dataset
from training.evaluation import evaluate as measure
from training.model import build_model
from training.trainer import forward_of
from training.weights import SHIPPED_WEIGHTS, load_weights


def evaluate(
    weights: Annotated[Path, typer.Option(help="The .npz file to measure.")] = SHIPPED_WEIGHTS,
    num_queries: Annotated[
        int | None, typer.Option(min=1, max=10_000_000, help="Queries to draw (20,000).")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the queries (1).")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Measure on this .jsonl or .csv dataset instead of drawn queries."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw what she answers into this file, .png or .svg.")
    ] = None,
) -> None:
    """Measure weights, over real letters only.

    Example: menny evaluate --weights /tmp/menny.npz --num-queries 100000
    """
    if data is not None and (num_queries is not None or seed is not None):
        raise typer.BadParameter("--data has its own queries: --num-queries and --seed draw others")
    check_output("--plot", plot, PICTURES)
    if plot is not None:
        from training.plots import plot_evaluation  # needs an optional package
    checked = load_weights(weights)
    if data is not None:
        dataset = read_dataset(data)
    else:
        rng = np.random.default_rng(1 if seed is None else seed)
        dataset = generate_dataset(num_queries or 20_000, rng)
    with mlx_on_this_thread():
        forward = forward_of(build_model(checked.parameters))
        metrics = measure(forward, dataset)
        if plot is not None:
            plot_evaluation(forward, dataset, metrics, f"Menny {checked.version}", plot)
    origin = f"recipe {checked.card.recipe}" if checked.card else "no model card"
    typer.echo(f"{weights}: version {checked.version}, {origin}")
    Console().print(metrics_table({"measured": metrics}, show_book_accuracy=True))
    for sentence in meaning_of(checked, metrics):
        typer.echo(sentence)
    if plot is not None:
        typer.echo(f"drew {plot}")
