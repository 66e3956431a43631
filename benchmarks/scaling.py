"""One process, workers, replicas behind HAProxy, Ray Serve: what more of Menny gives, in turn.

    python -m benchmarks.scaling --rounds 3 --seconds 4 [--workers 2]

wrk drives each at 1 and 64 connections; medians are shown: requests a second, p50 and p99, and the
processor time of all processes but wrk for a request, which other work on the machine moves less.
What is not installed is left out, and said. Everything shares this machine's cores. Linux alone.
"""

import argparse
import importlib.util
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import yaml

from benchmarks.serve import drive

DOCS = Path(__file__).parents[1] / "docs"
CONNECTIONS = (1, 64)
PYTHON = [sys.executable, "-P", "-m"]
START_TIMEOUT_S = 180
READY_S = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}  # by itself 5: a busy machine needs more


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextmanager
def running(command, port, **environment):
    """Run a command until the block is left; yields the URL once Menny answers there."""
    with tempfile.TemporaryDirectory() as state:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(DOCS.parent), "MENNY_STATE_DIR": state}
            | {"MENNY_LOG_LEVEL": "error", "MENNY_PROVE": "never"}
            | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A job in the background of a script would ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        url = f"http://127.0.0.1:{port}"
        begin = time.monotonic()
        try:
            while not is_up(url):
                if time.monotonic() - begin > START_TIMEOUT_S or process.poll() is not None:
                    sys.exit(f"{' '.join(map(str, command))} did not start")
                time.sleep(0.1)
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            finally:
                process.kill()


def is_up(url):
    try:
        return httpx.post(f"{url}/transform", json={"query": "MeM"}).status_code == 200
    except httpx.TransportError:
        return False


def service(*arguments, **environment):
    port = free_port()
    command = [*PYTHON, "app.cli", "serve", "--port", str(port), *arguments]
    return running(command, port, **environment)


@contextmanager
def workers(num_workers):
    with service("--workers", str(num_workers)) as url:
        while httpx.get(f"{url}/health").json()["workers"] < num_workers:
            time.sleep(0.1)
        yield url


@contextmanager
def replicas():
    with ExitStack() as stack:
        token = {"MENNY_READ_TOKEN": "a-token-to-read-with"}
        primary = stack.enter_context(service(**token))
        one, two = (
            stack.enter_context(service("--follow", primary, **token)).removeprefix("http://")
            for _ in range(2)
        )
        port = free_port()
        addresses = {"MENNY_FRONT": f"127.0.0.1:{port}", "MENNY_ONE": one, "MENNY_TWO": two}
        command = ["haproxy", "-db", "-f", str(DOCS / "haproxy.cfg")]
        yield stack.enter_context(running(command, port, **addresses))


@contextmanager
def ray_serve():
    port = free_port()
    configuration = yaml.safe_load((DOCS / "serve_config.yaml").read_text())
    configuration["http_options"] = {"host": "127.0.0.1", "port": port}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(configuration, file)
        file.flush()
        command = [*PYTHON, "ray.serve.scripts", "run", "--app-dir", "/", file.name]
        with running(command, port, RAY_SERVE_ENABLE_HA_PROXY="1", **READY_S) as url:
            time.sleep(20)  # until both replicas are there
            yield url


def processor_seconds():
    """What the processes that this one has started, and those that they have, have used so far."""
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
            used[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
    ours = {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= found
    return sum(used[pid] for pid in ours - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def setups(num_workers):
    """What is measured, by name."""
    found = {"one process": service}
    if num_workers:
        found[f"{num_workers} workers"] = lambda: workers(num_workers)
    if shutil.which("haproxy"):
        found["2 replicas behind HAProxy"] = replicas
    else:
        print("HAProxy is not installed: it is left out")
    if importlib.util.find_spec("ray"):
        found["Ray Serve, 2 replicas"] = ray_serve
    else:
        print("Ray is not installed: it is left out")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--workers", type=int, help="measure `menny serve --workers` as well")
    arguments = parser.parse_args()
    figures = defaultdict(list)
    found = setups(arguments.workers)
    for _ in range(arguments.rounds):
        for name, setup in found.items():
            with setup() as url:
                drive(url, "random.lua", 16, 2)  # warm up
                for connections in CONNECTIONS:
                    before, begin = processor_seconds(), time.monotonic()
                    rate, p50, p99 = drive(url, "random.lua", connections, arguments.seconds)
                    asked = rate * (time.monotonic() - begin)
                    us = (processor_seconds() - before) / asked * 1e6
                    figures[name, connections].append((rate, p50, p99, us))
                    print(f"{name:26} {connections:3} {rate:7.0f}/s {us:6.0f} us", flush=True)
    print("| setup |" + "".join(f" {connections} |" for connections in CONNECTIONS))
    print("|---|" + "---|" * len(CONNECTIONS))
    for name in found:
        cells = ""
        for connections in CONNECTIONS:
            runs = zip(*figures[name, connections], strict=True)
            rate, p50, p99, us = map(statistics.median, runs)
            cells += f" {rate:,.0f}/s, {p50:.1f} / {p99:.1f} ms, {us:.0f} us |"
        print(f"| {name} |{cells}")


if __name__ == "__main__":
    main()
