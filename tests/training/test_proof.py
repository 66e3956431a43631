import json
import math
import multiprocessing
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import combinations_with_replacement, permutations
from pathlib import Path

import numpy as np
import pytest

from tests.waiting import eventually
from training.dataset import generate_queries
from training.errors import MissingPackageError, ProofError, ProofStoppedError, WeightsError
from training.evaluation import Forward
from training.model import build_model
from training.proof.check import SAFETY, Findings, Proof, check, merge
from training.proof.on_ray import examine_on_ray
from training.proof.queries import (
    BATCH_SIZE,
    NUM_QUERIES,
    Plan,
    Workload,
    count_anagrams,
    multisets,
)
from training.proof.run import forget_chunks, prove
from training.trainer import forward_of
from training.vocabulary import ALPHABET, PADDING, Letters, decode_batch, encode_batch
from training.weights import (
    SHIPPED_WEIGHTS,
    Weights,
    card_path,
    load_card,
    load_weights,
    record_proof,
    save_weights,
)


@pytest.fixture(scope="module")
def shipped() -> Weights:
    return load_weights(SHIPPED_WEIGHTS)


@pytest.fixture(scope="module")
def forward(shipped: Weights) -> Forward:
    return forward_of(build_model(shipped.parameters))


@pytest.fixture
def copied_weights(tmp_path: Path) -> Path:
    """A copy of the shipped weights and their card."""
    copy = tmp_path / "menny.npz"
    shutil.copy(SHIPPED_WEIGHTS, copy)
    shutil.copy(card_path(SHIPPED_WEIGHTS), card_path(copy))
    return copy


def proof_of(sha256: str, **changes: object) -> Proof:
    """A proof as a good model has it, with some fields changed."""
    fields = {
        "multisets": 4_187_105,
        "queries": NUM_QUERIES,
        "letters": 1,
        "violations": 0,
        "counter_examples": [],
        "smallest_margin": 3.0,
        "smallest_margin_query": "jQQ",
        "worst_excess_nll": 0.1,
        "worst_excess_nll_query": "jQQ",
        "mean_excess_nll": 0.001,
        "rounding_spread": 1e-5,
        "seconds": 1.0,
        "sha256": sha256,
    }
    return Proof.model_validate(fields | changes)


# --- every query that exists --------------------------------------------------------------------


@pytest.mark.default_rule
def test_the_multisets_of_three_letters_are_those_of_itertools() -> None:
    expected = list(combinations_with_replacement(range(52), 3))
    assert multisets(3).tolist() == [list(row) for row in expected]


@pytest.mark.default_rule
def test_the_multisets_stand_for_every_query_once() -> None:
    work = Plan().workload()
    assert len(work.queries) == 4_187_105
    assert int(count_anagrams(work.queries).sum()) == NUM_QUERIES == 387_659_012


@pytest.mark.default_rule
@pytest.mark.parametrize("letters", ["a", "aa", "aB", "aab", "aaab", "aabbb", "abcde", "abbcc"])
def test_the_anagrams_are_counted(letters: str) -> None:
    (count,) = count_anagrams(encode_batch([letters]))
    assert count == len(set(permutations(letters)))


def test_the_chunks_are_the_whole_work() -> None:
    work = Plan(max_length=3).workload()
    chunks = [work.chunk(index).queries for index in range(work.num_chunks)]
    assert len(chunks) > 1
    assert np.array_equal(np.concatenate(chunks), work.queries)


# --- the symmetry -------------------------------------------------------------------------------


@pytest.mark.default_rule
def test_shuffled_letters_get_shuffled_logits(forward: Forward) -> None:
    rng = np.random.default_rng(7)
    queries = generate_queries(512, rng)
    queries = queries[(queries != PADDING).all(axis=1)]  # (B, L), five letters each
    order = np.array([rng.permutation(5) for _ in queries])
    shuffled = forward(np.take_along_axis(queries, order, axis=1))
    expected = np.take_along_axis(forward(queries), order[..., None], axis=1)
    assert np.abs(shuffled - expected).max() < 1e-4
    assert np.abs(shuffled - forward(queries)).max() > 0.1  # and not just equal everywhere


# --- the findings -------------------------------------------------------------------------------


def perfect(letters: Letters) -> np.ndarray:
    """Logits (B, L, V) of a model that has the label distribution exactly."""
    is_upper = (letters >= 26)[..., None]
    vowels = [ALPHABET.index(vowel) for vowel in "aeiou"]
    logits = np.full((*letters.shape, 52), -40.0, dtype=np.float32)
    logits[..., vowels] = np.where(is_upper, 2.0, -40.0)
    logits[..., [26 + vowel for vowel in vowels]] = np.where(is_upper, -40.0, 2.0)
    return logits


@pytest.mark.default_rule
def test_a_perfect_model_has_no_excess_and_no_violation() -> None:
    found = check(perfect, Plan(max_length=2).workload())
    assert found.violations == 0
    assert found.queries == 52 + 52**2
    assert found.smallest_margin == 42
    assert found.worst_excess_nll == pytest.approx(0, abs=1e-9)
    assert found.mean_excess_nll == pytest.approx(0, abs=1e-9)


@pytest.mark.default_rule
def test_one_wrong_multiset_is_found_and_stands_for_its_anagrams() -> None:
    def wrong_about_abb(letters: Letters) -> np.ndarray:
        logits = perfect(letters)
        for row, text in enumerate(decode_batch(letters)):
            if text == "abb":
                logits[row, 0, ALPHABET.index("x")] = 5.0
        return logits

    found = check(wrong_about_abb, Plan(max_length=3).workload())
    assert found.violations == 3  # abb, bab, bba
    assert [example.query for example in found.counter_examples] == ["abb"]
    assert found.counter_examples[0].response[0] == "x"
    assert found.smallest_margin_query == "abb"
    assert found.smallest_margin == -3
    assert found.worst_excess_nll_query == "abb"


@pytest.mark.default_rule
def test_a_tie_is_a_violation() -> None:
    def tied(letters: Letters) -> np.ndarray:
        return np.zeros((*letters.shape, 52), dtype=np.float32)

    assert check(tied, Plan(max_length=1).workload()).violations == 52


@pytest.mark.default_rule
def test_logits_that_are_no_numbers_are_violations() -> None:
    def broken(letters: Letters) -> np.ndarray:
        return np.full((*letters.shape, 52), np.nan, dtype=np.float32)

    found = check(broken, Plan(max_length=1).workload())
    assert found.violations == 52
    assert Findings.model_validate_json(found.model_dump_json()) == found


def test_the_mean_excess_counts_each_letter_of_each_query_once(forward: Forward) -> None:
    by_multisets = check(forward, Plan(max_length=2).workload())
    every_query = encode_batch([*ALPHABET, *(a + b for a in ALPHABET for b in ALPHABET)])
    one_by_one = check(forward, Workload(every_query, with_anagrams=False))
    assert by_multisets.queries == one_by_one.queries
    assert by_multisets.letters == one_by_one.letters
    assert by_multisets.mean_excess_nll == pytest.approx(one_by_one.mean_excess_nll, rel=1e-4)
    assert by_multisets.violations == one_by_one.violations


def test_findings_merge_in_any_order(forward: Forward) -> None:
    work = Plan(sample=4_500, seed=3).workload()
    parts = [check(forward, work.chunk(index)) for index in range(work.num_chunks)]
    assert len(parts) == 2
    assert merge(parts) == merge(reversed(parts))
    assert merge(parts).queries == 4_500


# --- carrying it out ----------------------------------------------------------------------------


THREE_CHUNKS = Plan(sample=300)


@pytest.fixture
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of one batch, as long as one process does them all."""
    monkeypatch.setattr("training.proof.queries.CHUNK_SIZE", BATCH_SIZE)


def found_by(weights: Weights, plan: Plan, **options: int) -> dict[str, object]:
    return findings_of(prove(weights, plan, **options).proof)


def findings_of(proof: Proof) -> dict[str, object]:
    return proof.model_dump(mode="json", exclude={"seconds", "created"})


@pytest.mark.default_rule
def test_the_shipped_weights_keep_the_rule_up_to_two_letters(shipped: Weights) -> None:
    proof = prove(shipped, Plan(max_length=2)).proof
    assert proof.queries == 52 + 52**2
    assert proof.violations == 0
    assert proof.smallest_margin >= 1
    assert not proof.holds  # not all queries that exist


def test_two_processes_find_the_same(shipped: Weights) -> None:
    plan = Plan(sample=4_200)
    assert plan.workload().num_chunks == 2
    assert found_by(shipped, plan, processes=2) == found_by(shipped, plan)


def stop_after(num_chunks: int, weights: Weights, plan: Plan, cache: Path) -> None:
    stop = threading.Event()
    with pytest.raises(ProofStoppedError):
        prove(
            weights,
            plan,
            cache=cache,
            on_progress=lambda at: stop.set() if at.done == num_chunks else None,
            should_stop=stop.is_set,
        )


def progress_of(weights: Weights, plan: Plan, cache: Path) -> tuple[Proof, list[int]]:
    """The proof, and how many chunks were done at each report of it."""
    seen: list[int] = []
    outcome = prove(weights, plan, cache=cache, on_progress=lambda at: seen.append(at.done))
    return outcome.proof, seen


@pytest.mark.usefixtures("_small_chunks")
def test_a_stopped_proof_goes_on_from_there(shipped: Weights, tmp_path: Path) -> None:
    stop_after(2, shipped, THREE_CHUNKS, tmp_path)
    proof, seen = progress_of(shipped, THREE_CHUNKS, tmp_path)
    assert seen == [2, 3]
    assert findings_of(proof) == found_by(shipped, THREE_CHUNKS)


@pytest.mark.usefixtures("_small_chunks")
def test_a_finished_proof_asks_nothing_again_until_its_chunks_are_forgotten(
    shipped: Weights, tmp_path: Path
) -> None:
    first, _ = progress_of(shipped, THREE_CHUNKS, tmp_path)
    again, seen = progress_of(shipped, THREE_CHUNKS, tmp_path)
    assert seen == [3]
    assert findings_of(again) == findings_of(first)
    forget_chunks(tmp_path, shipped.sha256, THREE_CHUNKS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_small_chunks")
def test_a_line_that_a_crash_cut_off_is_done_again(shipped: Weights, tmp_path: Path) -> None:
    stop_after(2, shipped, THREE_CHUNKS, tmp_path)
    (state,) = tmp_path.glob("*/chunks.jsonl")
    state.write_bytes(state.read_bytes()[:-100])
    _, seen = progress_of(shipped, THREE_CHUNKS, tmp_path)
    assert seen == [1, 2, 3]


@pytest.mark.usefixtures("_small_chunks")
def test_the_state_of_other_weights_or_queries_is_not_used(
    shipped: Weights, tmp_path: Path
) -> None:
    stop_after(1, shipped, THREE_CHUNKS, tmp_path)
    others = Weights(shipped.parameters, "f" * 64)
    assert progress_of(others, Plan(max_length=1), tmp_path)[1] == [0, 1]
    assert progress_of(shipped, Plan(max_length=1), tmp_path)[1] == [0, 1]


@pytest.fixture
def verifying(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """`menny verify` in two worker processes, with a chunk done."""
    command = [sys.executable, "-m", "app.cli", "verify", "--processes", "2"]
    with subprocess.Popen(
        [*command, "--sample", "50000", "--cache", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            eventually(lambda: kept_chunks(tmp_path))
            yield process
        finally:
            process.kill()


@pytest.mark.timeout(300)
def test_ctrl_c_keeps_what_was_done(verifying: "subprocess.Popen[str]", tmp_path: Path) -> None:
    verifying.send_signal(signal.SIGINT)
    _, errors = verifying.communicate(timeout=100)
    assert verifying.returncode == 1
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    assert kept_chunks(tmp_path)


@pytest.mark.timeout(300)
def test_workers_end_when_their_parent_is_killed(verifying: "subprocess.Popen[str]") -> None:
    workers = children_of(verifying.pid)
    assert len(workers) >= 2
    verifying.kill()
    verifying.communicate(timeout=100)  # which waits for the workers' ends of the pipes, too
    eventually(lambda: not any(is_running(worker) for worker in workers))


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True)
    return [int(line) for line in found.stdout.split()]


def is_running(pid: int) -> bool:
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return status.stdout.strip()[:1] not in {"", "Z"}


def test_without_ray_a_proof_on_a_cluster_says_what_to_install(
    shipped: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'menny\[ray\]'"):
        prove(shipped, Plan(max_length=1), elsewhere=examine_on_ray("auto"))


def test_a_cluster_that_is_not_there_is_named_at_once(shipped: Weights) -> None:
    with socket.socket() as closed:  # bound, so nobody else's, and not listening
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        for written in (address, f"ray://{address}"):
            with pytest.raises(ProofError, match=f"no Ray cluster answers at {written}"):
                list(examine_on_ray(written)(shipped.parameters, Plan(max_length=1), [0]))


@pytest.mark.slow
def test_a_worker_that_is_killed_is_an_error_and_no_hang(shipped: Weights, tmp_path: Path) -> None:
    def kill_one(_: object) -> None:
        for child in multiprocessing.active_children()[:1]:
            child.kill()

    with pytest.raises(ProofError, match="worker process died"):
        prove(shipped, Plan(sample=40_000), processes=2, cache=tmp_path, on_progress=kill_one)
    assert multiprocessing.active_children() == []


def kept_chunks(cache: Path) -> set[int]:
    lines = [line for path in cache.glob("*/chunks.jsonl") for line in path.read_text().split("\n")]
    return {json.loads(line)["chunk"] for line in lines if line.endswith("}")}


# --- mutation: a damaged model is caught --------------------------------------------------------


@pytest.fixture
def damaged_weights(shipped: Weights, tmp_path: Path) -> Path:
    """The shipped weights with one row of `fc` scaled: 'k' is too likely an answer."""
    assert shipped.card is not None
    parameters = dict(shipped.parameters)
    row = ALPHABET.index("k")
    for name in ("fc.weight", "fc.bias"):
        parameters[name] = parameters[name].copy()
        parameters[name][row] *= -3
    path = tmp_path / "damaged.npz"
    save_weights(path, parameters, shipped.card)
    return path


def test_damaged_weights_fail_with_a_right_counter_example(
    damaged_weights: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "verify", "--weights", damaged_weights]
        + ["--max-length", "2", "--report", report, "--cache", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "NOT PROVEN" in done.stdout
    proof = Proof.model_validate_json(report.read_text())
    assert proof.violations > 0
    example = proof.counter_examples[0]
    assert f"counter-example: {example.query} -> {example.response}" in done.stdout
    # Ask the model itself, by another road.
    forward = forward_of(build_model(load_weights(damaged_weights).parameters))
    answers = forward(encode_batch([example.query]))[0, : len(example.query)].argmax(axis=-1)
    response = "".join(ALPHABET[answer] for answer in answers)
    assert response == example.response
    assert any(
        answer not in ("AEIOU" if letter.islower() else "aeiou")
        for letter, answer in zip(example.query, response, strict=True)
    )


# --- what is kept of it -------------------------------------------------------------------------


def test_a_proof_needs_every_query_no_violation_and_a_margin_above_rounding() -> None:
    assert proof_of("f" * 64).holds
    assert not proof_of("f" * 64, queries=NUM_QUERIES - 1).holds
    assert not proof_of("f" * 64, violations=1).holds
    assert not proof_of("f" * 64, smallest_margin=SAFETY * 1e-5).holds
    assert not proof_of("f" * 64, rounding_spread=math.inf).holds


def test_a_proof_goes_into_the_card_of_the_weights_it_is_about(copied_weights: Path) -> None:
    before = load_weights(copied_weights)
    record_proof(copied_weights, proof_of(before.sha256))
    after = load_weights(copied_weights)
    assert after.is_proven
    assert after.card is not None
    assert before.card is not None
    assert (
        after.card.model_copy(update={"proof": before.card.proof, "answers": before.card.answers})
        == before.card
    )


def test_a_proof_of_other_weights_is_refused(copied_weights: Path) -> None:
    before = load_card(copied_weights)
    with pytest.raises(WeightsError, match="has changed"):
        record_proof(copied_weights, proof_of("f" * 64))
    assert load_card(copied_weights) == before


def test_weights_without_a_card_cannot_keep_a_proof(copied_weights: Path) -> None:
    sha256 = load_weights(copied_weights).sha256
    card_path(copied_weights).unlink()
    with pytest.raises(WeightsError, match="no model card"):
        record_proof(copied_weights, proof_of(sha256))
    assert not load_weights(copied_weights).is_proven


def test_a_card_with_a_proof_of_other_weights_proves_nothing(copied_weights: Path) -> None:
    card = load_card(copied_weights)
    assert card is not None
    forged = card.model_copy(update={"proof": proof_of("f" * 64)})
    card_path(copied_weights).write_text(forged.model_dump_json())
    assert not load_weights(copied_weights).is_proven


def test_new_weights_start_without_a_proof(copied_weights: Path, shipped: Weights) -> None:
    record_proof(copied_weights, proof_of(load_weights(copied_weights).sha256))
    card = load_card(copied_weights)
    assert card is not None
    assert card.proof is not None
    parameters = dict(shipped.parameters)
    parameters["fc.bias"] = parameters["fc.bias"] + np.float32(1e-3)
    save_weights(copied_weights, parameters, card)
    assert not load_weights(copied_weights).is_proven
