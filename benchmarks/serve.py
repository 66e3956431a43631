"""Menny against other servers of the same model and against the wire's limit: `make bench`.

Each server is started in turn and driven by wrk at several numbers of connections; several rounds
are run, and the medians are shown, as are ratios. Everything is on this machine's loopback.

    python benchmarks/serve.py --rounds 3 --seconds 6

`--before PYTHON` runs the Menny of another checkout in turn with this one, by the interpreter that
it is installed for.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import httpx

from training.rule import RULE

HERE = Path(__file__).parent
CONNECTIONS = (1, 16, 64, 256)
SERVERS = {
    "raw": ("random.lua", {}),
    "ceiling": ("random.lua", {}),
    "menny": ("random.lua", {}),
    "menny, model": ("random.lua", {"MENNY_ANSWERS": "model"}),
    "naive": ("random.lua", {}),
    "litserve": ("random.lua", {}),
}
LABELS = {
    "raw": "uvicorn, constant answer\n(the wire's limit)",
    "ceiling": "FastAPI, constant answer",
    "menny": "Menny",
    "menny, model": "Menny without her table",
    "naive": "FastAPI, one forward pass\na request",
    "litserve": "LitServe, Menny's forward pass",
    "menny before": "Menny before",
}
"""In the plot."""
START_TIMEOUT_S = 60
BEFORE = "menny before"


@contextmanager
def running(name, environment, python=sys.executable):
    """Start a server; yields its process, its URL and the seconds until its first answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kind = re.split(r"[ ,]", name)[0]
    script = str(HERE / "servers.py")
    command = {
        "menny": [python, "-m", "app.cli", "serve", "--port", str(port)],
        "litserve": [sys.executable, str(HERE / "litserve_server.py"), str(port)],
    }.get(kind, [sys.executable, script, kind, str(port)])
    root = HERE.parent if python == sys.executable else Path(python).parents[2]
    begin = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(root), "MENNY_LOG_LEVEL": "error"} | environment,
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while time.perf_counter() - begin < START_TIMEOUT_S:
            try:
                if httpx.post(f"{url}/transform", json={"query": RULE.example}).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.01)
        else:
            sys.exit(f"{name} did not start")
        yield process, url, time.perf_counter() - begin
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def drive(url, script, connections, seconds):
    """Run wrk; returns requests/s, p50 and p99 in ms."""
    output = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]  # noqa: RUF005
        + ["-s", str(HERE / script), url],
        env=os.environ | {"ALPHABET": " ".join(RULE.alphabet), "MAX_LENGTH": str(RULE.max_length)},
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    ).stdout
    if bad := re.search(r"(Non-2xx.*|Socket errors.*)", output):
        print("    ", bad[0])
    found = re.search(r"Requests/sec:\s+(\S+)", output)
    return float(found[1]), _ms(output, "50%"), _ms(output, "99%")


def _ms(output, percentile):
    number, unit = re.search(rf"{percentile}\s+([\d.]+)(us|ms|s)", output).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def measure(rounds, seconds, servers, before=None):
    """All servers in turn, `rounds` times; medians by server and number of connections."""
    figures, starts = defaultdict(list), defaultdict(list)
    for number in range(rounds):
        for name in servers:
            script, environment = SERVERS.get(name, SERVERS["menny"])
            python = before if name == BEFORE else sys.executable
            with running(name, environment, python) as (_, url, start):
                starts[name].append(start)
                drive(url, script, 16, 2)  # warm up
                for connections in CONNECTIONS:
                    figures[name, connections].append(drive(url, script, connections, seconds))
                    rate, p50, p99 = figures[name, connections][-1]
                    print(
                        f"round {number + 1}  {name:20} {connections:4} connections "
                        f"{rate:7.0f}/s  p50 {p50:7.2f} ms  p99 {p99:7.2f} ms",
                        flush=True,
                    )
    medians = {
        key: tuple(statistics.median(values) for values in zip(*runs, strict=True))
        for key, runs in figures.items()
    }
    return medians, {name: statistics.median(values) for name, values in starts.items()}


def table(medians, starts, servers):
    """The medians as a Markdown table."""
    head = "".join(f" {connections} |" for connections in CONNECTIONS)
    lines = [f"| server | start s |{head}", "|---|---|" + "---|" * len(CONNECTIONS)]
    for name in servers:
        cells = "".join(
            f" {rate:,.0f}/s, {p50:.1f} / {p99:.1f} ms |"
            for rate, p50, p99 in (medians[name, connections] for connections in CONNECTIONS)
        )
        lines.append(f"| {name} | {starts[name]:.2f} |{cells}")
    return "\n".join(lines)


def plot(medians, servers, path):
    """How busy each server can be kept, and how long one client waits; the wire's limit on top."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    busy = [medians[name, 64][0] for name in servers]
    alone = [medians[name, 1][1] for name in servers]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 0.5 * len(servers) + 1.2), sharey=True)
    for axes, values, unit, title in (
        (left, busy, "{:,.0f}/s", "requests a second, 64 clients at once (longer is better)"),
        (right, alone, "{:.2f} ms", "wait for an answer, one client (shorter is better)"),
    ):
        colours = ["tab:orange" if name.startswith("menny") else "tab:grey" for name in servers]
        bars = axes.barh([LABELS[name] for name in servers], values, color=colours)
        axes.bar_label(bars, [unit.format(value) for value in values], padding=3, fontsize=8)
        axes.set_title(title, fontsize=9)
        axes.margins(x=0.2)
        axes.xaxis.set_visible(False)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    left.invert_yaxis()
    figure.savefig(path, bbox_inches="tight", dpi=110)


def measure_memory(num_requests):
    """Resident memory of Menny over many requests, at 64 connections."""
    with running("menny", {}) as (process, url, _):
        done = 0
        while done < num_requests:
            begin = time.perf_counter()
            rate, _, _ = drive(url, "random.lua", 64, 20)
            done += int(rate * (time.perf_counter() - begin))
            status = Path(f"/proc/{process.pid}/status").read_text()
            resident = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
            print(f"{done:9,} requests  {resident:6.1f} MB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--servers", nargs="*", default=list(SERVERS), choices=list(SERVERS))
    parser.add_argument("--before", metavar="PYTHON", help="another checkout's .venv/bin/python")
    parser.add_argument("--memory", type=int, metavar="REQUESTS", help="measure memory instead")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not on the PATH (on Debian: apt install wrk; on macOS: brew install wrk)")
    if arguments.memory:
        measure_memory(arguments.memory)
        return
    servers = [*arguments.servers, BEFORE] if arguments.before else arguments.servers
    medians, starts = measure(arguments.rounds, arguments.seconds, servers, arguments.before)
    arguments.out.mkdir(exist_ok=True)
    text = table(medians, starts, servers)
    print(text)
    (arguments.out / "serve.md").write_text(text + "\n")
    (arguments.out / "serve.json").write_text(
        json.dumps({f"{name}, {c}": values for (name, c), values in medians.items()}, indent=1)
    )
    plot(medians, servers, arguments.out / "serve.png")


if __name__ == "__main__":
    main()
