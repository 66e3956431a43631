"""Where the microseconds of one `POST /transform` go: stage upon stage, with a transport in memory.

No socket and no load generator: the request's bytes are given to the connection, and its answer's
bytes are thrown away. Each line adds one stage to the one before it, down from uvicorn with a bare
function, so that the difference is what the stage costs. All take turns; medians of processor time.

    python -m benchmarks.wire
"""

import argparse
import asyncio
import json
import statistics
import time
from itertools import pairwise
from unittest.mock import Mock

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.http.edge import Edge
from app.http.hosts import HostRule
from app.http.lifecycle import Lifecycle
from app.http.server import build_server
from app.inference.answers import Responder
from app.inference.model import Answer, Served
from app.main import create_app
from app.metrics import ServiceMetrics
from app.settings import Settings
from benchmarks.servers import bare
from training.proof.answers import load_table, table_path
from training.rule import RULE
from training.weights import SHIPPED_WEIGHTS, load_weights

HEAD = "POST /transform HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n"
NUM_REQUESTS = 2000
"""A turn."""


def request(path, body):
    """The bytes of a request."""
    head = HEAD.replace("/transform", path)
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


class Transport(asyncio.Transport):
    """Throws away what is written, and counts it."""

    num_bytes = 0

    def write(self, data):
        """Called by the connection."""
        self.num_bytes += len(data)

    def is_closing(self):
        """It never is."""
        return False

    def pause_reading(self):
        """Nothing is read."""

    resume_reading = pause_reading

    def get_write_buffer_size(self):
        """All is taken at once."""
        return 0


def connection_of(protocol, config):
    """A connection of uvicorn's or of ours: what takes a request's bytes, and its transport."""
    config.load()
    state = uvicorn.server.ServerState()
    state.default_headers = [(b"date", b"Wed, 01 Jan 2025 00:00:00 GMT")]
    connection = protocol(config=config, server_state=state, app_state={})
    transport = Transport({})
    connection.connection_made(transport)
    return connection, transport


def stages():
    """The connections, by what the last stage of each is."""
    settings, lifecycle, metrics = Settings(), Lifecycle(), ServiceMetrics()
    edge = Edge(
        bare,
        hosts=HostRule(),
        origins=(),
        max_body_bytes=settings.max_body_bytes,
        metrics=metrics,
        lifecycle=lifecycle,
        access_log=False,
    )
    constant, whole = create_app(settings), create_app(settings)
    weights = load_weights(SHIPPED_WEIGHTS)
    table = load_table(table_path(SHIPPED_WEIGHTS), weights.sha256)
    engine = Mock(served=Served(weights.version, None, table, ""))
    whole.state.responder = Responder(engine, Mock(), metrics, timeout_s=10)
    constant.state.responder = _Constant()
    ours = {
        "limits on a connection": bare,
        "edge": edge,
        "body in, answer out": constant,
        "answer table": whole,
    }
    found = {"uvicorn": connection_of(HttpToolsProtocol, uvicorn.Config(bare, log_config=None))}
    for name, app in ours.items():
        config = build_server(app, settings, lifecycle).config
        found[name] = connection_of(config.http, config)
    return found


class _Constant:
    """As `app.inference.answers.Responder`, but it looks nothing up."""

    async def respond(self, prompts, _):
        return [Answer("uIu", "0123456789ab") for _ in prompts]

    def look_up(self, queries):
        return [("uIu", "0123456789ab") for _ in queries]


def answered(connection):
    """Whether nothing is being answered."""
    return connection.cycle is None or connection.cycle.response_complete


async def turn(connection, transport, data, num_requests):
    """Microseconds of processor time a request takes."""
    begin = time.thread_time()
    for _ in range(num_requests):
        before = transport.num_bytes
        connection.data_received(data)
        # One turn of the loop after another, and no other task in it.
        while transport.num_bytes == before or not answered(connection):  # noqa: ASYNC110
            await asyncio.sleep(0)
    return (time.thread_time() - begin) / num_requests * 1e6


async def measure(data, turns, num_requests):
    """The median of each stage, and of all before it."""
    connections = stages()
    times = {name: [] for name in connections}
    for number in range(turns + 1):
        for name, (connection, transport) in connections.items():
            spent = await turn(connection, transport, data, num_requests)
            if number:  # the first warms up
                times[name].append(spent)
    return {name: statistics.median(values) for name, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=9)
    turns = parser.parse_args().turns
    many = json.dumps({"queries": [RULE.example, *RULE.alphabet[:3]] * 256})
    for path, body, num_requests in (
        ("/transform", json.dumps({"query": RULE.example}), NUM_REQUESTS),
        ("/transform/batch", many, 50),
    ):
        medians = uvloop.run(measure(request(path, body), turns, num_requests))
        print(f"| `{path}` | us | in all |\n|---|---|---|")
        for (_, before), (name, spent) in pairwise([("", 0), *medians.items()]):
            print(f"| {name} | {spent - before:.1f} | {spent:.1f} |")
        print()


if __name__ == "__main__":
    main()
