"""Where the service is in its life; the server changes it, edge and routes look at it."""

from dataclasses import dataclass


@dataclass
class Lifecycle:
    """Where the service is in its life."""

    is_draining: bool = False
    """It has been told to stop, and `/health` says so."""
    is_closing: bool = False
    """It takes no new connections, and every answer closes its connection."""
    has_failed: bool = False
    """It can't go on: it stops by itself, with a non-zero exit status."""
