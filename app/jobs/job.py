"""What is said of jobs and versions: the models that SQLite keeps and the wire carries."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    computed_field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.jobs.parts import Part
from training.config import RECIPES, Recipe, TrainingConfig, recipe_config
from training.evaluation import Metrics
from training.proof.check import Proof
from training.weights import ModelCard

MAX_QUERIES = 2_000_000
"""Queries that one job may train on, all epochs together: about a quarter of an hour."""

MAX_STEPS = 20_000
"""Optimizer steps of one job: small batches cost as much as large ones."""


class JobState(StrEnum):
    """Where a job is. The last four are ends, and have a reason."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def has_ended(self) -> bool:
        """Nothing will change any more."""
        return self not in {JobState.QUEUED, JobState.RUNNING}


JobPhase = Literal["starting", "training", "saving", "checking", "promoting"]
"""What a running job does, in this order."""


class Promote(StrEnum):
    """When the new version is to replace the active one."""

    IF_BETTER = "if_better"
    NEVER = "never"
    ALWAYS = "always"


class JobRequest(BaseModel):
    """What to train; what is left out is the recipe's."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [{}, {"seed": 7, "promote": "never"}],
            "x-recipes": {name.value: RECIPES[name].model_dump(mode="json") for name in Recipe},
        },
    )

    recipe: Recipe = Field(Recipe.DEFAULT, description="what to start from")
    num_samples: int | None = Field(
        None, strict=True, ge=5, le=100_000, description="queries an epoch draws"
    )
    num_epochs: int | None = Field(
        None, strict=True, ge=1, le=1_000, description="passes over the data"
    )
    batch_size: int | None = Field(
        None, strict=True, ge=1, le=1_024, description="queries in a step"
    )
    learning_rate: float | None = Field(
        None, strict=True, gt=0, le=1, description="Adam's peak learning rate"
    )
    seed: int | None = Field(
        None, strict=True, ge=0, lt=2**32, description="of the data and first weights"
    )
    resample: bool | None = Field(
        None, strict=True, description="draw the training part anew each epoch"
    )
    promote: Promote = Field(
        Promote.IF_BETTER,
        description="activate the new version if it passes the gate, never, or whatever it is like",
    )

    def config(self) -> TrainingConfig:
        """The whole configuration; raises `ValueError` where the parts don't go together."""
        changes = self.model_dump(exclude={"recipe", "promote"}, exclude_none=True)
        try:
            config = recipe_config(self.recipe, **changes)
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"]
            raise ValueError(message.removeprefix("Value error, ")) from None
        num_queries = config.num_samples * config.num_epochs
        if num_queries > MAX_QUERIES:
            raise ValueError(
                f"num_samples x num_epochs is {num_queries:,}, more than {MAX_QUERIES:,}"
            )
        if config.num_steps > MAX_STEPS:
            raise ValueError(
                f"that makes {config.num_steps:,} steps, more than {MAX_STEPS:,}: take a larger "
                "batch_size or fewer num_epochs"
            )
        return config

    @model_validator(mode="after")
    def _config_is_sound(self) -> Self:
        try:
            self.config()
        except ValueError as error:
            raise PydanticCustomError("config", "{reason}", {"reason": str(error)}) from None
        return self


class GateReport(BaseModel):
    """The new version beside the active one, both measured by the service on the same queries."""

    model_config = ConfigDict(frozen=True)

    passed: bool
    verdict: str = Field(description="why, in words")
    min_rule_accuracy: float = Field(description="the floor for rule_accuracy")
    excess_nll_tolerance: float = Field(
        description="by how much excess_nll may be above the active version's, nats a letter"
    )
    candidate: Metrics = Field(description="the new version, on queries it was not trained on")
    active: Metrics | None = Field(description="the active version; null if there was none")
    active_version: str | None


class Job(BaseModel):
    """A training job."""

    model_config = ConfigDict(frozen=True)

    id: int
    state: JobState
    phase: JobPhase | None = Field(None, description="what it does while it is running")
    reason: str | None = Field(None, description="how it ended, in words")
    recipe: Recipe
    config: TrainingConfig = Field(description="the recipe with the changes asked for")
    promote: Promote
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    progress: float = Field(0, description="share of the epochs done, 0 to 1")
    epoch: int = Field(0, description="epochs done")
    loss: float | None = Field(None, description="of the latest epoch, nats a letter")
    validation: Metrics | None = Field(None, description="after the latest epoch")
    eta_seconds: float | None = Field(None, description="until training ends; null if unknown")
    version: str | None = Field(None, description="the version it made")
    promoted: bool = Field(False, description="whether that version was activated")
    gate: GateReport | None = Field(None, description="how that version was judged")


class Proving(BaseModel):
    """A proof that is on its way, or could not be finished."""

    model_config = ConfigDict(frozen=True)

    progress: float = Field(description="share of the queries that were asked, 0 to 1")
    fault: str | None = Field(None, description="why there is no verdict, if it has ended")


class Version(BaseModel):
    """A model that the service has."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    version: str = Field(description="the first 12 digits of the weights file's SHA-256")
    active: bool = Field(description="whether it is the one to serve, now and after a restart")
    shipped: bool = Field(description="whether it came with the service; can't be deleted")
    created: datetime | None
    job: int | None = Field(None, description="the job that made it")
    card: ModelCard | None = Field(None, description="null for a file without a model card")
    proof: Proof | None = Field(
        None,
        description="what asking every query that exists has shown, by `menny verify` or in the "
        "background, where the first violation ends it; null without a verdict",
    )
    proving: Proving | None = Field(
        None, description="while it is being proven, and if it can't be"
    )

    @computed_field(  # type: ignore[prop-decorator]
        description="whether these weights were asked every query that exists, and keep the rule"
    )
    @property
    def proven(self) -> bool:
        """Whether the verdict is that they do."""
        return self.proof is not None and self.proof.holds


@dataclass(frozen=True)
class VersionRow:
    """A version that has a row: what the database knows of it beside its file and card."""

    version: str
    created: datetime | None
    """`None` where the row makes no sense."""
    job: int | None
    """The job that made it; `None` for a file that was found without a row."""


Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class ActiveVersion(BaseModel):
    """The version that answers, as a replica follows it."""

    model_config = ConfigDict(frozen=True)

    version: str = Field(description="the first 12 digits of `weights`", pattern="^[0-9a-f]{12}$")
    generation: int = Field(
        ge=1,
        le=2**53 - 1,
        description="rises at each activation, also at that of an older version",
    )
    weights: Sha256 = Field(description="SHA-256 of the weights file")
    card: Sha256 | None = Field(description="SHA-256 of the model card, if there is one")
    answers: Sha256 | None = Field(description="SHA-256 of the answer table, if there is one")
    proof: Proof | None = Field(None, description="what asking it every query has shown")

    @model_validator(mode="after")
    def _is_of_its_weights(self) -> Self:
        if not self.weights.startswith(self.version):
            raise ValueError("the version is not the one of these weights")
        if self.proof is not None and self.proof.sha256 != self.weights:
            raise ValueError("the proof is one of other weights")
        return self

    @property
    def parts(self) -> dict[Part, str]:
        """The SHA-256 of each file that there is."""
        parts: dict[Part, str | None] = {
            "weights": self.weights,
            "card": self.card,
            "answers": self.answers,
        }
        return {part: sha256 for part, sha256 in parts.items() if sha256 is not None}
