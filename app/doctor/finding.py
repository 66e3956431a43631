"""What a check has found."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How serious it is: a failure keeps Menny from serving or from being right."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One sentence, and for what is not ok a remedy: a command to paste, or what to do."""

    status: Status
    says: str
    remedy: str | None = None


def ok(says: str) -> Finding:
    """All is as it should be."""
    return Finding(Status.OK, says)


def warn(says: str, remedy: str) -> Finding:
    """She works, but slower or less safely than she could."""
    return Finding(Status.WARN, says, remedy)


def fail(says: str, remedy: str) -> Finding:
    """She can't work like this."""
    return Finding(Status.FAIL, says, remedy)
