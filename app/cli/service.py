"""`menny service`: keep Menny running, with launchd on a Mac and systemd on Linux."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.doctor import show
from app.doctor.examine import checks_for_service, examine
from app.doctor.finding import Status
from app.errors import ServiceManagerError
from app.service import tools
from app.service.belongings import belongings
from app.service.belongings import purge as remove_own
from app.service.definition import (
    MAX_STOP_S,
    Definition,
    define,
    env_file_text,
    read_env_file,
    serve_command,
)
from app.service.manager import (
    Manager,
    ManagerName,
    installed,
    is_installed,
    manager_here,
)
from app.service.manager import install as write_files
from app.service.probe import ask_health, refuse_if_taken, wait_until_healthy
from app.state import default_state_dir

service_cli = typer.Typer(
    help="Keep Menny running: launchd on a Mac, or systemd.",
    no_args_is_help=True,
)

_LAST_LINES = 15


Host = Annotated[
    str | None, typer.Option(help="Address to listen on (127.0.0.1).", metavar="ADDRESS")
]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on (8000).")]
Weights = Annotated[Path | None, typer.Option(help="The .npz file to serve (the shipped one).")]
Workers = Annotated[str | None, typer.Option(metavar="N|auto", help="Processes that answer (1).")]
Timeout = Annotated[
    float, typer.Option(min=1, max=600, help="Seconds to wait until Menny is healthy.")
]
Sandbox = Annotated[
    bool | None,
    typer.Option(help="systemd: a file system of its own, which needs user namespaces (yes)."),
]


@service_cli.command()
def install(
    host: Host = None,
    port: Port = None,
    weights: Weights = None,
    workers: Workers = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what was set at an earlier install.")
    ] = False,
    sandbox: Sandbox = None,
    timeout: Timeout = 60,
) -> None:
    """Install Menny as a service, start it, and wait until it is healthy.

    The MENNY_ variables that are set now go into the service, but for MENNY_ADMIN_TOKEN: the
    service has a token in its state directory. To install again renews the file if it is not as it
    should be; after an upgrade, `menny service restart` has her run the new code.

    Example: menny service install --port 8080
    """
    manager = manager_here(sandbox)
    manager.check()
    before = installed(manager)
    flags = _given(host=host, port=port, weights=weights, workers=workers)
    kept = before.variables if before else read_env_file(manager.env_file)
    definition = define(manager.env_file, manager.log_dir, flags, {} if fresh else kept)
    if "MENNY_ADMIN_TOKEN" in os.environ:
        typer.echo("MENNY_ADMIN_TOKEN is not written down: the service has its own", err=True)
    for name, finding in examine(definition.settings, checks_for_service()):
        if finding.status is not Status.OK:
            show(name, finding, err=True)
    is_same = is_installed(manager, definition)
    if is_same and manager.pid() is not None:
        summary = wait_until_healthy(definition.url, manager.failure, timeout)
        typer.echo(
            f"Menny runs at {definition.url} as before ({summary}); "
            "after an upgrade, `menny service restart` has her run the new code"
        )
        return
    if manager.pid() is None or before is None or before.url != definition.url:
        refuse_if_taken(definition.url)
    if not is_same:
        if replaced := _out_of_date(manager, before):
            typer.echo(f"replacing {replaced}")
        manager.stop(before.stop_timeout_s if before else MAX_STOP_S)
        write_files(manager, definition)
    _start(manager, definition, timeout)
    _show_where(manager, definition)
    _warn_about_logout(manager)


@service_cli.command()
def uninstall(
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove the state and the logs too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before --purge.")] = False,
) -> None:
    """Stop Menny and remove the service; what she has learnt stays, unless --purge is given.

    Example: menny service uninstall
    """
    manager = manager_here()
    manager.check()
    was_there = manager.file.exists()
    definition = installed(manager)
    kept = belongings(definition, manager.log_dir)
    if purge and kept and not yes:
        typer.confirm(f"Remove Menny's files in {' and '.join(map(str, kept))}?", abort=True)
    manager.remove(definition.stop_timeout_s if definition else MAX_STOP_S)
    manager.env_file.unlink(missing_ok=True)
    typer.echo(
        f"the service is removed, {manager.file} with it"
        if was_there
        else "there was no service to remove"
    )
    for folder, patterns in kept.items():
        typer.echo(remove_own(folder, patterns) if purge else f"kept {folder}")


@service_cli.command()
def start(timeout: Timeout = 60) -> None:
    """Start the installed service, and wait until it is healthy."""
    manager, definition = _checked()
    if manager.pid() is None:
        refuse_if_taken(definition.url)
    _start(manager, definition, timeout)


@service_cli.command()
def stop() -> None:
    """Stop the service gently, until `start` or the next login."""
    manager, definition = _checked()
    manager.stop(definition.stop_timeout_s)
    typer.echo("Menny has stopped; she starts again at `menny service start` or the next login")


@service_cli.command()
def restart(timeout: Timeout = 60) -> None:
    """Stop the service gently and start it anew."""
    manager, definition = _checked()
    manager.stop(definition.stop_timeout_s)
    refuse_if_taken(definition.url)
    _start(manager, definition, timeout)


@service_cli.command()
def status() -> None:
    """Show whether the service runs and is healthy; exit status 0 if it is."""
    manager = manager_here()
    manager.check()
    definition = _installed(manager)
    pid, answer = manager.pid(), ask_health(definition.url)
    is_healthy = pid is not None and answer is not None and answer.is_healthy
    running = f"process {pid}" if pid else f"not running ({manager.failure() or 'stopped'})"
    typer.echo(f"{manager.name:8} {running}")
    typer.echo(f"url      {definition.url}")
    typer.echo(f"health   {answer.summary if answer else 'nothing listens there'}")
    if answer and not pid:
        typer.echo("         but that is not the service")
    _show_where(manager, definition)
    if replaced := _out_of_date(manager, definition):
        typer.echo(f"note     `menny service install` renews {replaced}")
    raise typer.Exit(0 if is_healthy else 1)


@service_cli.command()
def logs(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines.")] = False,
) -> None:
    """Show the last lines of the service's log."""
    manager = manager_here()
    command = manager.log_command(_installed(manager), lines, follow)
    program = shutil.which(command[0])
    if program is None:
        raise ServiceManagerError(f"{command[0]}, which shows the log, is not on the PATH")
    sys.stdout.flush()
    os.execv(program, command)  # noqa: S606 - tail or journalctl


@service_cli.command(name="print")
def print_file(
    manager_name: Annotated[
        ManagerName | None, typer.Option("--for", help="Whose file (this machine's).")
    ] = None,
    host: Host = None,
    port: Port = None,
    weights: Weights = None,
    workers: Workers = None,
    sandbox: Sandbox = None,
) -> None:
    """Show the file that `install` would write, on stderr its settings, and touch nothing.

    Example: menny service print --for systemd
    """
    manager = manager_here(sandbox, manager_name)
    flags = _given(host=host, port=port, weights=weights, workers=workers)
    platform = "darwin" if manager.name == "launchd" else "linux"
    defaults = {"MENNY_STATE_DIR": str(default_state_dir(platform))}
    definition = define(manager.env_file, manager.log_dir, flags, defaults)
    typer.echo(f"# {manager.env_file}\n{env_file_text(definition.variables)}", err=True)
    typer.echo(manager.render(definition).decode(), nl=False)


# --- what the verbs have in common --------------------------------------------------------------


def _given(**flags: Any) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _installed(manager: Manager) -> Definition:
    definition = installed(manager)
    if definition is None:
        raise ServiceManagerError(
            f"{manager.file} is not this version's: `menny service install` renews it"
            if manager.file.exists()
            else "the service is not installed: `menny service install` does it"
        )
    return definition


def _checked() -> tuple[Manager, Definition]:
    """The manager and a service that it can start."""
    manager = manager_here()
    manager.check()
    definition = _installed(manager)
    if not Path(definition.command[0]).exists():
        raise ServiceManagerError(
            f"the service would run {definition.command[0]}, which is no longer there: "
            "`menny service install` renews it"
        )
    return manager, definition


def _out_of_date(manager: Manager, definition: Definition | None) -> str | None:
    """What `install` would replace, and why; None if nothing."""
    if definition is None:
        return f"{manager.file}, which is not Menny's" if manager.file.exists() else None
    if definition.command[0] != sys.executable:
        return f"{manager.file}, which runs {definition.command[0]} and not {sys.executable}"
    if not is_installed(manager, replace(definition, command=serve_command(manager.env_file))):
        return f"{manager.file}, which is another version's"
    return None


def _start(manager: Manager, definition: Definition, timeout_s: float) -> None:
    """Start it, wait until it is healthy, and say so; else show the end of its log, and raise."""
    try:
        for folder in (*definition.folders, manager.log_dir):
            if folder:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        manager.start()
        summary = wait_until_healthy(definition.url, manager.failure, timeout_s)
        typer.echo(f"Menny runs at {definition.url} ({summary})")
    except OSError as error:
        raise ServiceManagerError(f"{error.filename} can't be made: {error.strerror}") from error
    except ServiceManagerError:
        words = tools.run_tool(*manager.log_command(definition, _LAST_LINES, follow=False))
        for line in words.stdout.splitlines():
            typer.echo(f"  | {line}", err=True)
        raise


def _show_where(manager: Manager, definition: Definition) -> None:
    settings = definition.settings
    typer.echo(f"file     {manager.file}")
    typer.echo(f"settings {manager.env_file}")
    typer.echo(f"state    {settings.state_dir}")
    typer.echo(f"log      {settings.log_file or 'the journal'}: `menny service logs`")
    is_default = settings.state_dir == default_state_dir()
    where = "" if is_default else f"MENNY_STATE_DIR='{settings.state_dir}' "
    typer.echo(f"token    {where}menny token")


def _warn_about_logout(manager: Manager) -> None:
    user = os.environ.get("USER", "")
    if manager.name == "systemd" and not Path("/var/lib/systemd/linger", user).is_file():
        typer.echo("note     she stops when you log out, unless you run `loginctl enable-linger`")
