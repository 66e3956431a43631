"""The answer table: size, load, memory, one query, a batch, and `menny verify --table`.

Wall and processor time beside each other: on a busy machine the second one is what it takes.

python benchmarks/table.py
"""

import resource
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from training.proof.answers import load_table, table_path
from training.proof.queries import random_queries
from training.vocabulary import decode_batch
from training.weights import SHIPPED_WEIGHTS, load_weights


def processor_s() -> float:
    """Of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(what: str, function: Callable[[], object], turns: int, each: float = 1) -> None:
    walls, processors = [], []
    for _ in range(turns):
        wall, processor = time.perf_counter(), processor_s()
        function()
        walls.append((time.perf_counter() - wall) / each)
        processors.append((processor_s() - processor) / each)
    figures = (f"{statistics.median(times) * 1e3:12.4f}" for times in (walls, processors))
    print(f"{what:26}", *figures)


def main() -> None:
    path = table_path(SHIPPED_WEIGHTS)
    weights = load_weights(SHIPPED_WEIGHTS)
    table = load_table(path, weights.sha256)
    queries = decode_batch(random_queries(1024, np.random.default_rng(0)))
    command = [sys.executable, "-m", "app.cli", "verify", "--table"]
    tracemalloc.start()
    kept = load_table(path, weights.sha256)
    held, peak = (amount / 1e6 for amount in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    print(f"{path.stat().st_size / 1e3:.0f} kB on disk, {len(kept.codes):,} codes")
    print(f"{held:.1f} MB in memory, {peak:.1f} while it is loaded")
    print(f"{'medians in ms':26}   wall time    processor")
    measure("load and check", lambda: load_table(path, weights.sha256), 15)
    measure("one query", lambda: [table.answer(query) for query in queries], 15, len(queries))
    measure("1,024 queries at once", lambda: [table.answers(queries) for _ in range(50)], 15, 50)
    measure("menny verify --table", lambda: subprocess.run(command, capture_output=True), 5)


if __name__ == "__main__":
    main()
