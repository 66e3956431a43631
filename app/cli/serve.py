"""`menny serve`: the service itself."""

import errno
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_settings import DotEnvSettingsSource

from app.addresses import is_taken, listen_error
from app.cli.settings import read_settings
from app.logs import trim_stderr
from app.process import prepare, run
from app.settings import Settings, unknown_variables
from app.state import log_state_dir
from app.workers.supervisor import Supervisor
from training.backend import check_device

logger = logging.getLogger("app")


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (127.0.0.1).", metavar="ADDRESS")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on (8000); 0: a free one.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Serve this .npz file, whichever version is active.")
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(metavar="N|auto", help="Processes that answer (1); auto: one a core."),
    ] = None,
    follow: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Answer with the version that the service there does."),
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A file with MENNY_NAME=value lines."),
    ] = None,
) -> None:
    """Serve Menny over HTTP until SIGTERM or Ctrl-C.

    Every setting is also an environment variable, such as MENNY_DEVICE (auto, cpu, gpu),
    MENNY_LOG_LEVEL (debug, info, warning, error) and MENNY_LOG_FORMAT (text, json). A flag wins,
    and the environment wins over --env-file; docs/configuration.md lists them all.

    Example: menny serve --port 8080, then open http://localhost:8080 or see /docs there
    """
    pin_weights = True if weights is not None else None
    settings = _settings(
        env_file,
        host=host,
        port=port,
        weights=weights,
        pin_weights=pin_weights,
        workers=workers,
        follow=follow,
    )
    if fault := listen_error(settings.host, settings.admin_token is not None):
        typer.echo(f"error: {fault}", err=True)
        raise typer.Exit(2)
    check_device(settings.device)
    if settings.log_file is not None:
        trim_stderr(settings.log_max_bytes)
    prepare(settings)
    in_file = DotEnvSettingsSource(Settings, env_file=env_file).env_vars if env_file else {}
    for sentence in unknown_variables([*os.environ, *map(str.upper, in_file)]):
        logger.warning(sentence)
    log_state_dir(settings.state_dir)
    listener = _listen(settings.host, settings.port)
    if settings.workers == 1:
        is_well = run(settings, listener)
    else:
        is_well = Supervisor(settings, listener).run()
    if not is_well:
        raise typer.Exit(1)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, or a sentence that says why there is none."""
    try:
        if port and is_taken(host, port):
            raise OSError(errno.EADDRINUSE, "")
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except socket.gaierror as error:
        sys.exit(f"error: {host!r} is not an address of this machine: {error.strerror}")
    except OSError as error:
        remedy = "; stop what uses it or take another one with --port" if port else ""
        sys.exit(
            f"error: can't listen on {host} port {port}: {os.strerror(error.errno or 0)}{remedy}"
        )
    bound_host, bound_port = listener.getsockname()[:2]
    shown_host = f"[{bound_host}]" if ":" in bound_host else bound_host
    logger.info("listening on http://%s:%d", shown_host, bound_port)
    return listener


def _settings(env_file: Path | None, **flags: Any) -> Settings:
    try:
        return read_settings(_env_file=env_file, **flags)
    except typer.BadParameter:
        if env_file is not None or "MENNY_LOG_FILE" in os.environ:
            # launchd tries again, every ten seconds, for ever
            trim_stderr(Settings.model_fields["log_max_bytes"].default)
        raise
