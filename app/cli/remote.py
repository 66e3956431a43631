"""A client of a running service: what `menny jobs`, `menny models` and `train --remote` use.

The service speaks of its routes; what people read here speaks of commands.
"""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import httpx
import typer
from httpx_sse import connect_sse
from pydantic import BaseModel, ConfigDict

from app.addresses import is_loopback_host
from app.admin_token import TOKEN_FILE, check_token
from app.cli.settings import client_settings
from app.errors import ServiceError
from app.jobs.job import Job, Version
from app.routes.schemas import JobPage, VersionList
from app.settings import Settings
from training.epoch import Epoch

Url = Annotated[
    str | None,
    typer.Option("--url", help="The service's address (the local one).", metavar="URL"),
]

_TIMEOUT_S = 30.0
_RECONNECTIONS = 5


class RemoteError(ServiceError):
    """The service refused, or can't be reached; says why."""


class _RefusedError(RemoteError):
    """The service answered with an error."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True)
class AdminToken:
    """What guards /train and /models, and where it was found."""

    token: str
    origin: str


class RemoteEvent(BaseModel):
    """News of a job: it as it is, and the epoch that has ended, if that is the news."""

    model_config = ConfigDict(frozen=True)

    job: Job | None = None
    epoch: Epoch | None = None


class Remote:
    """Talks to the service at `url`; every method raises `RemoteError`.

    `is_local` says that a bare `menny` command reaches it too, without --url.
    """

    def __init__(self, url: str, admin: AdminToken, *, is_local: bool) -> None:
        self._url = url
        self._admin = admin
        self._is_local = is_local
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {admin.token}"},
            timeout=_TIMEOUT_S,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def command(self, *words: object) -> str:
        """A command to paste that is about this very service."""
        where = () if self._is_local else ("--url", self._url)
        return shlex.join(["menny", *map(str, words), *where])

    def start_job(self, request: dict[str, Any]) -> Job:
        """Start a job; what isn't in the request is the recipe's."""
        try:
            return Job.model_validate(self._ask("POST", "/train", json=request))
        except _RefusedError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            (running,) = self.jobs(1)
            raise RemoteError(
                f"job {running.id} is running, and there is one at a time: "
                f"`{self.command('jobs', 'watch', running.id)}` waits for its end, "
                f"`{self.command('jobs', 'cancel', running.id)}` ends it"
            ) from None

    def jobs(self, limit: int) -> list[Job]:
        """The newest first."""
        return JobPage.model_validate(self._ask("GET", f"/train?limit={limit}")).jobs

    def job(self, job_id: int) -> Job:
        """One job."""
        return Job.model_validate(self._ask_of_job("GET", job_id))

    def cancel_job(self, job_id: int) -> Job:
        """Cancel a job."""
        return Job.model_validate(self._ask_of_job("DELETE", job_id))

    def versions(self) -> list[Version]:
        """The newest first, the shipped one last."""
        return VersionList.model_validate(self._ask("GET", "/models")).models

    def version(self, name: str) -> Version:
        """The one whose digits begin like that, or the shipped one."""
        versions = self.versions()
        found = [
            version
            for version in versions
            if (version.shipped and name == "shipped")
            or (name and version.version.startswith(name))
        ]
        if len(found) == 1:
            return found[0]
        if not found:
            raise RemoteError(f"there is no version {name}: `{self.command('models')}` lists them")
        which = ", ".join(version.version for version in found)
        raise RemoteError(f"{name} is the beginning of several versions: {which}")

    def activate(self, version: Version) -> Version:
        """Have a version served."""
        return Version.model_validate(self._ask("POST", f"/models/{_name_of(version)}/activate"))

    def delete(self, version: Version) -> None:
        """Delete a version."""
        self._ask("DELETE", f"/models/{_name_of(version)}")

    def watch(self, job_id: int) -> Iterator[RemoteEvent]:
        """News of a job until it has ended; goes on where it was if the connection is cut off."""
        last_id, failures = "", 0
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                with self._stream(f"/train/{job_id}/events", headers) as events:
                    for event in events:
                        failures = 0
                        last_id = event.id or last_id
                        data = json.loads(event.data)
                        if event.event == "epoch":
                            yield RemoteEvent(epoch=Epoch.model_validate(data))
                            continue
                        job = Job.model_validate(data)
                        yield RemoteEvent(job=job)
                        if job.state.has_ended:
                            return
            except httpx.HTTPError as error:
                failures += 1
                if failures > _RECONNECTIONS:
                    raise self._unreachable(error) from error

    @contextmanager
    def _stream(self, path: str, headers: dict[str, str]) -> Iterator[Any]:
        with connect_sse(self._http, "GET", path, headers=headers) as source:
            if source.response.is_error:
                source.response.read()
                raise self._refusal(source.response)
            yield source.iter_sse()

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise self._refusal(response)
        return response.json() if response.content else None

    def _ask_of_job(self, method: str, job_id: int) -> Any:
        try:
            return self._ask(method, f"/train/{job_id}")
        except _RefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            raise RemoteError(
                f"there is no job {job_id}: `{self.command('jobs')}` lists them"
            ) from None

    def _unreachable(self, error: httpx.HTTPError) -> RemoteError:
        return RemoteError(
            f"{self._url} can't be reached: {error}; `menny serve` starts a service here"
        )

    def _refusal(self, response: httpx.Response) -> _RefusedError:
        try:
            detail = str(response.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = f"{response.url} answered {response.status_code}: is it Menny?"
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            detail = (
                f"the service at {self._url} does not know the admin token of "
                f"{self._admin.origin}: set MENNY_STATE_DIR to the folder that it keeps its state "
                "in, or MENNY_ADMIN_TOKEN"
            )
        return _RefusedError(response.status_code, detail)


def open_remote(url: str | None) -> Remote:
    """A client of the service at `url`, the local one by default, with the admin token.

    A token found on this machine is never sent to another one. Raises `RemoteError`.
    """
    settings = client_settings()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    local = f"http://{host}:{settings.port}"
    url = (url or local).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise RemoteError(f"{url!r} is not an address; take one like http://127.0.0.1:8000")
    if settings.admin_token is None and not is_loopback_host(parts.hostname):
        raise RemoteError(f"{url} is another machine: set MENNY_ADMIN_TOKEN to its admin token")
    return Remote(url, admin_token(settings), is_local=url == local)


def admin_token(settings: Settings) -> AdminToken:
    """MENNY_ADMIN_TOKEN, or what a service has written into the state directory.

    Raises `RemoteError` if there is neither.
    """
    if settings.admin_token is not None:
        return AdminToken(settings.admin_token.get_secret_value(), "MENNY_ADMIN_TOKEN")
    path = settings.state_dir.absolute() / TOKEN_FILE
    try:
        token = check_token(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise RemoteError(
            f"there is no admin token in {path} ({error.strerror}): `menny serve` makes one at its "
            "first start; for a service with its state elsewhere set MENNY_STATE_DIR, or "
            "MENNY_ADMIN_TOKEN"
        ) from error
    except ValueError as error:
        raise RemoteError(f"{path} is not what `menny serve` wrote: {error}") from None
    return AdminToken(token, str(path))


def _name_of(version: Version) -> str:
    return "shipped" if version.shipped else version.version
