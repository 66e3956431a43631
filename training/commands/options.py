"""The options of `menny train`; most are a field of `TrainingConfig` each."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError

from training.config import RECIPES, Recipe, TrainingConfig

DEFAULT_OUT = Path("menny_model_weights.npz")


def _field(name: str) -> Any:
    """An option that says what the field is and what the recipes have there."""
    description = TrainingConfig.model_fields[name].description
    values = ", ".join(f"{recipe}: {getattr(config, name)}" for recipe, config in RECIPES.items())
    return typer.Option(help=f"{description} ({values})")


RecipeName = Annotated[Recipe, typer.Option("--recipe", help="What to start from.")]
Out = Annotated[Path, typer.Option(help="The .npz file to write; its card goes beside it.")]
Force = Annotated[bool, typer.Option("--force", help="Replace even shipped or proven weights.")]
Data = Annotated[
    Path | None,
    typer.Option(help="Train on this .jsonl or .csv dataset instead of generated queries."),
]
NumSamples = Annotated[int | None, _field("num_samples")]
NumEpochs = Annotated[int | None, _field("num_epochs")]
BatchSize = Annotated[int | None, _field("batch_size")]
LearningRate = Annotated[float | None, _field("learning_rate")]
Seed = Annotated[int | None, _field("seed")]
Resample = Annotated[bool | None, _field("resample")]
LabelsPerQuery = Annotated[int | None, _field("labels_per_query")]
HoldOut = Annotated[bool | None, _field("hold_out")]
Shuffle = Annotated[bool | None, _field("shuffle")]
MaskPadding = Annotated[bool | None, _field("mask_padding")]
WarmUpSteps = Annotated[int | None, _field("warm_up_steps")]
Schedule = Annotated[Literal["constant", "cosine"] | None, _field("schedule")]
Beta2 = Annotated[float | None, _field("beta2")]
WeightDecay = Annotated[float | None, _field("weight_decay")]
MaxGradNorm = Annotated[float | None, _field("max_grad_norm")]
EarlyStopping = Annotated[int | None, _field("early_stopping")]
Framework = Annotated[
    Literal["mlx", "torch"], typer.Option(help="What computes; torch is an optional package.")
]
Plot = Annotated[
    Path | None, typer.Option(help="Draw the training curve into this file, .png or .svg.")
]
NumFreshQueries = Annotated[
    int | None,
    typer.Option(min=1, max=10_000_000, help="Queries to measure the result on (20,000)."),
]


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
