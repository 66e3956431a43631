"""The files that a command is to write: looked at before the work begins, not after it."""

import os
from contextlib import suppress
from pathlib import Path

import typer

from training.errors import WeightsError
from training.weights import SHIPPED_WEIGHTS, load_weights

PICTURES = (".png", ".svg")


def check_output(option: str, path: Path | None, suffixes: tuple[str, ...] = ()) -> None:
    """Raise `typer.BadParameter` unless a file can be written there; its folder is made.

    `None` is an output that nobody asked for.
    """
    if path is None:
        return
    if suffixes and path.suffix not in suffixes:
        raise typer.BadParameter(f"{option}: {path}: its name ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise typer.BadParameter(f"{option}: {path} is a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(
            f"{option}: the folder {path.parent} can't be made: {error.strerror}"
        ) from None
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{option}: the folder {path.parent} can't be written to")
    if path.exists() and not os.access(path, os.W_OK):
        raise typer.BadParameter(f"{option}: {path} can't be written to")


def check_weights_output(path: Path, *, force: bool) -> None:
    """The same for `--out` of a training; shipped or proven weights are replaced by force alone."""
    check_output("--out", path, (".npz",))
    if force or not path.exists():
        return
    what = "are the shipped weights" if path.samefile(SHIPPED_WEIGHTS) else ""
    with suppress(WeightsError):
        what = what or ("are proven weights" if load_weights(path).is_proven else "")
    if what:
        raise typer.BadParameter(f"--out: {path} {what}: --force replaces them")
