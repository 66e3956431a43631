"""What is said at the end of an epoch: by the loop, over a pipe, in the database and in JSON."""

from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from training.evaluation import Metrics


class Epoch(BaseModel):
    """Where a training run is, at the end of an epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epoch: int = Field(ge=1, description="counted from 1")
    num_epochs: int = Field(ge=1, description="epochs in the whole run, if it isn't stopped early")
    loss: float = Field(description="mean over the epoch's batches, nats a letter")
    validation: Metrics = Field(description="on the validation part, which is not trained on")
    seconds: float = Field(ge=0, description="since training began")
    seconds_left: float = Field(ge=0, description="until training ends, at the pace so far")
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
