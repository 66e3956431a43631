"""What work in the background costs those who ask meanwhile: p99 at a steady 100 requests a second.

    python -m benchmarks.retraining [training|proving] [--rate 100] [--seconds 10] [--rounds 3]

Each round is a service of its own: so many seconds idle, as many while a job trains or a version is
being proven.
Requests are sent when they are due, whether or not earlier ones have been answered, and their
time counts from when they were due (an open loop: a slow answer can't hide the next one).
"""

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.retraining import ADMIN, retrainable_service
from training.rule import RULE

BODY = json.dumps({"query": RULE.example}).encode()
LONG = {"num_samples": 2560, "num_epochs": 700, "promote": "never"}  # the default recipe, longer


class Connections:
    """Keep-alive connections, as many as are needed at once."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._request = (
            f"POST /transform HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(BODY)}\r\n\r\n"
        ).encode() + BODY

    async def ask(self) -> None:
        """One request; raises unless it is answered with 200."""
        reader, writer = await self._connection()
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        await reader.readexactly(length)
        self._idle.append((time.monotonic(), reader, writer))

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The one used last, unless the server may be about to close it: it does after 5 s."""
        if self._idle:
            used, reader, writer = self._idle.pop()
            if time.monotonic() - used < 3:
                return reader, writer
            writer.close()
        return await asyncio.open_connection(*self._address)

    async def close(self) -> None:
        """Close them all."""
        for _, _, writer in self._idle:
            writer.close()
            await writer.wait_closed()


async def measure(url: httpx.URL, rate: float, seconds: float) -> tuple[list[float], int]:
    """Latencies in milliseconds, and how many requests failed."""
    connections = Connections(url.host, url.port or 80)
    latencies: list[float] = []
    failures = 0

    async def ask(due: float) -> None:
        nonlocal failures
        try:
            await connections.ask()
            latencies.append((time.perf_counter() - due) * 1000)
        except (OSError, RuntimeError, asyncio.IncompleteReadError):
            failures += 1

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            due = begin + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(ask(due))
    await connections.close()
    return latencies, failures


def percentiles(latencies: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return cuts[49], cuts[98]


def begin_training(admin: httpx.Client) -> None:
    job = admin.post("/train", json=LONG).raise_for_status().json()["id"]
    while not admin.get(f"/train/{job}").json()["epoch"]:
        time.sleep(0.05)


def begin_proving(admin: httpx.Client) -> None:
    admin.post("/models/shipped/prove").raise_for_status()
    while not admin.get("/models/shipped").json()["proving"]["progress"]:
        time.sleep(0.05)


BEGIN = {"training": begin_training, "proving": begin_proving}


def run(work: str, rate: float, seconds: float, rounds: int) -> None:
    figures: dict[str, list[float]] = {"idle": [], work: []}
    failures = 0
    for number in range(rounds):
        with (
            tempfile.TemporaryDirectory() as state,
            retrainable_service(Path(state)) as service,
            httpx.Client(base_url=service.url, headers=ADMIN, timeout=30, trust_env=False) as admin,
        ):
            url = httpx.URL(service.url)
            asyncio.run(measure(url, rate, 2))  # warm-up
            for phase in figures:
                if phase == work:
                    BEGIN[work](admin)
                latencies, failed = asyncio.run(measure(url, rate, seconds))
                failures += failed
                figures[phase] += latencies
                p50, p99 = percentiles(latencies)
                print(
                    f"round {number + 1}  {phase:8}  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms  "
                    f"max {max(latencies):6.2f} ms  failed {failed}",
                    flush=True,
                )
    (idle_p50, idle_p99), (p50, p99) = map(percentiles, figures.values())
    print(f"{platform.platform()}, {rate:g} requests/s, {rounds} rounds of {seconds:g} s each way")
    print(f"p50 {idle_p50:.2f} -> {p50:.2f} ms, p99 {idle_p99:.2f} -> {p99:.2f} ms")
    print(f"p99 while {work} is {p99 / idle_p99:.2f} x idle; {failures} requests failed")
    sys.exit(failures > 0 or p99 > 3 * idle_p99)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="p99 of /transform, idle and during other work")
    parser.add_argument("work", nargs="?", choices=BEGIN, default="training")
    parser.add_argument("--rate", type=float, default=100, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10, help="of each phase in each round")
    parser.add_argument("--rounds", type=int, default=3, help="idle, then the work")
    options = parser.parse_args()
    run(options.work, options.rate, options.seconds, options.rounds)
