"""What a child process is told, once, and what it tells: both sides share the models here.

It is told a `Task` as JSON, its one argument; it writes one event a line, as JSON, to standard
output. `parse_event` reads such a line on the other side, which believes none of it.
"""

from pathlib import Path
from typing import Annotated, Literal, TextIO

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from training.config import Device, Recipe, TrainingConfig
from training.epoch import Epoch
from training.errors import TrainingError
from training.evaluation import Metrics
from training.proof.check import Proof


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Task(_Message):
    device: Device = Field("auto", description="where MLX computes")


class TrainingTask(_Task):
    """Train, and write the weights and their card."""

    task: Literal["train"] = "train"
    recipe: Recipe
    config: TrainingConfig
    out: Path
    num_fresh_queries: int = Field(ge=1, description="queries to measure the result on")


class MeasuringTask(_Task):
    """Measure weights files on the same queries, none of which a run of `not_of` trains on."""

    task: Literal["measure"] = "measure"
    weights: list[Path]
    num_queries: int = Field(ge=1)
    seed: int = Field(ge=0)
    not_of: TrainingConfig


class ProvingTask(_Task):
    """Ask a weights file every query there is, or until an answer breaks the rule."""

    task: Literal["prove"] = "prove"
    weights: Path
    cache: Path = Field(description="the folder that keeps the chunks that are done")
    out: Path = Field(description="where the answer table goes, if the weights keep the rule")


AnyTask = TrainingTask | MeasuringTask | ProvingTask

TASK: TypeAdapter[AnyTask] = TypeAdapter(Annotated[AnyTask, Field(discriminator="task")])


class PhaseEvent(_Message):
    """The training process begins with a phase."""

    phase: Literal["training", "saving"]


class SavedEvent(_Message):
    """The weights and their card are written, whole."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the .npz file")


class Measurement(_Message):
    """What was measured of which file."""

    sha256: str
    metrics: Metrics


class ProofEvent(_Message):
    """How far a proof is; at its end with the proof, whose table is written if it holds."""

    done: int = Field(ge=0, description="chunks, those of earlier processes included")
    total: int = Field(ge=1)
    proof: Proof | None = None


Event = PhaseEvent | Epoch | SavedEvent | Measurement | ProofEvent

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)  # no two kinds have the same fields


def parse_event(line: bytes) -> Event:
    """One line of a child's output; raises `TrainingError` that says what it is instead."""
    try:
        return _EVENT.validate_json(line)
    except ValidationError:
        shown = line[:80].decode("utf-8", "replace").strip()
        raise TrainingError(f"something that is not progress: {shown!r}") from None


def write_event(event: Event, stream: TextIO) -> None:
    """Write one line, at once."""
    print(event.model_dump_json(), file=stream, flush=True)
