"""Where Menny keeps what lives (jobs, versions, the admin token) unless MENNY_STATE_DIR says so."""

import logging
import os
import sys
from pathlib import Path

from platformdirs.macos import MacOS
from platformdirs.unix import Unix

logger = logging.getLogger(__name__)

_OLD_NAME = ".menny"


def default_state_dir(platform: str | None = None) -> Path:
    """An absolute path, the same from whatever folder Menny is called; nothing is made.

    In a checkout it is the checkout's own `.menny/`, where Menny is installed the user's data
    directory, as this platform has it or that of a name of `sys.platform`.
    """
    return state_dir_of(Path(__file__).resolve().parent.parent, platform or sys.platform)


def state_dir_of(root: Path, platform: str) -> Path:
    """The state directory of a Menny whose `app/` is in `root`.

    A checkout is told by a pyproject.toml beside `app/` that this user may write: in a container,
    or under another user's account, it is as good as installed.
    """
    if os.access(root / "pyproject.toml", os.W_OK):
        return root / _OLD_NAME
    if platform == "darwin":
        return MacOS("Menny", appauthor=False).user_data_path
    return Unix("menny", appauthor=False).user_data_path


def overlooked_state(state_dir: Path) -> str | None:
    """A sentence about a `.menny/` in the current folder that is not the state directory.

    Menny used to take it; now she only says that it is there.
    """
    old = Path.cwd() / _OLD_NAME
    if not old.is_dir() or old.resolve() == state_dir.resolve():
        return None
    return (
        f"{old} is not used, for Menny's state is in {state_dir}: set MENNY_STATE_DIR='{old}' to "
        "use it, or remove it"
    )


def log_state_dir(state_dir: Path) -> None:
    """Log where it is, and an old one that is not used."""
    logger.info("the state directory is %s", state_dir.absolute())
    if overlooked := overlooked_state(state_dir):
        logger.warning("%s", overlooked)
