"""Greedy answers come from the table: which table, what it agrees with, and what it does without.

In process, with the shipped weights and their own table.
"""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.errors import EngineError
from app.inference.engine import Engine
from app.settings import Settings, unknown_variables
from tests.in_process import InProcess, in_process
from tests.inference.test_engine import Broken
from training.dataset import generate_queries
from training.graph import FusedMenny
from training.proof.answers import (
    NUM_MULTISETS,
    AnswerTable,
    save_table,
    table_path,
)
from training.settling import argmax_with_margin
from training.vocabulary import decode_batch
from training.weights import SHIPPED_WEIGHTS, Weights, card_path, load_weights

ZEROS = np.zeros(NUM_MULTISETS, dtype=np.uint16)
QUERIES = decode_batch(generate_queries(300, np.random.default_rng(31)))


def counted(menny: InProcess, source: str) -> float:
    name = f'menny_answers_total{{source="{source}"}} '
    lines = menny.client.get("/metrics").text.splitlines()
    return next(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def health_of(menny: InProcess) -> dict[str, object]:
    response = menny.client.get("/health")
    return response.json() | {"http": response.status_code}


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A copy of the shipped weights and their card, without a table."""
    path = tmp_path / "menny_weights.npz"
    shutil.copy(SHIPPED_WEIGHTS, path)
    shutil.copy(card_path(SHIPPED_WEIGHTS), card_path(path))
    return path


# --- what the table says ------------------------------------------------------------------------


@pytest.mark.default_rule
def test_the_table_answers_what_the_model_answers_alone_and_in_a_batch(
    menny: InProcess, asked_of_the_model: InProcess
) -> None:
    before = counted(menny, "table"), counted(menny, "model")
    for url, body in (("/transform/batch", {"queries": QUERIES}), ("/transform", {"query": "MeM"})):
        by_table, by_model = (
            one.client.post(url, json=body).json() for one in (menny, asked_of_the_model)
        )
        assert by_table == by_model
    assert counted(menny, "table") == before[0] + len(QUERIES) + 1
    assert counted(menny, "model") == before[1]
    assert counted(asked_of_the_model, "table") == 0
    assert counted(asked_of_the_model, "model") > len(QUERIES)


def test_the_same_query_gets_the_same_answer_whatever_its_batch_and_its_anagrams_the_same_letters(
    menny: InProcess,
) -> None:
    queries = QUERIES[:100]
    reverse = [query[::-1] for query in reversed(queries)]
    batch = menny.client.post("/transform/batch", json={"queries": queries + reverse}).json()
    answers = {answer["query"]: answer["response"] for answer in batch["answers"]}
    for query in queries[:20]:
        assert menny.transform(query)["response"] == answers[query]
    for query in queries:
        pairs = [sorted(zip(q, answers[q], strict=True)) for q in (query, query[::-1])]
        assert pairs[0] == pairs[1]


@pytest.mark.default_rule
def test_the_first_candidate_and_the_likeliest_letter_are_the_tables_answer(
    menny: InProcess, weights: Weights
) -> None:
    """Also where two letters are so close that rounding could swap them."""
    close = ["aBB", "MeM", *closest_multisets(weights, 8)]
    for query in close:
        response = menny.transform(query)["response"]
        shown = menny.transform(query, candidates=2)
        assert shown["response"] == response
        assert "".join(position[0]["letter"] for position in shown["candidates"]) == response
        explained = menny.client.post("/explain", json={"query": query}).json()
        assert explained["response"] == response
        likeliest = [row.index(max(row)) for row in explained["distribution"]]
        is_sure = [sorted(row)[-1] > sorted(row)[-2] for row in explained["distribution"]]
        for letter, found, sure in zip(response, likeliest, is_sure, strict=True):
            assert not sure or explained["alphabet"][found] == letter


def closest_multisets(weights: Weights, count: int) -> list[str]:
    """Of 3,000 queries those with the two best answers closest together."""
    queries = generate_queries(3_000, np.random.default_rng(32))
    _, margins = argmax_with_margin(FusedMenny(weights.parameters)(queries))
    margins[queries < 0] = np.inf
    return decode_batch(queries[margins.min(axis=1).argsort()[:count]])


@pytest.mark.default_rule
def test_sampling_and_candidates_are_the_models(menny: InProcess) -> None:
    before = counted(menny, "model")
    menny.transform("MeM", temperature=1, seed=1)
    menny.transform("MeM", candidates=1)
    assert counted(menny, "model") == before + 2


# --- which table --------------------------------------------------------------------------------


def test_health_and_card_say_that_the_table_answers_and_what_computes(menny: InProcess) -> None:
    for path in ("/health", "/card"):
        shown = menny.client.get(path).json()
        assert shown["answers"] == "table"
        assert shown["answers_reason"] == "a table has every answer of these weights"
        assert shown["device"] in {"cpu", "gpu"}
        assert shown["arrays"] in {"numpy", "mlx"}
    assert health_of(menny)["engine"] == "ok"


def test_answers_model_leaves_the_table_alone_and_says_so(asked_of_the_model: InProcess) -> None:
    for path in ("/health", "/card"):
        shown = asked_of_the_model.client.get(path).json()
        assert shown["answers"] == "model"
        assert "MENNY_ANSWERS=model" in shown["answers_reason"]


def _foreign(path: Path) -> None:
    save_table(path, AnswerTable(ZEROS, "ab" * 32))


def _another(path: Path) -> None:
    """Properly bound to the weights, and none of what their card knows."""
    save_table(path, AnswerTable(ZEROS, load_weights(SHIPPED_WEIGHTS).sha256))


def _truncated(path: Path) -> None:
    path.write_bytes(table_path(SHIPPED_WEIGHTS).read_bytes()[:-1000])


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, chdir(path.parent):
        listener.bind(path.name)


PUTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "`menny verify` makes one"),
    "another's": (_foreign, "model card says"),
    "zeros": (_another, "model card says"),
    "half of it": (_truncated, "model card says"),
    "a FIFO": (os.mkfifo, "not a regular file"),
    "a folder": (Path.mkdir, "not a regular file"),
    "a link to /dev/zero": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "a link to itself": (lambda path: path.symlink_to(path), "can't read"),
    "a socket": (_socket, "can't read"),
    "too much": (lambda path: path.write_bytes(bytes(13 * 2**20)), "larger than"),
}


@pytest.mark.default_rule
def test_whatever_is_in_the_tables_place_the_model_answers_and_health_says_why(
    served: Path, weights: Weights
) -> None:
    with in_process(weights=served) as menny:
        for name, (put, says) in PUTS.items():
            put(table_path(served))
            menny.app.state.retraining._serving.look_up_again()
            health = health_of(menny)
            assert (health["http"], health["answers"]) == (200, "model"), name
            assert says in str(health["answers_reason"]), name
            assert str(served.parent) not in str(health["answers_reason"]), name
            assert menny.transform("MeM")["response"] == "aIa"
            if name == "a folder":
                table_path(served).rmdir()
            table_path(served).unlink(missing_ok=True)


def test_a_table_of_the_services_own_is_taken_up_while_it_answers(
    served: Path, tmp_path: Path, weights: Weights
) -> None:
    state = tmp_path / "state"
    with in_process(weights=served, state_dir=state) as menny:
        assert health_of(menny)["answers"] == "model"
        model = menny.app.state.engine.served.model
        (state / "answers").mkdir()
        own = state / "answers" / f"{weights.sha256}.npz"
        shutil.copy(table_path(SHIPPED_WEIGHTS), own)
        serving = menny.app.state.retraining._serving
        serving.look_up_again()
        assert health_of(menny)["answers"] == "table"
        assert menny.app.state.engine.served.model is model
        own.unlink()
        serving.look_up_again()
        assert health_of(menny)["answers"] == "model"


def test_the_table_beside_the_weights_is_looked_at_first_and_a_damaged_one_costs_nothing(
    served: Path, tmp_path: Path, weights: Weights
) -> None:
    (tmp_path / "state" / "answers").mkdir(parents=True)
    shutil.copy(
        table_path(SHIPPED_WEIGHTS), tmp_path / "state" / "answers" / f"{weights.sha256}.npz"
    )
    _truncated(table_path(served))
    with in_process(weights=served, state_dir=tmp_path / "state") as menny:
        assert health_of(menny)["answers"] == "table"


def test_a_table_alone_makes_no_version_proven(served: Path) -> None:
    shutil.copy(table_path(SHIPPED_WEIGHTS), table_path(served))
    card_path(served).unlink()
    with in_process(weights=served) as menny:
        health = health_of(menny)
        assert (health["answers"], health["proven"]) == ("table", False)


@pytest.mark.default_rule
def test_a_swap_of_the_model_swaps_its_table_with_it(served: Path, weights: Weights) -> None:
    shutil.copy(table_path(SHIPPED_WEIGHTS), table_path(served))
    with in_process(weights=served) as menny:
        first = menny.transform("MeM")
        parameters = dict(weights.parameters)
        parameters["fc.bias"] = parameters["fc.bias"][::-1].copy()
        card_path(served).unlink()
        np.savez(served, **parameters)
        menny.app.state.retraining.reload()
        health = health_of(menny)
        assert health["answers"] == "model"
        assert "is the answer table of weights e0bdc690093e" in str(health["answers_reason"])
        second = menny.transform("MeM")
        assert second["model_version"] == health["model_version"] != first["model_version"]


# --- a table without a model --------------------------------------------------------------------


@contextmanager
def held_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Models are built only once the event is set; then building may be made to fail."""
    go_on, build = threading.Event(), Engine._build

    def build_later(self: Engine, weights: Weights) -> object:
        assert go_on.wait(60)
        return build(self, weights)

    monkeypatch.setattr(Engine, "_build", build_later)
    monkeypatch.setattr(InProcess, "wait_for_model", lambda self: None)
    try:
        yield go_on
    finally:
        go_on.set()


@pytest.mark.default_rule
def test_while_the_model_is_being_loaded_the_table_answers_and_the_rest_gets_503(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with held_up(monkeypatch) as go_on, in_process() as menny:
        health = health_of(menny)
        assert (health["http"], health["status"], health["engine"]) == (200, "ok", "starting")
        assert (health["answers"], health["device"]) == ("table", None)
        assert menny.client.get("/card").json()["proven"] is True
        assert menny.transform("MeM")["response"] == "aIa"
        for path, body in (
            ("/transform", {"query": "MeM", "temperature": 1}),
            ("/transform", {"query": "MeM", "candidates": 1}),
            ("/explain", {"query": "MeM"}),
        ):
            refused = menny.client.post(path, json=body)
            assert refused.status_code == 503
            assert "it is being loaded; try again in a moment" in refused.json()["detail"]
        go_on.set()
        monkeypatch.undo()
        menny.wait_for_model()
        assert health_of(menny)["engine"] == "ok"
        assert menny.transform("MeM", candidates=1)["response"] == "aIa"


@pytest.mark.default_rule
def test_a_model_that_cant_be_built_leaves_the_table_answering(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise EngineError("[metal] there is no GPU any more")

    monkeypatch.setattr(Engine, "_build", fail)
    with in_process() as menny:
        while health_of(menny)["engine"] == "starting":
            time.sleep(0.01)
        health = health_of(menny)
        assert (health["http"], health["status"], health["engine"]) == (200, "ok", "failed")
        assert "there is no GPU any more" in str(health["reason"])
        assert menny.transform("MeM")["response"] == "aIa"
        refused = menny.client.post("/explain", json={"query": "MeM"})
        assert refused.status_code == 503
        assert "there is no GPU any more" in refused.json()["detail"]


@pytest.mark.default_rule
def test_an_engine_that_fails_beside_a_table_is_said_and_does_not_end_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.lifespan.WATCH_S", 0.01)
    with in_process(exit_when_failing_s=0.01) as menny:
        engine = menny.app.state.engine
        engine.install(replace(engine.served, model=Broken()))
        for _ in range(3):
            failed = menny.client.post("/transform", json={"query": "a", "candidates": 1})
            assert failed.status_code == 500
        looked = threading.Event()
        probe = engine.probe
        monkeypatch.setattr(engine, "probe", lambda: (probe(), looked.set()))
        assert looked.wait(60)
        health = health_of(menny)
        assert (health["http"], health["status"], health["engine"]) == (200, "ok", "failed")
        assert "every batch has failed for" in str(health["reason"])
        assert menny.transform("MeM")["response"] == "aIa"
        assert not menny.app.state.lifecycle.has_failed


@pytest.mark.default_rule
def test_a_look_up_waits_for_no_queue_and_no_engine(menny: InProcess) -> None:
    go_on, is_busy = threading.Event(), threading.Event()
    menny.app.state.engine._batcher.call(lambda: (is_busy.set(), go_on.wait(60)))
    try:
        assert is_busy.wait(60)
        assert menny.transform("MeM")["response"] == "aIa"
        batch = menny.client.post("/transform/batch", json={"queries": ["MeM"] * 1024})
        assert batch.json()["answers"][1023]["response"] == "aIa"
    finally:
        go_on.set()


# --- the setting that went ----------------------------------------------------------------------


def test_the_old_variable_of_the_cache_is_answered_with_a_sentence(tmp_path: Path) -> None:
    (sentence,) = unknown_variables(["MENNY_CACHE_SIZE"])
    assert sentence.startswith("MENNY_CACHE_SIZE does nothing any more: the answer table")
    env_file = tmp_path / "service.env"  # of a service that was installed before
    env_file.write_text("MENNY_CACHE_SIZE=77\nMENNY_PORT=8123\n")
    assert Settings(_env_file=env_file).port == 8123
