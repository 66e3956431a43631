"""`menny doctor`: she examines herself and the machine, and says what would help."""

import json
import platform
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from app.admin_token import TOKEN_FILE
from app.cli.settings import client_settings
from app.doctor.examine import all_checks, examine, quick_checks
from app.doctor.finding import Finding, Status
from app.settings import Settings


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what computes.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Print all of it, to paste into a bug report.")
    ] = False,
) -> None:
    """Examine Menny and this machine, and say what would help.

    One line a check, and below what is not ok the command that would help; exit status 1 if
    something has failed. The report has no paths of your home folder and no token.

    Example: menny doctor --quick
    """
    settings = client_settings()
    checks = quick_checks()
    context: AbstractContextManager[None] = nullcontext()
    if not quick:
        from training.backend import mlx_on_this_thread

        checks, context = all_checks(), mlx_on_this_thread()
    findings: dict[str, Finding] = {}
    with context:
        for name, finding in examine(settings, checks):
            findings[name] = finding
            if not (as_json or report):
                show(name, finding)
    if as_json:
        typer.echo(json.dumps({"version": version("menny"), "checks": findings}, default=vars))
    elif report:
        typer.echo(_without_secrets(_report(findings, settings), settings))
    has_failed = any(finding.status is Status.FAIL for finding in findings.values())
    raise typer.Exit(int(has_failed))


def show(name: str, finding: Finding, *, err: bool = False) -> None:
    """One line, and the remedy below it."""
    typer.echo(f"{finding.status:4}  {name}: {finding.says}", err=err)
    if finding.remedy:
        typer.echo(f"      {finding.remedy}", err=err)


def _report(findings: dict[str, Finding], settings: Settings) -> str:
    lines = [f"menny {version('menny')}, Python {platform.python_version()}, {platform.platform()}"]
    lines += [
        f"set   {name}: {getattr(settings, name)}" for name in sorted(settings.model_fields_set)
    ]
    for name, finding in findings.items():
        lines.append(f"{finding.status:4}  {name}: {finding.says}")
        if finding.remedy:
            lines.append(f"      {finding.remedy}")
    return "\n".join(lines)


def _without_secrets(text: str, settings: Settings) -> str:
    """The text with `~` for the home folder, and without any token."""
    with suppress(OSError):
        token = (settings.state_dir / TOKEN_FILE).read_text(encoding="utf-8").strip()
        text = text.replace(token, "[token]") if token else text
    for home in {Path.home(), Path.home().resolve()} - {Path("/")}:
        text = text.replace(str(home), "~")
    return text
