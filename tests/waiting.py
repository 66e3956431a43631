"""How tests wait for what another thread or process brings about."""

import time
from collections.abc import Callable

POLL_S = 0.05


def eventually(happened: Callable[[], object], within_s: float = 120) -> None:
    """Wait until something is true; fail after a time that a busy machine does not need."""
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(POLL_S)
