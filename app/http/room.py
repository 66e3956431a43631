"""Who makes room when there are as many connections as there may be."""

from collections.abc import Set as AbstractSet
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.http.connection import LimitedProtocol

SLOW_AFTER_S = 1.0
"""A client that has been waited for this long can be closed to make room."""
SILENT_AFTER_S = 0.1
"""The same for one that has not sent a byte yet."""
_NEEDED = (2, 0.0)
"""The worth of a connection that is not closed to make room."""


def make_room(newcomer: "LimitedProtocol", connections: AbstractSet["LimitedProtocol"]) -> None:
    """Close the connection that can be missed best, or refuse the new one."""
    now = newcomer.loop.time()
    others = connections - {newcomer}
    spare = min(others, key=lambda other: _worth(other, now), default=None)
    if spare is not None and _worth(spare, now) < _NEEDED:
        spare.drop()
    elif len(connections) > 2 * newcomer.limits.max_connections:
        newcomer.drop()
    else:
        newcomer.refuse(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "there are too many connections; try again in a second",
            {"Retry-After": "1"},
        )


def _worth(connection: "LimitedProtocol", now: float) -> tuple[int, float]:
    """The least is closed first: whose client doesn't read, then who was waited for longest."""
    unsent_since = connection.unsent_since
    if unsent_since is not None and now - unsent_since >= SLOW_AFTER_S:
        return 0, unsent_since
    if not (connection.is_idle or connection.is_body_awaited):
        return _NEEDED
    if connection.pending or connection.is_body_awaited:
        patience = SLOW_AFTER_S
    else:  # between two requests it may be closed at any time
        patience = 0 if connection.has_asked else SILENT_AFTER_S
    waited = now - connection.since
    return (1, connection.since) if waited >= patience else _NEEDED
