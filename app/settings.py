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
    shutdown_timeout_s: int = Field(
        4, ge=1, le=300, description="seconds that open requests get to finish at shutdown"
    )
