"""The model card: where a weights file comes from, and what was measured of it, as JSON beside it.

A card is optional, for the book's own files have none; where there is one, its SHA-256 must be the
file's.
"""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.config import Recipe, TrainingConfig
from training.errors import WeightsError
from training.evaluation import Metrics
from training.proof.check import Proof
from training.rule import RULE
from training.weights.untrusted import NoFileError, read_file, words_of

MAX_CARD_SIZE = 256 * 2**10
"""Bytes; a card has 2 KiB. Parsed JSON takes up some forty times its size."""


def package_versions(*more: str) -> dict[str, str]:
    """The versions of Python, of the packages that shape a model, and of some `more`."""
    return {
        "menny": version("menny"),
        "mlx": version("mlx"),
        "numpy": version("numpy"),
        "python": platform.python_version(),
        **{package: version(package) for package in more},
    }


class ModelCard(BaseModel):
    """Where a weights file comes from and what was measured of it."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    name: str = "menny"
    created: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    rule: str | None = Field(
        None, description="SHA-256 of the rule that it has learnt; older cards have none"
    )
    num_heads: int | None = Field(None, description="of its attention; older cards don't say")
    recipe: Recipe
    config: TrainingConfig = Field(description="the recipe as it was run, seed included")
    metrics: Metrics = Field(description="on fresh queries, none of which was trained on")
    test_metrics: Metrics = Field(description="on the test part of the dataset")
    training_seconds: float
    parent: str | None = Field(
        None, description="the version that this one was measured against and is to replace"
    )
    versions: dict[str, str] = Field(default_factory=package_versions)
    sha256: str = Field("", description="of the .npz file")
    proof: Proof | None = Field(None, description="what `menny verify` found, if it was run")
    answers: str | None = Field(None, description="SHA-256 of the answer table that it left")

    @property
    def is_of_this_rule(self) -> bool:
        """Whether the model learnt the rule of this checkout, as far as its card says."""
        return self.rule in (None, RULE.sha256) and self.num_heads in (None, RULE.num_heads)

    def proves(self, version: str) -> bool:
        """Whether the weights of this version (or SHA-256) are proven to keep the rule."""
        proof = self.proof
        return (
            proof is not None
            and proof.holds
            and bool(version)
            and (proof.sha256.startswith(version))
        )


def card_path(path: Path) -> Path:
    """Where the card of a weights file is."""
    return path.with_suffix(".json")


def load_card(path: Path) -> ModelCard | None:
    """The card of a weights file, or `None` if there is none; `WeightsError` if it is damaged."""
    try:
        text = read_file(card_path(path), MAX_CARD_SIZE)
    except NoFileError:
        return None
    try:
        card = ModelCard.model_validate_json(text)
        # Written as JSON, NaN and infinity become null: a card that has them is refused here,
        # not where it is shown.
        return ModelCard.model_validate_json(card.model_dump_json())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = words_of(".".join(map(str, first["loc"]))) if first["loc"] else "the file"
        raise WeightsError(
            f"{card_path(path)} is not a model card: {where}: {words_of(first['msg'])}"
        ) from None
