"""A client of a running service: what `menny jobs`, `menny models` and `train --remote` use."""

import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from httpx_sse import connect_sse
from pydantic import BaseModel, ConfigDict

from app.admin_token import TOKEN_FILE
from app.errors import ServiceError
from app.jobs.job import Job, JobState, Version
from app.routes.schemas import JobPage, VersionList
from app.settings import Settings
from training.epoch import Epoch

_TIMEOUT_S = 30.0
_RECONNECTIONS = 5


class RemoteError(ServiceError):
    """The service refused, or can't be reached; says why."""


class RemoteEvent(BaseModel):
    """News of a job: it as it is, and the epoch that has ended, if that is the news."""

    model_config = ConfigDict(frozen=True)

    job: Job | None = None
    epoch: Epoch | None = None


class Remote:
    """Talks to the service at `url`; every method raises `RemoteError`."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=_TIMEOUT_S,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def start_job(self, request: dict[str, Any]) -> Job:
        """Start a job; what isn't in the request is the recipe's."""
        return Job.model_validate(self._ask("POST", "/train", json=request))

    def jobs(self, limit: int) -> list[Job]:
        """The newest first."""
        return JobPage.model_validate(self._ask("GET", f"/train?limit={limit}")).jobs

    def cancel_job(self, job_id: int) -> Job:
        """Cancel a job."""
        return Job.model_validate(self._ask("DELETE", f"/train/{job_id}"))

    def versions(self) -> list[Version]:
        """The newest first, the shipped one last."""
        return VersionList.model_validate(self._ask("GET", "/models")).models

    def activate(self, version: str) -> Version:
        """Have a version served."""
        return Version.model_validate(self._ask("POST", f"/models/{version}/activate"))

    def delete(self, version: str) -> None:
        """Delete a version."""
        self._ask("DELETE", f"/models/{version}")

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
                raise _refusal(source.response)
            yield source.iter_sse()

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise _refusal(response)
        return response.json() if response.content else None

    def _unreachable(self, error: httpx.HTTPError) -> RemoteError:
        return RemoteError(
            f"{self._url} can't be reached: {error}; `menny serve` starts a service here"
        )


def open_remote(url: str | None) -> Remote:
    """A client of the service at `url`, the local one by default, with the admin token.

    The token is MENNY_ADMIN_TOKEN or, for a service on this machine, that of the state directory:
    a token found on this machine is never sent to another one.
    """
    settings = Settings()
    url = (url or f"http://{_bracketed(settings.host)}:{settings.port}").rstrip("/")
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise RemoteError(f"{url!r} is not an address; take one like http://127.0.0.1:8000")
    if settings.admin_token is not None:
        return Remote(url, settings.admin_token.get_secret_value())
    if not _is_loopback(urlsplit(url).hostname or ""):
        raise RemoteError(f"{url} is another machine: set MENNY_ADMIN_TOKEN to its admin token")
    path = settings.state_dir / TOKEN_FILE
    try:
        return Remote(url, path.read_text(encoding="utf-8").strip())
    except OSError as error:
        raise RemoteError(
            f"there is no admin token in {path} ({error.strerror}): run this where the service "
            "runs, or set MENNY_STATE_DIR or MENNY_ADMIN_TOKEN"
        ) from error


def end_of(job: Job) -> str:
    """How a job ended; raises `RemoteError` with that unless it succeeded."""
    sentence = f"job {job.id}: {job.state}: {job.reason}"
    if job.state is not JobState.SUCCEEDED:
        raise RemoteError(sentence)
    return sentence


def _refusal(response: httpx.Response) -> RemoteError:
    try:
        return RemoteError(str(response.json()["detail"]))
    except (ValueError, KeyError, TypeError):
        return RemoteError(f"{response.url} answered {response.status_code}: is it Menny?")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
