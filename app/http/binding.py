"""Where the service may listen, and the names that it goes by there."""

from app.http.hosts import is_loopback_host, split_names
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


def own_names(settings: Settings) -> tuple[str, ...]:
    """The names besides loopback's that a request may be addressed to."""
    allowed = split_names(settings.allowed_hosts)
    if settings.host in _EVERYWHERE:
        return allowed
    host = settings.host.partition("%")[0]  # a zone is not part of the name
    return (*allowed, f"[{host}]" if ":" in host else host)
