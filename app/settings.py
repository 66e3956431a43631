"""Every knob of the service: the `MENNY_*` environment variables, or a flag of `menny serve`."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.addresses import check_primary, split_names, split_origins
from app.admin_token import check_token
from app.state import default_state_dir
from training.cores import num_cores
from training.weights import SHIPPED_WEIGHTS

_RETIRED = {"cache_size": "the answer table leaves a cache nothing to do (MENNY_ANSWERS)"}

Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_names)]
Workers = Annotated[int, BeforeValidator(lambda n: num_cores() if n == "auto" else n)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_origins)]


class Settings(BaseSettings):
    """Validated once at start-up, each into its own type, then frozen."""

    model_config = SettingsConfigDict(env_prefix="MENNY_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    workers: Workers = Field(
        1, ge=1, le=256, description="processes that answer on that port; `auto`: one a core"
    )
    weights: Path = Field(SHIPPED_WEIGHTS, description="the weights file to serve")
    pin_weights: bool = Field(
        False,
        description="serve that file whichever version is active; `menny serve --weights` does",
    )
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="where the model computes: `auto` (the faster one), `cpu` or `gpu`"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="the least severe log lines to show: `debug`, `info`, `warning` or `error`",
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="how log lines are written: `text` or `json`"
    )
    access_log: bool = Field(False, description="log a line for every request")
    log_file: Path | None = Field(None, description="where to log to instead of stderr")
    log_max_bytes: int = Field(
        5_000_000, ge=10_000, description="size at which the log file is put aside for a new one"
    )
    log_backups: int = Field(
        3, ge=1, le=100, description="how many log files that were put aside are kept"
    )
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
    answers: Literal["auto", "model"] = Field(
        "auto",
        description="what answers at temperature 0: `auto` (the answer table, if there is a good "
        "one of the weights that serve) or `model`",
    )
    shutdown_timeout_s: int = Field(
        3, ge=1, le=300, description="seconds that open requests get to finish at shutdown"
    )
    exit_when_failing_s: float = Field(
        60,
        ge=0,
        le=86400,
        description="seconds of nothing but failing batches after which the service ends with "
        "status 1, to be started anew; 0: never",
    )

    # --- who may ask, and how much at once ------------------------------------------------------

    allowed_hosts: Names = Field(
        (),
        description="names besides loopback's that requests may be addressed to, comma-separated; "
        "`*.example.org` for all below it, `*` for any",
    )
    cors_origins: Origins = Field(
        (),
        description="origins, such as `https://example.org`, whose pages may ask, comma-separated",
    )
    max_body_bytes: int = Field(
        262_144, ge=1024, le=2**30, description="size of a request's body; beyond it, 413"
    )
    max_header_bytes: int = Field(
        16_384, ge=1024, le=2**20, description="size of a request's headers; beyond it, 431"
    )
    max_connections: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="open connections; beyond it the one that has idled longest is closed, or "
        "the new one gets 503",
    )
    header_timeout_s: float = Field(
        10, gt=0, le=3600, description="seconds that a request's headers may take to arrive"
    )
    body_timeout_s: float = Field(
        30, gt=0, le=3600, description="seconds that a request's body may take to arrive"
    )
    write_timeout_s: float = Field(
        30, gt=0, le=3600, description="seconds that a client may leave an answer untaken"
    )
    keep_alive_s: int = Field(
        75,  # longer than clients and proxies keep one: then it is they who close, between requests
        ge=1,
        le=3600,
        description="seconds that a connection may idle between two requests",
    )

    # --- retraining -----------------------------------------------------------------------------

    state_dir: Path = Field(
        default_factory=default_state_dir,
        description="where jobs, versions and the admin token are kept",
    )
    admin_token: SecretStr | None = Field(
        None,
        description="what guards /train and /models; generated into the state directory if unset",
    )
    keep_versions: int = Field(
        10, ge=1, le=1000, description="versions to keep, besides the active and the shipped one"
    )
    gate_queries: int = Field(
        20_000, ge=100, le=1_000_000, description="fresh queries that the gate measures on"
    )
    gate_rule_accuracy: float = Field(
        1.0, ge=0, le=1, description="the rule_accuracy that a version must reach to be activated"
    )
    gate_excess_nll_tolerance: float = Field(
        0.002,
        ge=0,
        description="nats a letter by which its excess_nll may be above the active version's",
    )
    training_timeout_s: float = Field(3600, gt=0, description="seconds that one job may take")
    prove: Literal["auto", "never"] = Field(
        "auto",
        description="whether a version that serves without a proof is asked every query that "
        "exists, in the background: `auto` or `never`",
    )

    # --- many machines --------------------------------------------------------------------------

    read_token: SecretStr | None = Field(
        None,
        description="what lets replicas read the versions of this service, and lets this one read "
        "those of the service that it follows",
    )
    follow_over_plain_http: bool = Field(
        False, description="let MENNY_FOLLOW be `http://` though it is another machine"
    )
    follow: str | None = Field(
        None,
        description="the service, such as `https://primary:8000`, whose active version this one "
        "answers with, without jobs and versions of its own",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_retired(cls, values: Any) -> Any:
        """A service's env file may be older than its Menny."""
        retired = {f"menny_{field}" for field in _RETIRED}
        return {name: value for name, value in dict(values).items() if name not in retired}

    @field_validator("follow")
    @classmethod
    def _can_be_followed(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url and info.data.get("workers") != 1:
            raise ValueError("a replica is one process: start more of them, without MENNY_WORKERS")
        return url and check_primary(url, info.data.get("follow_over_plain_http", False))

    @field_validator("admin_token", "read_token")
    @classmethod
    def _can_be_sent(cls, token: SecretStr | None) -> SecretStr | None:
        return None if token is None else SecretStr(check_token(token.get_secret_value()))


def format_validation_error(error: ValidationError) -> str:
    """Which variable makes no sense and why, without its value, which may be secret."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = variable_of("_".join(map(str, first["loc"])))
    return f"{name}: {first['msg'].removeprefix('Value error, ')}"


def variable_of(field: str) -> str:
    """The environment variable that sets a field."""
    return f"MENNY_{field.upper()}"


def unknown_variables(names: Iterable[str]) -> list[str]:
    """A sentence for each variable that looks like a setting and is none."""
    sentences = []
    for name in names:
        field = name.lower().removeprefix("menny_")
        if field == name.lower() or field in Settings.model_fields:
            continue
        if field in _RETIRED:
            sentences.append(f"{name} does nothing any more: {_RETIRED[field]}")
            continue
        near = difflib.get_close_matches(field, Settings.model_fields, n=1)
        hint = f": is {variable_of(near[0])} meant?" if near else ""
        sentences.append(f"{name} is not a setting, and does nothing{hint}")
    return sentences
