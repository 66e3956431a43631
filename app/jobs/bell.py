"""Tells coroutines that something has changed, whichever thread changed it."""

import asyncio
from contextlib import suppress


class Bell:
    """Made on the event loop; rung on any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._next = asyncio.Event()

    def ring(self) -> None:
        """Wake those who wait; does nothing once the loop is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ring)

    def listen(self) -> asyncio.Event:
        """Set by the next ring. To miss nothing: listen, then look, then wait."""
        return self._next

    def _ring(self) -> None:
        self._next.set()
        self._next = asyncio.Event()
