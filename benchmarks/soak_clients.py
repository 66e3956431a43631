"""The clients of the soak. Each does its kind of thing until it is over, and counts what it saw."""

import asyncio
import json
import os
import random
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx

from training.dataset import IS_ALLOWED
from training.rule import RULE
from training.vocabulary import ALPHABET, encode
from training.weights import SHIPPED_WEIGHTS, load_weights

TOKEN = "a-token-for-the-soak"  # noqa: S105 - it guards nothing
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
RETRAINING = {"num_samples": 200, "num_epochs": 2, "batch_size": 64}

_BAD_BODIES = [
    (b"", 422),
    (b"{", 400),
    (b"[1]", 422),
    (b'{"query": ""}', 422),
    (b'{"query": "abcdef"}', 422),
    (b'{"query": "a1"}', 422),
    (b'{"query": 1}', 422),
    (b'{"query": "a", "more": 1}', 422),
    (b'{"query": "a", "temperature": 9}', 422),
    (b"\xff\xfe", 400),
]
_GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /transform HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"\r\n" * 100,
    os.urandom(300),
    b"GET /" + b"a" * 100_000,
]
_HALVES = [
    b"",
    b"POST /transform HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    b"POST /transform HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b'Content-Length: 16\r\n\r\n{"query"',
]
_BODY = json.dumps({"query": RULE.example}).encode()
_WHOLE = (
    b"POST /transform HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


@dataclass
class Counts:
    """What came of what the clients did."""

    seen: dict[str, dict[str, int]] = field(default_factory=dict)
    unexplained: list[str] = field(default_factory=list)

    def expect(self, client: str, response: httpx.Response, *statuses: int) -> bool:
        """Count a response; whether it has one of the statuses that explain themselves."""
        self.note(client, str(response.status_code))
        if response.status_code not in statuses:
            self.unexplained.append(f"{client}: {response.status_code} {response.text[:300]}")
        return response.status_code in statuses

    def note(self, client: str, what: str) -> None:
        """Count what is no response."""
        found = self.seen.setdefault(client, {})
        found[what] = found.get(what, 0) + 1


Step = Callable[[], Awaitable[None]]


def clients(
    http: httpx.AsyncClient,
    admin: httpx.AsyncClient,
    pid: int,
    counts: Counts,
    is_over: asyncio.Event,
) -> list[Coroutine[Any, Any, None]]:
    """All clients, each as a coroutine that ends once it is over."""
    rng = random.Random(0)
    host, port = http.base_url.host, http.base_url.port or 0
    shipped = load_weights(SHIPPED_WEIGHTS).version

    def query() -> str:
        return "".join(rng.choices(ALPHABET, k=rng.randint(1, RULE.max_length)))

    def check(name: str, asked: str, answer: dict[str, Any]) -> None:
        is_right = answer["query"] == asked and len(answer["response"]) == len(asked)
        if answer["model_version"] == shipped:  # those that the soak trains are none too good
            is_right &= bool(IS_ALLOWED[encode(asked), encode(answer["response"])].all())
        if not is_right:
            counts.unexplained.append(f"{name}: {asked} was answered with {answer}")

    async def ask() -> None:
        asked = query()
        response = await http.post("/transform", json={"query": asked})
        if counts.expect("transform", response, 200):
            check("transform", asked, response.json())

    async def ask_many() -> None:
        asked = [query() for _ in range(rng.randint(1, 100))]
        response = await http.post("/transform/batch", json={"queries": asked})
        if counts.expect("batch", response, 200) and len(response.json()["answers"]) != len(asked):
            counts.unexplained.append("batch: another number of answers")

    async def sample() -> None:
        fields = {"query": query(), "temperature": 1.5, "seed": rng.randrange(9)}
        counts.expect("sampling", await http.post("/transform", json=fields), 200)

    async def candidates() -> None:
        fields = {"query": query(), "candidates": 3}
        counts.expect("candidates", await http.post("/transform", json=fields), 200)

    async def ask_wrongly() -> None:
        body, status = rng.choice(_BAD_BODIES)
        headers = {"Content-Type": "application/json"}
        response = await http.post("/transform", content=body, headers=headers)
        counts.expect("bad input", response, status)
        await asyncio.sleep(0.05)

    async def look_around() -> None:
        for path, status in {"/health": 200, "/metrics": 200, "/docs": 200, "/no": 404}.items():
            counts.expect(path, await http.get(path), status)
        counts.expect("no token", await http.get("/train"), 401, 429)
        await asyncio.sleep(0.5)

    async def go_away_midway() -> None:
        _reader, writer = await asyncio.open_connection(host, port)
        writer.write(_WHOLE * rng.randint(1, 3))
        await writer.drain()
        await asyncio.sleep(rng.uniform(0, 0.1))
        writer.transport.abort()  # a reset
        counts.note("gone midway", "done")

    async def send_garbage() -> None:
        await _send("garbage", rng.choice(_GARBAGE))

    async def send_half() -> None:
        await _send("half a request", rng.choice(_HALVES), wait_s=rng.uniform(0, 0.5))

    async def send_slowly() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            for byte in _WHOLE[:-1]:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
            writer.write(_WHOLE[-1:])
            line = await asyncio.wait_for(reader.readline(), 60)
            status = line.split()[1].decode() if line else "closed"
            counts.note("slow", status)
            if status not in {"200", "408", "closed"}:
                counts.unexplained.append(f"slow: {line!r}")
        except OSError:
            counts.note("slow", "closed")  # it took too long
        finally:
            writer.transport.abort()

    async def _send(name: str, data: bytes, wait_s: float = 5) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(data)
            await writer.drain()
            line = await asyncio.wait_for(reader.readline(), wait_s)
            what = line.split()[1].decode() if line else "closed"
            counts.note(name, what)
            if not what.startswith("4") and what != "closed":
                counts.unexplained.append(f"{name}: {line!r}")
        except TimeoutError:
            counts.note(name, "left alone")
        except OSError:
            counts.note(name, "closed")
        finally:
            writer.transport.abort()
        await asyncio.sleep(0.02)

    async def hang_up() -> None:
        os.kill(pid, signal.SIGHUP)
        counts.note("SIGHUP", "sent")
        await asyncio.sleep(5)

    async def activate() -> None:
        models = await admin.get("/models")
        if counts.expect("models", models, 200):
            name = rng.choice(models.json()["models"])["version"]
            # 404: the oldest version is deleted when a job has made a new one.
            counts.expect("activation", await admin.post(f"/models/{name}/activate"), 200, 404)
        await asyncio.sleep(7)

    async def retrain() -> None:
        started = await admin.post("/train", json=RETRAINING | {"seed": rng.randrange(2**31)})
        if counts.expect("retraining", started, 202):
            path = f"/train/{started.json()['id']}"
            for _ in range(600):
                job = (await admin.get(path)).json()
                if job["state"] not in {"queued", "running"}:
                    break
                await asyncio.sleep(0.2)
            counts.note("retraining", job["state"])
            if job["state"] != "succeeded":
                counts.unexplained.append(f"retraining: {json.dumps(job)[:500]}")
        await asyncio.sleep(8)

    async def repeat(step: Step) -> None:
        while not is_over.is_set():
            try:
                await step()
            except (httpx.HTTPError, OSError) as error:
                counts.unexplained.append(f"{step.__name__}: {error!r}")
                await asyncio.sleep(0.1)

    steps: list[tuple[Step, int]] = [
        *((ask, 8), (ask_many, 2), (sample, 2), (candidates, 2), (ask_wrongly, 2)),
        *((look_around, 1), (go_away_midway, 2), (send_garbage, 1), (send_half, 2)),
        *((send_slowly, 2), (hang_up, 1), (activate, 1), (retrain, 1)),
    ]
    return [repeat(step) for step, number in steps for _ in range(number)]
