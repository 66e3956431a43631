"""Checks of the weights, and of what computes with them: precision, graph, training, speed."""

import hashlib
import math
import shlex
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.doctor.finding import Finding, fail, ok, warn
from training.errors import MennyError
from training.proof.answers import load_table, table_path
from training.vocabulary import PADDING, Letters
from training.weights import SHIPPED_WEIGHTS, load_weights

Matrix = npt.NDArray[np.float32]
Logits = npt.NDArray[np.float32]
Forward = Callable[[Letters], Logits]
"""Letters (B, L) to logits (B, L, V)."""

_LARGEST_PRODUCT_ERROR = 5e-5
"""Relative, of sums over 64: float32 stays below 4e-6, TF32's 10-bit mantissas give 5e-4."""
_LARGEST_DIFFERENCE = 1e-4
_LARGEST_SETTLED_SHARE = 0.05
_BATCH = 64
_NOTICEABLE = 1.2


def check_weights(path: Path) -> Finding:
    """Whether the weights load, and what their card has proven of them."""
    try:
        weights = load_weights(path)
    except MennyError as error:
        return fail(str(error), _as_shipped(path) or f"menny train --force --out {_quoted(path)}")
    if weights.card is None:
        return warn(f"{weights.version} has no card", f"menny verify --weights {_quoted(path)}")
    if not weights.is_proven:
        return warn(f"{weights.version} is not proven", f"menny verify --weights {_quoted(path)}")
    return ok(f"{weights.version}, proven on every query that exists")


def check_answers(path: Path) -> Finding:
    """Whether the answer table is there, of these weights, and the one that the proof left."""
    try:
        weights, table = load_weights(path), table_path(path)
        load_table(table, weights.sha256)
    except MennyError as error:
        return warn(
            f"{error}; the model answers without it",
            _as_shipped(path) or f"menny verify --weights {_quoted(path)}",
        )
    found = hashlib.sha256(table.read_bytes()).hexdigest()
    if weights.card is None or weights.card.answers != found:
        return warn(
            f"{table} is not the table that a proof of {weights.version} left",
            f"menny verify --weights {_quoted(path)}",
        )
    return ok("the table of these weights, as their proof left it")


def check_precision(multiply: Callable[[Matrix, Matrix], Matrix]) -> Finding:
    """Whether products of float32 matrices have float32's precision, not TF32's."""
    rng = np.random.default_rng(0)
    left, right = (rng.uniform(0.5, 1, (64, 64)).astype(np.float32) for _ in range(2))
    exact = left.astype(np.float64) @ right.astype(np.float64)
    error = float((abs(multiply(left, right) - exact) / exact).max())
    if not error < _LARGEST_PRODUCT_ERROR:
        return fail(
            f"products of matrices are off by {error:.0e}, as with TF32: Menny's answers can be "
            "closer than that",
            "unset MLX_ENABLE_TF32  # Menny then sets it to 0",
        )
    return ok(f"matrix products are off by {error:.0e} at most, as float32's are")


def check_blas(name: str, reason: str | None) -> Finding:
    """Which BLAS multiplies on the CPU."""
    if reason is None:
        return ok(name)
    return warn(reason, "sudo apt install libgfortran5")


def check_agreement(what: str, one: Forward, other: Forward, queries: Letters) -> Finding:
    """Whether two ways to compute the logits agree on the queries (B, L)."""
    difference = max(
        float(abs(one(part) - other(part)).max()) for part in _batches(queries, _BATCH)
    )
    says = f"{what} differ by {difference:.1e} at most on {len(queries):,} queries"
    if not difference <= _LARGEST_DIFFERENCE:
        return warn(f"{says}: more than {_LARGEST_DIFFERENCE:.0e}", "menny doctor --report")
    return ok(says)


def check_spread(forward: Forward, queries: Letters) -> Finding:
    """How far a batch moves a logit, and how many answers are so close that they are settled alone.

    See `app.inference.model`.
    """
    alone = np.concatenate([forward(query[None]) for query in queries[:1000]])
    together = np.concatenate([forward(part) for part in _batches(queries, _BATCH)])
    spread = float(abs(together[: len(alone)] - alone).max())
    top = np.partition(together, -2, axis=-1)
    margins = top[..., -1] - top[..., -2]  # (B, L)
    is_close = (margins < 8 * max(spread, 1e-6)) & (queries != PADDING)
    share = float(is_close.any(axis=-1).mean())
    says = f"a batch moves logits by {spread:.1e}; {share:.1%} of queries are settled alone"
    if not share < _LARGEST_SETTLED_SHARE:
        return warn(f"{says}, which makes them slow", "unset MLX_ENABLE_TF32")
    return ok(says)


def check_training(train: Callable[[], Mapping[str, npt.NDArray[np.float32]]]) -> Finding:
    """Whether one seed gives the same weights twice, bit by bit."""
    first, second = train(), train()
    different = [name for name in first if first[name].tobytes() != second[name].tobytes()]
    if different:
        return warn(
            f"two trainings with one seed differ, in {different[0]} first",
            "export MENNY_DEVICE=cpu",
        )
    return ok("two trainings with one seed are the same, bit by bit")


def median_seconds(forward: Forward, queries: Letters, repeats: int = 20) -> float:
    """The median time of a forward pass over the queries (B, L), after a first one."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        forward(queries)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def check_speed(seconds: Mapping[str, tuple[float, float]], chosen: str) -> Finding:
    """Which device is faster; `seconds` has the times of 1 and of 64 queries on each.

    `chosen` is the device that serves now.
    """
    says = "; ".join(
        f"{device}: {one * 1e3:.1f} ms for 1 query, {many * 1e3:.1f} ms for 64"
        for device, (one, many) in seconds.items()
    )
    best = min(seconds, key=lambda device: math.prod(seconds[device]))
    if math.prod(seconds[chosen]) > _NOTICEABLE**2 * math.prod(seconds[best]):
        return warn(f"{says}; {chosen} serves, and {best} is faster", f"export MENNY_DEVICE={best}")
    return ok(f"{says}; {chosen} serves")


def _batches(queries: Letters, size: int) -> list[Letters]:
    return [queries[start : start + size] for start in range(0, len(queries), size)]


def _as_shipped(path: Path) -> str | None:
    """What brings the shipped files back, where they are a checkout's."""
    folder = SHIPPED_WEIGHTS.parent
    if path.parent.resolve() != folder.resolve() or not (folder.parent / ".git").exists():
        return None
    return f"git -C {_quoted(folder.parent)} checkout -- {folder.name}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
