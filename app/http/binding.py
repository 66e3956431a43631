"""Where the service may listen, and the names that it goes by there."""

import socket

from app.http.hosts import is_loopback_host
from app.settings import Settings

_EVERYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 - recognised, not bound to


def fault_of(settings: Settings) -> str | None:
    """Why the service must not listen there, or None.

    Whoever opens it to other machines has to choose who its administrators are: a generated token
    is for the account that can read the state directory.
    """
    if is_loopback_host(settings.host) or settings.admin_token is not None:
        return None
    return (
        f"{settings.host or 'an empty host'} can be reached from other machines: set "
        "MENNY_ADMIN_TOKEN to a secret of your own first, or listen on 127.0.0.1"
    )


def is_taken(host: str, port: int) -> bool:
    """Whether somebody accepts connections at one of the host's addresses already.

    To be asked before binding: SO_REUSEADDR lets macOS bind 127.0.0.1:8000 beside another's
    *:8000, whose local clients would then come to us. Raises `OSError` for a host that is none.
    """
    for family, kind, *_, address in socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM
    ):
        with socket.socket(family, kind) as probe:
            probe.settimeout(1)
            if probe.connect_ex(address) == 0:
                return True
    return False


def own_names(settings: Settings) -> tuple[str, ...]:
    """The names besides loopback's that a request may be addressed to."""
    allowed = settings.allowed_hosts
    if settings.host in _EVERYWHERE:
        return allowed
    host = settings.host.partition("%")[0]  # a zone is not part of the name
    return (*allowed, f"[{host}]" if ":" in host else host)
