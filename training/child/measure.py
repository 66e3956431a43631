"""`python -m training.child.measure`: measure weights files, for a program.

The service runs it on a model that a training process has just made: what a model is worth is
never taken on the word of the process that trained it. Writes a `Measurement` a file, as JSON.
"""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict, ValidationError

from training.child.supervision import be_supervised
from training.config import TrainingConfig
from training.errors import MennyError
from training.evaluation import Metrics, evaluate, fresh_dataset
from training.weights import load_weights


class Measurement(BaseModel):
    """What was measured of which file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sha256: str
    metrics: Metrics


def measure_command(
    weights: Annotated[list[Path], typer.Argument(help="The .npz files to measure.")],
    num_queries: Annotated[int, typer.Option(min=1, help="Queries to draw.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the queries.")] = 1,
    not_of: Annotated[
        str | None,
        typer.Option(help="A training configuration as JSON: draw none of its training queries."),
    ] = None,
    supervised: Annotated[
        bool, typer.Option("--supervised", help="End when standard input does.")
    ] = False,
) -> None:
    """Measure weights files on the same fresh queries; write one JSON object a file."""
    if supervised:
        be_supervised()
    from training.backend import mlx_on_this_thread
    from training.model import build_model
    from training.trainer import codes_trained_on, forward_of

    try:
        config = None if not_of is None else TrainingConfig.model_validate_json(not_of)
    except ValidationError:
        raise typer.BadParameter("--not-of is not a training configuration") from None
    dataset = fresh_dataset(
        num_queries,
        np.random.default_rng(seed),
        None if config is None else codes_trained_on(config),
    )
    with mlx_on_this_thread():
        for path in weights:
            checked = load_weights(path)
            metrics = evaluate(forward_of(build_model(checked.parameters)), dataset)
            typer.echo(Measurement(sha256=checked.sha256, metrics=metrics).model_dump_json())


def main() -> None:
    """Measure; exit with 0, 1 for a failure, 2 for wrong usage."""
    try:
        typer.run(measure_command)
    except MennyError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
