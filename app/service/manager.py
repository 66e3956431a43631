"""What `menny service` asks of a service manager, whichever it is."""

from abc import ABC, abstractmethod
from pathlib import Path

from app.service.definition import Definition, Folders


class Manager(ABC):
    """launchd or systemd; every method that asks it raises `ServiceManagerError`."""

    name: str
    file: Path
    """The plist or unit file."""
    folders: Folders

    @abstractmethod
    def render(self, definition: Definition) -> bytes:
        """The file that makes this definition a service; touches nothing."""

    @abstractmethod
    def parse(self, content: bytes) -> Definition:
        """The definition in a file of `render`; `ServiceManagerError` if it is not one."""

    @abstractmethod
    def check(self) -> None:
        """Raise unless the manager can be used here and now, with a sentence that says why."""

    @abstractmethod
    def pid(self) -> int | None:
        """The process of the service, if it runs."""

    @abstractmethod
    def failure(self) -> str | None:
        """How the service ended, if it failed and does not run now."""

    @abstractmethod
    def start(self) -> None:
        """Start it, now and whenever the user logs in; a new file is read."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it gently, and wait until it has stopped; nothing if it does not run."""

    @abstractmethod
    def forget(self) -> None:
        """Stop it and remove its file."""

    @abstractmethod
    def log_command(self, definition: Definition, lines: int, follow: bool) -> list[str]:
        """The command that shows the log."""

    @abstractmethod
    def last_words(self, definition: Definition, lines: int) -> list[str]:
        """The last lines of the log, whatever can be had of them."""
