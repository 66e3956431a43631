"""Checks of the network: the port, and localhost by both protocols."""

import socket
from collections.abc import Iterable

from app.doctor.finding import Finding, fail, ok, warn
from app.service.probe import Answer


def check_port(url: str, answer: Answer | None, listener: str) -> Finding:
    """Whether the port is free, or Menny's already. `listener` is who has it, where it is known."""
    if answer is None:
        return ok(f"{url} is free")
    if answer.is_healthy:
        return ok(f"Menny answers at {url} ({answer.summary})")
    if answer.is_menny:
        return warn(f"Menny answers at {url}, but {answer.summary}", "menny service logs")
    return fail(
        f"something else answers at {url} ({answer.summary}){listener}",
        "menny serve --port 8001  # or stop the other: lsof -i :8000",
    )


def addresses_of_localhost() -> set[str]:
    """What `localhost` resolves to here."""
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo("localhost", None)}
    except OSError:
        return set()


def check_localhost(addresses: Iterable[str], has_ipv6: bool) -> Finding:
    """Whether `localhost` is this machine, by IPv4 and by IPv6."""
    found = set(addresses)
    if "127.0.0.1" not in found:
        what = f"resolves to {', '.join(sorted(found))}" if found else "does not resolve"
        return fail(
            f"localhost {what}, not to 127.0.0.1",
            "echo '127.0.0.1 localhost' | sudo tee -a /etc/hosts",
        )
    if "::1" in found and not has_ipv6:
        return warn(
            "localhost resolves to ::1 too, and there is no IPv6: some clients try it first",
            "curl -4 http://localhost:8000/health  # or address 127.0.0.1",
        )
    return ok("localhost is 127.0.0.1" + (" and ::1" if "::1" in found else ""))


def can_listen(address: str) -> bool:
    """Whether a socket can listen at an IPv6 address."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
