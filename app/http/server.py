"""The HTTP server, and how it stops: every request that it has accepted gets its answer."""

import asyncio
import gc
import socket
from dataclasses import dataclass

import uvicorn

ANNOUNCE_S = 0.2
"""How long everything goes on after a signal, but for `/health`, which says what will come."""
LAST_REQUESTS_S = 0.3
"""How long open connections then have for one more request, with whose answer they are closed."""

SEND_BUFFER_BYTES = 128 * 1024
"""What the kernel keeps for a client that doesn't read; by itself it would keep megabytes."""

SWEEP_TICKS = 5
"""How often slow clients are looked for, in uvicorn's ticks of 0.1 s."""


@dataclass
class Lifecycle:
    """Where the service is in its life."""

    is_draining: bool = False
    """It has been told to stop, and `/health` says so."""
    is_closing: bool = False
    """It takes no new connections, and every answer closes its connection."""
    has_failed: bool = False
    """It can't go on: it stops by itself, with a non-zero exit status."""


class Server(uvicorn.Server):
    """uvicorn, but it announces its end before it closes a connection.

    uvicorn alone closes idle connections at once, also those on which a request is just arriving.
    Here they first learn, with `Connection: close` on an answer, to send no more requests.
    """

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, model and all; called by uvicorn."""
        for listener in sockets or ():  # its connections inherit it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        await super().startup(sockets)
        # What is there now stays for good. Going through it in every full garbage collection
        # would hold up all requests for 80 ms, every second or so at 64 connections.
        gc.collect()
        gc.freeze()

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second until it is to stop."""
        if counter % SWEEP_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                # app.http.connection's have it; importing that here would be a circle
                if enforce := getattr(connection, "enforce_deadlines", None):
                    enforce(now)
        return await super().on_tick(counter) or self._lifecycle.has_failed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then stop; called by uvicorn when a signal has come."""
        self._lifecycle.is_draining = True
        await asyncio.sleep(ANNOUNCE_S)
        # First no new connections, then no old ones: clients that are sent away while they can
        # come back queue up in the kernel, and closing the listener would reset them.
        for server in self.servers:
            server.close()
        self._lifecycle.is_closing = True
        await asyncio.sleep(LAST_REQUESTS_S)
        await super().shutdown(sockets)
