"""Every knob of the service: the `MENNY_*` environment variables, or a flag of `menny serve`."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from training.weights import SHIPPED_WEIGHTS


class Settings(BaseSettings):
    """Validated once at start-up, then frozen."""

    model_config = SettingsConfigDict(env_prefix="MENNY_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    weights: Path = Field(SHIPPED_WEIGHTS, description="the weights file to serve")
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="where MLX computes; auto is MLX's own choice"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least severe log lines to show"
    )
    log_format: Literal["text", "json"] = Field("text", description="how log lines are written")
    access_log: bool = Field(False, description="log a line for every request")
    max_batch: int = Field(64, ge=1, le=256, description="most queries in one forward pass")
    batch_wait_ms: float = Field(
        0, ge=0, le=1000, description="milliseconds to wait for a batch to fill"
    )
    max_queue: int = Field(
        4096, ge=1, le=1_000_000, description="most queries that wait; beyond it, 503"
    )
    request_timeout_s: float = Field(
        10, gt=0, le=3600, description="seconds until an unanswered request gets 504"
    )
    cache_size: int = Field(
        0, ge=0, le=10_000_000, description="answers to remember; 0 turns the cache off"
    )
    shutdown_timeout_s: int = Field(
        3, ge=1, le=300, description="seconds that open requests get to finish at shutdown"
    )
