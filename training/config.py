"""What a training run is asked to do, and the two recipes that Menny comes with."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Device = Literal["auto", "cpu", "gpu"]
"""Where MLX computes; `auto` is its own choice."""


class TrainingConfig(BaseModel):
    """One training run, validated and frozen. The defaults are those of the `default` recipe.

    Its weight decay is large on purpose. A letter's answer depends on that letter alone, but with
    little decay attention lets the case of the others leak in, and one query in some thousands,
    such as one upper-case letter among four lower-case ones, is answered against the rule. Decay
    of the layers, but neither of `fc` nor of the last LayerNorms, turns attention off.

    `num_samples` queries are drawn and split 60 / 20 / 20 for training, validation and test (or
    not at all, `hold_out` says). An epoch passes once over the training part, in batches of which
    a last, partial one is dropped.

    A label is one of five at random, so from n of them a letter's distribution can't be learnt to
    less than about 2 / n nats of excess: each query comes with `labels_per_query` labels, which
    ride in the same forward pass and cost next to nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    num_samples: int = Field(1280, ge=5, le=10_000_000, description="queries drawn for an epoch")
    num_epochs: int = Field(50, ge=1, le=100_000, description="passes over the training part")
    batch_size: int = Field(64, ge=1, le=8192, description="queries in a step")
    learning_rate: float = Field(5e-3, gt=0, le=1e6, description="Adam's peak learning rate")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the data and of the first weights")
    resample: bool = Field(True, description="draw the training part anew for each epoch")
    labels_per_query: int = Field(
        8, ge=1, le=1024, description="labels drawn for each query of the training part"
    )
    hold_out: bool = Field(
        True, description="keep 40 % of the queries for validation and test, or train on them too"
    )
    shuffle: bool = Field(True, description="visit the training part in a random order")
    mask_padding: bool = Field(True, description="leave empty positions out of the loss")
    warm_up_steps: int = Field(100, ge=0, le=1_000_000, description="steps of linear warm-up")
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="learning rate after the warm-up: constant, or cosine decay to 0"
    )
    beta2: float = Field(0.95, ge=0, lt=1, description="Adam's decay of squared gradients")
    weight_decay: float = Field(
        1.5,
        ge=0,
        le=100,
        description="AdamW's weight decay of the encoder's and decoder's layers; 0: plain Adam",
    )
    max_grad_norm: float | None = Field(
        1.0, gt=0, le=1e6, description="gradients are scaled down to this norm"
    )
    early_stopping: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="stop after this many epochs without a lower validation excess_nll, "
        "and keep the best epoch's weights",
    )

    @property
    def train_size(self) -> int:
        """Queries in the training part."""
        return self.num_samples * 3 // 5 if self.hold_out else self.num_samples

    @property
    def min_samples(self) -> int:
        """The fewest samples whose training part fills one batch, and that can be split."""
        return max(5, -(-self.batch_size * 5 // 3) if self.hold_out else self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return self.train_size // self.batch_size

    @property
    def num_steps(self) -> int:
        """Optimizer steps in the whole run, if it isn't stopped early."""
        return self.num_epochs * self.steps_per_epoch

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"the training part, {self.train_size} of {self.num_samples} samples, does not "
                f"fill one batch of {self.batch_size}: raise num_samples to {self.min_samples}, "
                "or lower batch_size"
            )
        if self.warm_up_steps > self.num_steps:
            raise ValueError(
                f"warm_up_steps ({self.warm_up_steps}) is longer than the run "
                f"({self.num_steps} steps)"
            )
        if self.early_stopping is not None and not self.hold_out:
            raise ValueError("early_stopping watches the part that hold_out keeps apart")
        return self


class Recipe(StrEnum):
    """The recipes' names."""

    DEFAULT = "default"
    """What ships."""
    BOOK = "book"
    """What the chapter prints, faults included."""


RECIPES = {
    Recipe.DEFAULT: TrainingConfig(),
    Recipe.BOOK: TrainingConfig(
        num_samples=500,
        num_epochs=100,
        batch_size=64,
        learning_rate=1e-3,
        resample=False,
        labels_per_query=1,
        hold_out=False,  # the chapter measures on what it has trained on
        shuffle=False,
        mask_padding=False,
        warm_up_steps=0,
        schedule="constant",
        beta2=0.999,
        weight_decay=0,
        max_grad_norm=None,
    ),
}


def recipe_config(recipe: Recipe, **changes: object) -> TrainingConfig:
    """The recipe with some fields changed (`None` changes nothing).

    A run that was made shorter warms up for a quarter of its steps at most, unless `warm_up_steps`
    is among the changes.

    Raises pydantic's `ValidationError` (a `ValueError`) for a value out of bounds.
    """
    changed = {name: value for name, value in changes.items() if value is not None}
    fields = RECIPES[recipe].model_dump() | changed
    if "warm_up_steps" in changed:
        return TrainingConfig.model_validate(fields)
    run = TrainingConfig.model_validate(fields | {"warm_up_steps": 0})
    warm_up_steps = min(RECIPES[recipe].warm_up_steps, run.num_steps // 4)
    return run.model_copy(update={"warm_up_steps": warm_up_steps})
