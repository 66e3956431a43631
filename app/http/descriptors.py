"""File descriptors: a connection takes one, and what else the process opens must find some left."""

import resource

RESERVE = 96
"""For the model, the database, the log, and a training process with its pipes."""
_MOST = 10_240
"""What macOS gives at most where it says that there is no limit (OPEN_MAX)."""


def room_for_connections(wanted: int) -> int:
    """How many connections there may be, `wanted` at most.

    A shell or launchd on a Mac gives a process 256 descriptors, and lets it have more for the
    asking. Each connection counts twice: one that is refused is still open for a moment.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    has = _MOST if soft == resource.RLIM_INFINITY else soft
    can_have = _MOST if hard == resource.RLIM_INFINITY else hard
    needs = min(2 * wanted + RESERVE, can_have)
    if has < needs:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needs, hard))
        has = needs
    return max(1, min(wanted, (has - RESERVE) // 2))
