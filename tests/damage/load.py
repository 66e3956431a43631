"""`python -m tests.damage.load N`: load every Nth damaged file, as a process that may die of it.

For each file it writes one line before it loads it, `> NAME`, and one with the outcome as JSON.
The process has a gibibyte of address space more than it needs, and five seconds a file.
"""

import json
import os
import resource
import shutil
import signal
import sys
import time
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from tests.damage import corpus_with_tables
from tests.damage.archive import arrays
from training.errors import MennyError
from training.proof.answers import Codes, load_table, table_path
from training.weights import SHIPPED_WEIGHTS, load_weights

SECONDS = 5
MEMORY = 2**30


def load(path: Path) -> dict[str, object]:
    """Try to load a file; returns what became of it."""
    _forget_peak()
    before = _status("VmRSS")
    began = time.perf_counter()
    signal.alarm(SECONDS)
    try:
        weights = load_weights(path)
        beside = table_path(path)
        table = load_table(beside, weights.sha256) if os.path.lexists(beside) else None
    except MennyError as error:
        outcome: dict[str, object] = {"error": str(error), "kind": type(error).__name__}
    else:
        same = weights.parameters.keys() == arrays().keys() and all(
            np.array_equal(values, arrays()[name]) for name, values in weights.parameters.items()
        )
        outcome = {"same": same and (table is None or np.array_equal(table.codes, codes()))}
    finally:
        signal.alarm(0)
    seconds = time.perf_counter() - began
    return outcome | {"seconds": seconds, "kib": _status("VmHWM") - before}


@cache
def codes() -> Codes:
    """Those of the whole table."""
    return load_table(table_path(SHIPPED_WEIGHTS), load_weights(SHIPPED_WEIGHTS).sha256).codes


def _forget_peak() -> None:
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def _status(name: str) -> int:
    """KiB; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def main() -> None:
    """Load the corpus, in the current folder's `one`, which is made anew for each file."""
    arrays()
    codes()
    folder = Path("one")
    if size := _status("VmSize"):
        limit = size * 1024 + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for damaged in islice(corpus_with_tables(), 0, None, int(sys.argv[1])):
        folder.mkdir()
        path = folder.resolve() / "menny.npz"
        damaged.make(path)
        print(f"> {damaged.name}", flush=True)
        outcome = {"name": damaged.name, "says": damaged.says} | load(path)
        print(json.dumps(outcome), flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
