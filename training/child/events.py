"""What a training process tells the one that started it: one JSON object a line.

`python -m training --progress json` writes these events to standard output; `parse_event` reads
them on the other side. Both sides share the models here, so that neither can drift.
"""

from typing import Annotated, Literal, TextIO

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from training.errors import TrainingError
from training.evaluation import Metrics

Phase = Literal["training", "saving"]
"""What a training process does, in this order."""


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PhaseEvent(_Event):
    """The process begins with a phase."""

    event: Literal["phase"] = "phase"
    phase: Phase


class EpochEvent(_Event):
    """An epoch has ended."""

    event: Literal["epoch"] = "epoch"
    epoch: int = Field(ge=1, description="counted from 1")
    num_epochs: int = Field(ge=1, description="epochs in the whole run, if it isn't stopped early")
    loss: float = Field(description="mean over the epoch's batches, nats a letter")
    validation: Metrics = Field(description="on the validation part, which is not trained on")
    seconds: float = Field(ge=0, description="since training began")
    seconds_left: float = Field(ge=0, description="until training ends, at the pace so far")


class SavedEvent(_Event):
    """The weights and their card are written, whole."""

    event: Literal["saved"] = "saved"
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the .npz file")


Event = Annotated[PhaseEvent | EpochEvent | SavedEvent, Field(discriminator="event")]

_EVENT: TypeAdapter[PhaseEvent | EpochEvent | SavedEvent] = TypeAdapter(Event)


def parse_event(line: bytes) -> PhaseEvent | EpochEvent | SavedEvent:
    """One line of the stream; raises `TrainingError` for anything else."""
    try:
        return _EVENT.validate_json(line)
    except ValidationError:
        shown = line[:80].decode("utf-8", "replace").strip()
        raise TrainingError(
            f"the training process wrote something that is not progress: {shown!r}"
        ) from None


def write_event(event: PhaseEvent | EpochEvent | SavedEvent, stream: TextIO) -> None:
    """Write one line, at once."""
    print(event.model_dump_json(), file=stream, flush=True)
