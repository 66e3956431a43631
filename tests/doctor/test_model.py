import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.doctor import computing
from app.doctor.finding import Status
from app.doctor.model import (
    Forward,
    Logits,
    Matrix,
    check_agreement,
    check_answers,
    check_blas,
    check_precision,
    check_speed,
    check_spread,
    check_training,
    check_weights,
    median_seconds,
)
from app.settings import Settings
from training.dataset import generate_queries
from training.errors import ProofError
from training.proof.answers import table_path
from training.vocabulary import Letters
from training.weights import SHIPPED_WEIGHTS, card_path, load_weights, save_weights

QUERIES = generate_queries(500, np.random.default_rng(1))


DEPENDS_ON_THE_MACHINE = (computing.blas, computing.speed)
"""A library may be missing, a GPU may be slower than the CPU."""


def test_the_shipped_weights_are_proven() -> None:
    assert check_weights(SHIPPED_WEIGHTS).status is Status.OK


def test_weights_that_are_missing_fail_and_those_without_a_proof_are_warned_of(
    tmp_path: Path,
) -> None:
    path = tmp_path / "menny.npz"
    missing = check_weights(path)
    assert (missing.status, missing.remedy) == (Status.FAIL, f"menny train --force --out {path}")
    weights = load_weights(SHIPPED_WEIGHTS)
    assert weights.card is not None
    save_weights(path, weights.parameters, weights.card.model_copy(update={"proof": None}))
    unproven = check_weights(path)
    assert (unproven.status, "menny verify" in (unproven.remedy or "")) == (Status.WARN, True)
    path.with_suffix(".json").unlink()
    assert "has no card" in check_weights(path).says


def test_an_answer_table_is_the_proofs_or_it_is_warned_of(tmp_path: Path) -> None:
    assert check_answers(SHIPPED_WEIGHTS).status is Status.OK
    path = tmp_path / "menny_weights.npz"
    path.write_bytes(SHIPPED_WEIGHTS.read_bytes())
    missing = check_answers(path)
    assert (missing.status, "no such file" in missing.says) == (Status.WARN, True)
    assert "menny verify --weights" in (missing.remedy or "")
    table_path(path).write_bytes(table_path(SHIPPED_WEIGHTS).read_bytes())
    assert "not the table that a proof" in check_answers(path).says  # there is no card
    card_path(path).write_bytes(card_path(SHIPPED_WEIGHTS).read_bytes())
    assert check_answers(path).status is Status.OK
    table_path(path).write_bytes(b"damaged")
    assert check_answers(path).status is Status.WARN


def test_git_brings_back_what_was_shipped_where_there_is_a_checkout_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "weights" / "menny.npz"
    monkeypatch.setattr("app.doctor.model.SHIPPED_WEIGHTS", shipped)
    assert check_weights(shipped).remedy == f"menny train --force --out {shipped}"
    assert check_answers(shipped).remedy == f"menny verify --weights {shipped}"
    (tmp_path / ".git").mkdir()
    remedy = f"git -C {tmp_path} checkout -- weights"
    assert check_weights(shipped).remedy == check_answers(shipped).remedy == remedy


def test_a_table_that_answers_otherwise_than_the_model_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def differs(*_: object) -> str:
        raise ProofError("the model answers MeM with uIu, and the table has aIa")

    monkeypatch.setattr(computing, "check_table_of", lambda *_: "")
    monkeypatch.setattr(computing, "ask_again", differs)
    finding = computing.answers(Settings())
    assert (finding.status, "the table has aIa" in finding.says) == (Status.FAIL, True)


def as_tf32(values: Matrix) -> Matrix:
    """Rounded to mantissas of 10 bits, as an M5 or CUDA does before it multiplies."""
    bits = values.view(np.uint32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)).view(np.float32)


def test_products_in_tf32_fail() -> None:
    assert check_precision(lambda left, right: left @ right).status is Status.OK
    finding = check_precision(lambda left, right: as_tf32(left) @ as_tf32(right))
    assert (finding.status, "TF32" in finding.says) == (Status.FAIL, True)
    assert check_precision(lambda left, _: left * np.nan).status is Status.FAIL


def test_the_reference_blas_is_warned_of() -> None:
    assert check_blas("openblas", None).status is Status.OK
    assert check_blas("reference", "OpenBLAS could not be loaded").status is Status.WARN


def logits_of(letters: Letters) -> Logits:
    """Far apart, and the same in any company."""
    rows = np.random.default_rng(0).normal(size=(54, 52)).astype(np.float32) * 10
    return rows[letters.astype(int)]


def off_by(error: float) -> Forward:
    return lambda letters: logits_of(letters) + np.float32(error)


@pytest.mark.parametrize(
    ("error", "status"), [(0.0, Status.OK), (0.01, Status.WARN), (np.nan, Status.WARN)]
)
def test_two_ways_to_compute_that_do_not_agree_are_warned_of(error: float, status: Status) -> None:
    finding = check_agreement("this and that", logits_of, off_by(error), QUERIES)
    assert finding.status is status
    assert "on 500 queries" in finding.says


def test_a_rounding_that_leaves_many_answers_in_doubt_is_warned_of() -> None:
    assert check_spread(logits_of, QUERIES).status is Status.OK

    def noisy(letters: Letters) -> Logits:
        return logits_of(letters) + np.float32(0.3 * (len(letters) > 1))

    assert check_spread(noisy, QUERIES).status is Status.WARN


def test_trainings_that_differ_are_warned_of() -> None:
    assert check_training(lambda: {"fc.weight": np.zeros(3, np.float32)}).status is Status.OK
    numbers: Iterator[int] = itertools.count()
    differing = check_training(lambda: {"fc.weight": np.full(3, next(numbers), np.float32)})
    assert (differing.status, "fc.weight" in differing.says) == (Status.WARN, True)


def test_the_faster_device_is_named_where_another_one_serves() -> None:
    seconds = {"gpu": (0.004, 0.005), "cpu": (0.0005, 0.006)}
    assert check_speed(seconds, "cpu").status is Status.OK
    finding = check_speed(seconds, "gpu")
    assert (finding.status, finding.remedy) == (Status.WARN, "export MENNY_DEVICE=cpu")
    assert check_speed({"gpu": (1.1, 1.1), "cpu": (1.0, 1.0)}, "gpu").status is Status.OK
    assert median_seconds(logits_of, QUERIES[:1], repeats=3) > 0


@pytest.mark.parametrize(
    "check",
    [
        computing.answers,
        computing.precision,
        computing.blas,
        computing.graph,
        computing.devices,
        computing.rounding,
        computing.training,
        computing.speed,
    ],
)
def test_she_finds_herself_well_here(check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "NUM_QUERIES", 256)
    may_be = {Status.OK, Status.WARN} if check in DEPENDS_ON_THE_MACHINE else {Status.OK}
    assert check(Settings()).status in may_be
