"""Which names this service goes by, and which pages may change something.

A web page elsewhere can send requests to a service on its visitor's machine, and with DNS rebinding
(a name of its own that suddenly means 127.0.0.1) even read the answers. Both are found out by
headers that a page can't forge: Host has the name that the browser was told, Origin the page's own.
"""

import re
from collections.abc import Iterable

from app.addresses import canonical, is_loopback_address

_HOST = re.compile(
    r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?)(?::[0-9]{0,5})?"
)
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
_OWN_SITE = {b"same-origin", b"none"}
_MAX_KNOWN = 64


class HostRule:
    """The names in a Host header that are this service's own: loopback's, and `allowed`.

    An allowed name is a host name, an address (IPv6 in brackets), `*.example.org` for every name
    below example.org, or `*` for any name at all.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        names = {canonical(name) for name in allowed}
        self._any = "*" in names
        self._exact = frozenset(name for name in names if not name.startswith("*"))
        below = tuple(name[1:] for name in names if name.startswith("*."))
        self._suffixes = (".localhost", *below)
        self._known: set[bytes] = set()

    def is_own(self, host: bytes) -> bool:
        """Whether a Host header names this service. Raises `ValueError` if it is malformed."""
        if host in self._known:
            return True
        found = _HOST.fullmatch(host.decode("latin-1"))
        if found is None:
            raise ValueError("the Host header is not a host name or address")
        name = canonical(found["name"])
        if not (
            self._any
            or name in self._exact
            or name.endswith(self._suffixes)
            or name == "localhost"
            or is_loopback_address(name)
        ):
            return False
        if len(self._known) < _MAX_KNOWN:
            self._known.add(host)
        return True


def is_from_elsewhere(
    method: str,
    host: bytes,
    origin: bytes | None,
    fetch_site: bytes | None,
    allowed_origins: frozenset[bytes],
) -> bool:
    """Whether this would change something and comes from a page that is not ours.

    What is no browser sends neither header, and passes; so does a page on the service's own
    address, whatever the scheme, for a proxy may speak TLS for it.
    """
    if method in _SAFE_METHODS:
        return False
    if origin is None:
        return fetch_site is not None and fetch_site not in _OWN_SITE
    scheme, _, authority = origin.lower().partition(b"://")
    is_own = scheme in {b"http", b"https"} and authority == host.lower()
    return not is_own and origin not in allowed_origins
