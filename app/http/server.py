"""The HTTP server, and how it stops: every request that it has accepted gets its answer."""

import asyncio
import gc
import logging
import resource
import socket
from dataclasses import replace
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from app.http.connection import LimitedProtocol, limited_protocol
from app.http.lifecycle import Lifecycle
from app.http.wire import Limits
from app.settings import Settings

logger = logging.getLogger(__name__)

ANNOUNCE_S = 0.2
"""How long everything goes on after a signal, but for `/health`, which says what will come."""
QUIET_S = 1.0
"""How long a connection then has to be quiet before it is closed: busy clients get one more answer,
with which they learn that it is the last one."""
MAX_LAST_REQUESTS_S = 2.0
"""How long is waited for that."""
LOOK_S = 0.05

SEND_BUFFER_BYTES = 128 * 1024
"""What the kernel keeps for a client that doesn't read; by itself it would keep megabytes."""

RESERVED_DESCRIPTORS = 96
"""For the model, the database, the log, and a training process with its pipes."""
_OPEN_MAX = 10_240
"""What macOS gives at most where it says that there is no limit."""

SWEEP_TICKS = 5
"""How often slow clients are looked for, in uvicorn's ticks of 0.1 s."""


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
        gc.enable()

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second until it is to stop."""
        if counter % SWEEP_TICKS == 0:
            self._enforce_deadlines()
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
        for _ in range(round(MAX_LAST_REQUESTS_S / LOOK_S)):
            if not self._is_any_client_between_requests():
                break
            await asyncio.sleep(LOOK_S)
        sweeping = asyncio.create_task(self._enforce_deadlines_to_the_end())
        await super().shutdown(sockets)
        sweeping.cancel()

    async def _enforce_deadlines_to_the_end(self) -> None:
        """No tick comes any more, and no client may hold up the end beyond its time."""
        while True:
            await asyncio.sleep(SWEEP_TICKS / 10)
            self._enforce_deadlines()

    def _enforce_deadlines(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in self._connections():
            connection.enforce_deadlines(now)

    def _is_any_client_between_requests(self) -> bool:
        """One that waits for its answer will get it."""
        now = asyncio.get_running_loop().time()
        return any(one.is_idle and now - one.since < QUIET_S for one in self._connections())

    def _connections(self) -> list[LimitedProtocol]:
        return cast("list[LimitedProtocol]", list(self.server_state.connections))


def build_server(app: ASGIApp, settings: Settings, lifecycle: Lifecycle, **options: Any) -> Server:
    """The server for an application; `options` are more of uvicorn's own."""
    room = room_for_connections(settings.max_connections)
    if room < settings.max_connections:
        logger.warning(
            "there are file descriptors for %d connections, not for %d: raise `ulimit -Hn`",
            room,
            settings.max_connections,
        )
    config = uvicorn.Config(
        app,
        http=limited_protocol(replace(Limits.of(settings), max_connections=room)),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
        **options,
    )
    return Server(config, lifecycle)


def room_for_connections(wanted: int) -> int:
    """How many connections there may be, `wanted` at most.

    A shell or launchd on a Mac gives a process 256 descriptors, and lets it have more for the
    asking. Each connection counts twice: one that is refused is still open for a moment.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    has = _OPEN_MAX if soft == resource.RLIM_INFINITY else soft
    can_have = _OPEN_MAX if hard == resource.RLIM_INFINITY else hard
    needs = min(2 * wanted + RESERVED_DESCRIPTORS, can_have)
    if has < needs:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needs, hard))
        has = needs
    return max(1, min(wanted, (has - RESERVED_DESCRIPTORS) // 2))
