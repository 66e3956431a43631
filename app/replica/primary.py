"""The service that is followed, as an HTTP client sees it; nothing that it sends is believed."""

import hashlib
import time

import httpx
from pydantic import ValidationError

from app.errors import PrimaryError
from app.jobs.job import ActiveVersion
from app.jobs.parts import MAX_SIZES, Part
from training.weights.untrusted import words_of

FETCH_S = 60.0
"""Seconds that a whole answer may take, however its bytes trickle in."""
_TIMEOUT = httpx.Timeout(5, connect=2)
_MAX_ANNOUNCEMENT = 16 * 2**10


class Primary:
    """Asks a service at `url`; every method raises `PrimaryError` and may take `FETCH_S`."""

    def __init__(
        self, url: str, token: str | None, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url
        headers = {"Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            base_url=url,
            headers=headers,
            timeout=_TIMEOUT,
            transport=transport,
            verify=httpx.create_ssl_context(),  # SSL_CERT_FILE names a CA of one's own
            trust_env=False,  # neither proxies nor .netrc
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def ask(self, known: str | None) -> tuple[ActiveVersion, str | None] | None:
        """What is active there, and its ETag; `None` if it is what `known`, an ETag, stands for."""
        headers = {} if known is None else {"If-None-Match": known}
        response, content = self._get("/models/active", _MAX_ANNOUNCEMENT, headers)
        if response.status_code == httpx.codes.NOT_MODIFIED and known is not None:
            return None
        self._expect_ok(response)
        try:
            return ActiveVersion.model_validate_json(content), response.headers.get("etag")
        except ValidationError as error:
            reason = words_of(error.errors(include_url=False)[0]["msg"])
            raise PrimaryError(f"{self.url} does not say what is active: {reason}") from None

    def fetch(self, version: str, part: Part, sha256: str) -> bytes:
        """A file of a version's, whole and with this SHA-256."""
        response, content = self._get(f"/models/{version}/{part}", MAX_SIZES[part], {})
        self._expect_ok(response)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise PrimaryError(
                f"{self.url} sent other {part} of version {version} than it announced: "
                f"{len(content):,} bytes whose SHA-256 is not {sha256[:12]}..."
            )
        return content

    def _get(
        self, path: str, max_size: int, headers: dict[str, str]
    ) -> tuple[httpx.Response, bytes]:
        deadline = time.monotonic() + FETCH_S
        content = bytearray()
        try:
            with self._http.stream("GET", path, headers=headers) as response:
                for part in response.iter_raw():  # as it was sent: nothing is unpacked here
                    content += part
                    if len(content) > max_size:
                        raise PrimaryError(
                            f"{self.url}{path} is larger than {max_size:,} bytes: it can't be "
                            "Menny's"
                        )
                    if time.monotonic() > deadline:
                        raise PrimaryError(f"{self.url}{path} took longer than {FETCH_S:.0f} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PrimaryError(f"{self.url} can't be asked: {words_of(error)}") from None
        return response, bytes(content)

    def _expect_ok(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == httpx.codes.UNAUTHORIZED:
            raise PrimaryError(
                f"{self.url} does not take the token: set MENNY_READ_TOKEN to the one that it has"
            )
        if status != httpx.codes.OK:
            raise PrimaryError(f"{self.url} answers {status} to {response.request.url.path}")
