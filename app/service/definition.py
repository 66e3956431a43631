"""What the service manager is to run: the command, its environment, its folders."""

import ipaddress
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.service.errors import ServiceManagerError
from app.settings import Settings, complaint_about

LOG_NAME = "menny.log"

_STOP_MARGIN_S = 10
"""On top of what open requests get: to announce the end, and to stop a training job."""
MAX_STOP_S = 300 + _STOP_MARGIN_S
"""What that may come to: MENNY_SHUTDOWN_TIMEOUT_S is 300 at most."""


@dataclass(frozen=True)
class Folders:
    """Where a service keeps what it writes."""

    state: Path
    logs: Path | None
    """None: the service manager keeps the log itself."""


@dataclass(frozen=True)
class Definition:
    """A service, whichever manager runs it."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    """The MENNY_ variables, and nothing else; never the admin token."""

    @property
    def settings(self) -> Settings:
        """What the service will make of its environment; raises `ServiceManagerError`."""
        with _environment(self.environment):
            try:
                return Settings()
            except ValidationError as error:
                raise ServiceManagerError(complaint_about(error)) from None

    @property
    def state_dir(self) -> Path:
        """Where it keeps jobs, versions and the admin token."""
        return Path(self.environment["MENNY_STATE_DIR"])

    @property
    def folders(self) -> tuple[Path, ...]:
        """Those that have to be there before it starts."""
        log_file = self.environment.get("MENNY_LOG_FILE")
        return (self.state_dir, Path(log_file).parent) if log_file else (self.state_dir,)

    @property
    def stop_timeout_s(self) -> int:
        """How long the service may take to stop before it is killed."""
        return self.settings.shutdown_timeout_s + _STOP_MARGIN_S

    @property
    def url(self) -> str:
        """Where to reach the service from this machine."""
        host = self.settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.settings.port}"


def this_command() -> tuple[str, ...]:
    """The Menny that runs now, by an absolute path; -P: no modules from the working directory."""
    return (sys.executable, "-P", "-m", "app.cli", "serve")


def define(
    folders: Folders, flags: Mapping[str, Any], installed: Mapping[str, str] | None = None
) -> Definition:
    """What is installed already, then the MENNY_ variables that are set here, then the flags.

    Paths become absolute, for the service has another working directory.
    """
    environment = dict(installed or {})
    for name, value in os.environ.items():
        if value and _field_of(name) in Settings.model_fields:
            environment[name.upper()] = value
    environment |= {f"MENNY_{name.upper()}": str(value) for name, value in flags.items()}
    # A token has no place in a file that others can read: the service has one in its state.
    environment.pop("MENNY_ADMIN_TOKEN", None)
    environment.setdefault("MENNY_STATE_DIR", str(folders.state))
    if folders.logs is not None:
        environment.setdefault("MENNY_LOG_FILE", str(folders.logs / LOG_NAME))
    for name in ("MENNY_STATE_DIR", "MENNY_LOG_FILE", "MENNY_WEIGHTS"):
        if name in environment:
            environment[name] = str(Path(environment[name]).expanduser().absolute())
    for name, value in environment.items():
        if not value.isprintable():
            raise ServiceManagerError(f"{name} has a character that is not printable")
    definition = Definition(this_command(), dict(sorted(environment.items())))
    if definition.settings.port == 0:
        raise ServiceManagerError("a service needs a port that stays: MENNY_PORT can't be 0")
    if not _is_loopback(definition.settings.host):
        # It would need a token that its owner has chosen, and here none is written down.
        raise ServiceManagerError(
            f"{definition.settings.host} can be reached from other machines, and the service is "
            "for this one: let it listen on 127.0.0.1, behind a proxy of yours that others ask"
        )
    return definition


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These MENNY_ variables in place of those that are set here."""
    ours = {name: value for name, value in os.environ.items() if _field_of(name)}
    try:
        for name in ours:
            del os.environ[name]
        os.environ.update(variables)
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(ours)


def _field_of(name: str) -> str:
    return name.lower().removeprefix("menny_") if name.upper().startswith("MENNY_") else ""
