"""Clients that keep a service busy, each on a connection of its own."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from training.vocabulary import ALPHABET


@dataclass
class Traffic:
    """What the clients saw."""

    answers: list[dict[str, str]] = field(default_factory=list)
    answered: set[int] = field(default_factory=set)  # the numbers of clients
    refused: list[httpx.Response] = field(default_factory=list)
    unconnected: list[httpx.TransportError] = field(default_factory=list)
    failed: list[Exception] = field(default_factory=list)


@asynccontextmanager
async def traffic(url: str, num_clients: int) -> AsyncIterator[Traffic]:
    """Ask random queries from `num_clients` connections until the block is left."""
    seen, is_over = Traffic(), asyncio.Event()

    async def client(number: int) -> None:
        rng = random.Random(number)
        async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:
            while not is_over.is_set():
                query = "".join(rng.choices(ALPHABET, k=rng.randint(1, 5)))
                try:
                    response = await http.post("/transform", json={"query": query})
                except httpx.ConnectError as error:
                    seen.unconnected.append(error)
                    return
                except httpx.HTTPError as error:
                    seen.failed.append(error)
                    return
                if response.status_code == 200:
                    seen.answers.append(response.json())
                    seen.answered.add(number)
                else:
                    seen.refused.append(response)

    clients = [asyncio.create_task(client(number)) for number in range(num_clients)]
    try:
        yield seen
    finally:
        is_over.set()
        await asyncio.gather(*clients)


async def until(condition: Callable[[], bool | Awaitable[bool]], limit_s: float = 60) -> None:
    """Wait until a condition holds; fail after `limit_s`."""
    async with asyncio.timeout(limit_s):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.01)
