"""`python -m benchmarks.soak --seconds 600`: everything at once, for a while; writes its figures.

Clients ask right and wrong things, go away midway, send garbage or half of something, while
weights are swapped by signal and by activation and a short retraining runs now and then. Each
client knows which statuses are right for what it has sent: any other is an unexplained error.
"""

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import numpy as np

from benchmarks.soak_clients import ADMIN, TOKEN, Counts, clients
from tests.service import Service, running_service
from training.rule import RULE

RESULTS = Path(__file__).parent / "results"
SAMPLES = 60
DEADLINE_S = 60
"""Longer than usual: on a machine that is busy with other work 504 would be no one's fault."""


@dataclass
class Sample:
    """What the service held at one moment."""

    second: float
    resident_kib: int
    descriptors: int
    threads: int


@dataclass
class Soak:
    """What a soak has shown."""

    seconds: float
    counts: Counts
    samples: list[Sample] = field(default_factory=list)
    log_complaints: list[str] = field(default_factory=list)
    machine: str = ""

    @property
    def second_half(self) -> list[Sample]:
        """The samples of the second half."""
        return [sample for sample in self.samples if sample.second >= self.seconds / 2]

    def slope(self, name: str) -> float:
        """By how much a figure grew per hour over the second half: least squares."""
        seconds = [sample.second for sample in self.second_half]
        values = [getattr(sample, name) for sample in self.second_half]
        return float(np.polyfit(seconds, values, 1)[0]) * 3600 if len(seconds) > 1 else 0.0

    def growth(self, name: str) -> float:
        """Mean of the last quarter minus that of the one before it."""
        half = [getattr(sample, name) for sample in self.second_half]
        middle = len(half) // 2
        return float(np.mean(half[middle:]) - np.mean(half[:middle]))


def run(seconds: float) -> Soak:
    """Soak a service of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="menny-soak-") as state,
        running_service(
            MENNY_STATE_DIR=state,
            MENNY_ADMIN_TOKEN=TOKEN,
            MENNY_GATE_QUERIES="100",
            MENNY_KEEP_VERSIONS="3",
            MENNY_REQUEST_TIMEOUT_S=str(DEADLINE_S),
        ) as service,
    ):
        service.transform(RULE.example)
        soak = asyncio.run(_soak(service, seconds))
        status = service.stop()
        soak.log_complaints = [
            line for line in service.log.splitlines() if " ERROR " in line or "Traceback" in line
        ]
        if status not in {0, -15}:
            soak.counts.unexplained.append(f"the service ended with {status}")
    return soak


async def _soak(service: Service, seconds: float) -> Soak:
    counts, is_over = Counts(), asyncio.Event()
    soak = Soak(seconds, counts, machine=_machine())
    # The service closes a connection that idles for 5 s: a client must not send on it just then.
    options = {
        "base_url": service.url,
        "timeout": 2 * DEADLINE_S,
        "trust_env": False,
        "limits": httpx.Limits(keepalive_expiry=2),
    }
    async with (
        httpx.AsyncClient(**options) as http,
        httpx.AsyncClient(**options, headers=ADMIN) as admin,
    ):
        tasks = [
            asyncio.create_task(client)
            for client in clients(http, admin, service.process.pid, counts, is_over)
        ]
        began = time.monotonic()
        for number in range(1, SAMPLES + 1):
            await asyncio.sleep(max(0, began + number * seconds / SAMPLES - time.monotonic()))
            soak.samples.append(_look(service.process.pid, time.monotonic() - began))
        is_over.set()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, BaseException):
                counts.unexplained.append(f"a client ended with {outcome!r}")
    return soak


def _look(pid: int, second: float) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return Sample(
        round(second, 1),
        int(fields["VmRSS"].split()[0]),
        len(os.listdir(f"/proc/{pid}/fd")),
        int(fields["Threads"]),
    )


def _machine() -> str:
    return f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def report(soak: Soak) -> str:
    """The figures as Markdown."""
    total = sum(sum(found.values()) for found in soak.counts.seen.values())
    lines = [
        "# A soak",
        "",
        f"`python -m benchmarks.soak --seconds {soak.seconds:g}` on {soak.machine}: "
        f"{total:,} exchanges in {soak.seconds:,.0f} s, "
        f"{len(soak.counts.unexplained)} unexplained errors.",
        "",
        f"Queries had {DEADLINE_S} s for their answers, so that a machine which is busy with other "
        "work does not count as an error.",
        "",
        "| client | what came of it |",
        "| --- | --- |",
        *(
            f"| {name} | {', '.join(f'{what}: {n:,}' for what, n in sorted(found.items()))} |"
            for name, found in sorted(soak.counts.seen.items())
        ),
        "",
        "| of the service | at half-time | at the end | slope over the second half |",
        "| --- | --- | --- | --- |",
    ]
    for name, label in {
        "resident_kib": "resident memory, KiB",
        "descriptors": "descriptors",
        "threads": "threads",
    }.items():
        first, last = (getattr(s, name) for s in (soak.second_half[0], soak.second_half[-1]))
        lines.append(f"| {label} | {first:,} | {last:,} | {soak.slope(name):+,.1f} an hour |")
    problems = soak.counts.unexplained + soak.log_complaints
    return "\n".join([*lines, "", *(f"- {problem}" for problem in problems[:50])]).rstrip() + "\n"


def main() -> None:
    """Soak, write the figures, fail if there is anything unexplained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for soak.md, soak.json")
    options = parser.parse_args()
    soak = run(options.seconds)
    figures = asdict(soak) | {
        "slopes_per_hour": {n: soak.slope(n) for n in asdict(soak.samples[0])}
    }
    (options.out / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
    (options.out / "soak.md").write_text(report(soak))
    print(report(soak))
    if soak.counts.unexplained or soak.log_complaints:
        raise SystemExit("there were unexplained errors")


if __name__ == "__main__":
    main()
