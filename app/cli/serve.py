"""`menny`: the command line. Exit status 0, 1 for a failure, 2 for wrong usage."""

import errno
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app.cli import admin
from app.cli.service import service_cli
from app.settings import Settings, complaint_about
from training.commands.train import dataset_command, evaluate_command, train_command
from training.commands.verify import verify_command
from training.errors import MennyError, VocabularyError
from training.vocabulary import MAX_QUERY_LENGTH, check_query
from training.weights import SHIPPED_WEIGHTS, load_weights

cli = typer.Typer(
    help="Menny, a tiny Transformer: up to five letters in, as many vowels of the opposite case "
    "out.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
cli.command(name="train")(admin.train)
cli.command(name="evaluate")(evaluate_command)
cli.command(name="verify")(verify_command)
cli.command(name="dataset")(dataset_command)
cli.command(name="token")(admin.token)
cli.add_typer(admin.jobs_cli, name="jobs")
cli.add_typer(admin.models_cli, name="models")
cli.add_typer(service_cli, name="service")


def main() -> None:
    """Run the command line."""
    try:
        cli()
    except MennyError as error:
        sys.exit(f"error: {error}")
    except ValidationError as error:  # of a `MENNY_*` variable
        sys.exit(f"error: {complaint_about(error)}")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"menny {version('menny')}")
        raise typer.Exit


@cli.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


@cli.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (127.0.0.1).", metavar="ADDRESS")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on (8000); 0: a free one.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The .npz file to serve (the shipped one).")
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A file with MENNY_NAME=value lines."),
    ] = None,
) -> None:
    """Serve Menny over HTTP until SIGTERM or Ctrl-C.

    Every setting is also an environment variable, MENNY_PORT for instance; a flag wins, and
    the environment wins over --env-file.

    Example: [bold]menny serve --port 8080[/bold], then
    [bold]curl localhost:8080/transform --json '{"query": "MeM"}'[/bold]
    """
    flags: dict[str, Any] = {"host": host, "port": port, "weights": weights}
    given = {name: value for name, value in flags.items() if value is not None}
    settings = _settings(given, env_file)

    import uvicorn

    from app.http.binding import fault_of
    from app.http.connection import Limits, limited_protocol
    from app.http.descriptors import room_for_connections
    from app.http.observability import configure_logging
    from app.http.server import Server
    from app.log_file import BoundedFileHandler, trim_stderr
    from app.main import create_app
    from app.state import log_state_dir

    if fault := fault_of(settings):
        typer.echo(f"error: {fault}", err=True)
        raise typer.Exit(2)

    log_file = None
    if settings.log_file is not None:
        trim_stderr(settings.log_max_bytes)
        log_file = BoundedFileHandler(
            settings.log_file, settings.log_max_bytes, settings.log_backups
        )
    configure_logging(settings.log_level, settings.log_format, log_file)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a model to replace
    signal.signal(signal.SIGTERM, _end)
    room = room_for_connections(settings.max_connections)
    if room < settings.max_connections:
        logging.getLogger("app").warning(
            "there are file descriptors for %d connections, not for %d: raise `ulimit -Hn`",
            room,
            settings.max_connections,
        )
    log_state_dir(settings.state_dir)
    listener = _listen(settings.host, settings.port)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=limited_protocol(replace(Limits.of(settings), max_connections=room)),
        ws="none",
        timeout_keep_alive=settings.keep_alive_s,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
    )
    # The engine's thread asks for the interpreter after each forward pass: don't let it wait the
    # event loop's usual 5 ms. Measured at 64 connections: 4 % more requests, p99 down by 10 %.
    sys.setswitchinterval(0.001)
    with suppress(KeyboardInterrupt):  # the server has shut down, then raises the signal again
        Server(config, app.state.lifecycle).run(sockets=[listener])


@cli.command()
def chat(
    weights: Annotated[Path, typer.Option(help="The .npz file to talk to.")] = SHIPPED_WEIGHTS,
) -> None:
    """Talk to Menny: the book's interactive session.

    Up to five letters at each prompt; [bold]q[/bold] or Ctrl-D leaves.

    Example: [bold]menny chat[/bold]
    """
    if not weights.exists():
        typer.echo(f"There are no weights in {weights}.")
        if not typer.confirm("Train Menny now? It takes a minute", default=True):
            raise typer.Exit(1)
        train_command(out=weights)

    from app.inference.decoding import Prompt
    from app.inference.engine import engine_of

    with engine_of(load_weights(weights)) as engine:
        while True:
            try:
                query = input(f"Enter your prompt (max {MAX_QUERY_LENGTH} chars, q to quit): ")
                if query == "q":
                    break
                typer.echo(f"Menny: {engine.answer(Prompt(check_query(query))).response}")
            except VocabularyError as error:
                typer.echo(f"Sorry, {error}.")
            except (EOFError, KeyboardInterrupt):
                typer.echo()
                break


def _settings(flags: dict[str, Any], env_file: Path | None) -> Settings:
    """Flags and `MENNY_*` variables, or a sentence that names the one that makes no sense."""
    try:
        return Settings(_env_file=env_file, **flags)
    except ValidationError as error:
        if "MENNY_LOG_FILE" in os.environ:  # launchd tries again, every ten seconds, for ever
            from app.log_file import trim_stderr

            trim_stderr(Settings.model_fields["log_max_bytes"].default)
        raise typer.BadParameter(complaint_about(error)) from None


def _end(signum: int, _: object) -> None:
    """Stop with exit status 0: SIGTERM is an order, not a failure.

    uvicorn raises the signal again after its own shutdown. A process that dies of it is a failed
    one to launchd (KeepAlive's SuccessfulExit asks for WIFEXITED and status 0), which then starts
    it anew; systemd, and Docker for its PID 1, see no difference.
    """
    raise SystemExit(0)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, or a sentence that says why there is none."""
    from app.http.binding import is_taken

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
    logging.getLogger("app").info("listening on http://%s:%d", shown_host, bound_port)
    return listener


if __name__ == "__main__":
    main()
