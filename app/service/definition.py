"""What a service manager is to run: `menny serve` with a file of settings.

The settings are `MENNY_NAME='value'` lines in a file of their own, which `menny serve --env-file`
reads: one format on every platform, and one that its owner can edit.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import DotEnvSettingsSource

from app.addresses import is_loopback_host
from app.errors import ServiceManagerError
from app.settings import Settings, format_validation_error
from app.state import default_state_dir

LOG_NAME = "menny.log"

_STOP_MARGIN_S = 10
"""On top of what open requests get: to announce the end, and to stop a training job."""
MAX_STOP_S = 300 + _STOP_MARGIN_S
"""What that may come to: MENNY_SHUTDOWN_TIMEOUT_S is 300 at most."""
_PATHS = ("MENNY_STATE_DIR", "MENNY_LOG_FILE", "MENNY_WEIGHTS")


class _GivenSettings(Settings):
    """Settings from what is given alone, whatever the environment of this process is."""

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[Any, ...]:
        return (sources["init_settings"],)


@dataclass(frozen=True)
class Definition:
    """A service, whichever manager runs it."""

    command: tuple[str, ...]
    variables: Mapping[str, str]
    """The MENNY_ variables of its settings, and nothing else; never the admin token."""

    @cached_property
    def settings(self) -> Settings:
        """What the service will make of its variables; raises `ServiceManagerError`."""
        given: dict[str, Any] = {_field_of(name): value for name, value in self.variables.items()}
        try:
            return _GivenSettings(**given)
        except ValidationError as error:
            raise ServiceManagerError(format_validation_error(error)) from None

    @property
    def folders(self) -> tuple[Path, ...]:
        """Those that it writes to, which have to be there before it starts."""
        log_file = self.settings.log_file
        return (self.settings.state_dir, *([log_file.parent] if log_file else []))

    @property
    def stop_timeout_s(self) -> int:
        """How long the service may take to stop before it is killed."""
        return self.settings.shutdown_timeout_s + _STOP_MARGIN_S

    @property
    def url(self) -> str:
        """Where to reach the service from this machine."""
        host = self.settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.settings.port}"


def serve_command(env_file: Path) -> tuple[str, ...]:
    """The Menny that runs now, by an absolute path; -P: no modules from the working directory."""
    return (sys.executable, "-P", "-m", "app.cli", "serve", "--env-file", str(env_file))


def read_env_file(path: Path) -> dict[str, str]:
    """The MENNY_ variables in a file of settings; none if there is no such file."""
    found = DotEnvSettingsSource(Settings, env_file=path, env_file_encoding="utf-8").env_vars
    return {name.upper(): value for name, value in found.items() if value and _is_setting(name)}


def env_file_text(variables: Mapping[str, str]) -> str:
    """The lines that `read_env_file` reads as these variables."""
    return "".join(f"{name}={_quoted(value)}\n" for name, value in sorted(variables.items()))


def define(
    env_file: Path,
    log_dir: Path | None,
    flags: Mapping[str, Any],
    installed: Mapping[str, str] | None = None,
) -> Definition:
    """What is installed already, then the MENNY_ variables that are set here, then the flags.

    Without a `log_dir` the service manager keeps the log. Paths become absolute, for the service
    has another working directory. Raises `ServiceManagerError` for what no service can be.
    """
    variables = {name: value for name, value in (installed or {}).items() if _is_setting(name)}
    variables |= {n.upper(): value for n, value in os.environ.items() if value and _is_setting(n)}
    variables |= {f"MENNY_{name.upper()}": str(value) for name, value in flags.items()}
    # A generated token has its own file, and one that somebody has chosen is not for a second one.
    variables.pop("MENNY_ADMIN_TOKEN", None)
    variables.setdefault("MENNY_STATE_DIR", str(default_state_dir()))
    if log_dir is not None:
        variables.setdefault("MENNY_LOG_FILE", str(log_dir / LOG_NAME))
    for name in set(_PATHS) & variables.keys():
        variables[name] = str(Path(variables[name]).expanduser().absolute())
    for name, value in variables.items():
        if not value.isprintable():
            raise ServiceManagerError(f"{name} has a character that is not printable")
    definition = Definition(serve_command(env_file), variables)
    if definition.settings.port == 0:
        raise ServiceManagerError("a service needs a port that stays: MENNY_PORT can't be 0")
    if not is_loopback_host(definition.settings.host):
        # It would need a token that its owner has chosen, and here none is written down.
        raise ServiceManagerError(
            f"{definition.settings.host} can be reached from other machines, and the service is "
            "for this one: let it listen on 127.0.0.1, behind a proxy of yours that others ask"
        )
    return definition


def _quoted(value: str) -> str:
    """As python-dotenv reads it; `${` would begin a variable, whose default is written instead."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("${", "${:-$}{")
    return f"'{escaped}'"


def _is_setting(name: str) -> bool:
    return name.upper().startswith("MENNY_") and _field_of(name) in Settings.model_fields


def _field_of(name: str) -> str:
    return name.lower().removeprefix("menny_")
