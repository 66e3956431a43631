"""Where the service listens, and the names and origins that its settings know."""

import re
import socket
from ipaddress import IPv6Address, ip_address

_PATTERN = re.compile(
    r"\*|(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\]"
)
_ORIGIN = re.compile(r"https?://[^/\s,@?#*]+")
_PRIMARY = re.compile(
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)/?"
)
_EVERYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 - recognised, not bound to


def split_names(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """The names in a comma-separated setting. Raises `ValueError` if one can't be a host's."""
    names = _split(text)
    for name in names:
        if not _PATTERN.fullmatch(name):
            raise ValueError(f"{name!r} is not a host name, an address or *.NAME")
        canonical(name)
    return names


def split_origins(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """The origins in a comma-separated setting. Raises `ValueError` if one can't be an origin."""
    origins = _split(text)
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is not an origin such as https://example.org:8443")
    return origins


def check_primary(url: str, may_be_plain: bool) -> str:
    """The address of a service that can be followed; raises `ValueError` that says why it isn't."""
    found = _PRIMARY.fullmatch(url.strip())
    if found is None:
        raise ValueError(f"{url!r} is not an address such as https://primary.example.org:8000")
    if found["scheme"] == "http" and not (may_be_plain or is_loopback_host(found["host"])):
        raise ValueError(
            f"{url} would send the token and the weights unencrypted: use https, or set "
            "MENNY_FOLLOW_OVER_PLAIN_HTTP=true where nobody can listen or change what is sent"
        )
    return found["origin"]


def _split(text: str | tuple[str, ...]) -> tuple[str, ...]:
    parts = text.split(",") if isinstance(text, str) else text
    return tuple(part for part in map(str.strip, parts) if part)


def is_loopback_host(host: str) -> bool:
    """Whether a name or address to listen on can be reached from this machine alone."""
    try:
        return canonical(host) == "localhost" or is_loopback_address(host)
    except ValueError:  # an address that is none
        return False


def is_loopback_address(name: str) -> bool:
    """Whether this is an address of loopback's; a name is none."""
    try:
        address = ip_address(name.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def canonical(name: str) -> str:
    """A name as DNS compares it; an IPv6 address as it is written shortest.

    Raises `ValueError` for brackets without such an address.
    """
    name = name.lower().removesuffix(".")
    if not name.startswith("["):
        return name
    try:
        return f"[{IPv6Address(name[1:-1])}]"
    except ValueError:
        raise ValueError(f"{name} is not an IPv6 address") from None


def listen_error(host: str, has_own_token: bool) -> str | None:
    """Why the service must not listen on `host`, or None.

    Whoever opens it to other machines has to choose who its administrators are: a generated token
    is for the account that can read the state directory.
    """
    if is_loopback_host(host) or has_own_token:
        return None
    return (
        f"{host or 'an empty host'} can be reached from other machines: set MENNY_ADMIN_TOKEN to a "
        "secret of your own first, or listen on 127.0.0.1"
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


def own_names(host: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The names besides loopback's that a request may be addressed to: `allowed`, and `host`."""
    if host in _EVERYWHERE:
        return allowed
    name = host.partition("%")[0]  # a zone is not part of the name
    return (*allowed, f"[{name}]" if ":" in name else name)
