"""What `menny service uninstall --purge` removes: what Menny wrote, and nothing else."""

import glob
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from app.service.definition import LOG_NAME, Definition
from app.service.launchd import CRASH_LOG_NAME
from app.settings import Settings

_STATE = (
    *("admin_token", ".admin_token.*", "menny.sqlite3*", "lock", "jobs.lock", "change.lock"),
    *("versions", "staging", "answers", "replica"),
)


def belongings(definition: Definition | None, log_dir: Path | None) -> dict[Path, Sequence[str]]:
    """The folders that exist, and the patterns of what is Menny's in each."""
    settings = definition.settings if definition else Settings()
    found = {settings.state_dir: _STATE}
    logs = [log_dir / LOG_NAME] if log_dir else []
    if settings.log_file:
        logs.append(settings.log_file)
    for log in logs:
        name = glob.escape(log.name)
        found[log.parent] = (*found.get(log.parent, ()), name, f"{name}.[0-9]*", CRASH_LOG_NAME)
    return {folder: patterns for folder, patterns in found.items() if folder.is_dir()}


def purge(folder: Path, patterns: Iterable[str]) -> str:
    """Remove them, and the folder if nothing else is in it; says what has become of it."""
    try:
        for path in {path for pattern in patterns for path in folder.glob(pattern)}:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        if folder.is_symlink():
            return f"emptied {folder}, which is a link"
        if any(folder.iterdir()):
            return f"kept {folder}, for there are files in it that are not Menny's"
        folder.rmdir()
    except OSError as error:
        return f"could not remove all of {folder}: {error.strerror}"
    return f"removed {folder}"
