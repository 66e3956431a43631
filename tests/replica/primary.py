"""A primary in this process, honest or not: what it has to say comes over httpx, without a socket.

with primary(tmp_path / "primary") as home, replica(tmp_path / "replica", home) as follower:
    home.versions.activate(home.make(1))
    follower.follow()                            # what its thread does every second
    assert follower.engine.answers == version_of(1)
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from app.errors import ServiceError
from app.replica.follower import Follower
from app.settings import Settings
from tests.jobs.house import Home, ScriptedEngine

URL = "http://127.0.0.1:8000"


class FakePrimary(httpx.BaseTransport):
    """Answers for a `Home`; what `says` returns for a request is said instead of that."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.says: Callable[[httpx.Request], httpx.Response | None] = lambda request: None
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if (said := self.says(request)) is not None:
            return said
        _, _, version, *part = request.url.path.split("/")
        try:
            if version != "active":
                return sent(self.home.versions.read(version, part[0]))
            content = self.home.versions.announce().model_dump_json().encode()
        except ServiceError as error:
            return sent(str(error).encode(), 503)
        etag = hashlib.sha256(content).hexdigest()
        if request.headers.get("if-none-match") == etag:
            return sent(b"", 304)
        return sent(content, etag=etag)

    @property
    def fetched(self) -> list[str]:
        return [path for path in self.asked if path != "/models/active"]


def sent(content: bytes, status: int = 200, **headers: str) -> httpx.Response:
    """An answer whose body comes as it would from a socket."""
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(content))


class Replica(Follower):
    """A follower whose thread the test is; `engine.answers` is what `/transform` would say."""

    def __init__(self, state: Path, transport: FakePrimary, url: str = URL) -> None:
        self.engine = ScriptedEngine()
        super().__init__(Settings(state_dir=state, follow=url), self.engine, transport)
        self._thread.run = lambda: None  # type: ignore[method-assign]
        self.start()


@contextmanager
def replica(state: Path, transport: FakePrimary, url: str = URL) -> Iterator[Replica]:
    follower = Replica(state, transport, url)
    try:
        yield follower
    finally:
        follower.stop()
