"""Whatever serves ends up proven: by a process in the background, once, and with a table."""

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from app.errors import ConflictError, StateUnavailableError
from app.jobs.database import Database
from app.jobs.job import Version
from app.jobs.metrics import JobMetrics
from app.jobs.proving import Prover
from app.jobs.serving import Serving
from app.jobs.verdicts import Verdicts
from tests.jobs.house import (
    SHIPPED,
    SHIPPED_FILE,
    Check,
    Home,
    ScriptedChildren,
    ScriptedEngine,
    house,
    wait_forever,
)
from tests.waiting import eventually
from training.errors import WeightsError
from training.proof.check import CounterExample
from training.weights import SHIPPED_WEIGHTS

PROOF = SHIPPED_FILE.card.proof
VIOLATED = PROOF.model_copy(
    update={
        "violations": 1,
        "counter_examples": [CounterExample(query="MeM", response="uxu", margin=-0.5)],
    }
)


def wait_for(home: Home, happened: Callable[[Version], bool], name: str = "shipped") -> Version:
    deadline = time.monotonic() + 120
    while not happened(version := home.versions.get(name)):
        assert time.monotonic() < deadline, version
        time.sleep(0.01)
    return version


def has_a_verdict(version: Version) -> bool:
    return version.proof is not None and version.proving is None


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The shipped weights, with nothing known of them: neither card nor table."""
    return Path(shutil.copy(SHIPPED_WEIGHTS, tmp_path / "menny.npz"))


def table_of(state: Path) -> Path:
    return state / "answers" / f"{SHIPPED_FILE.sha256}.npz"


def test_what_serves_without_a_verdict_is_proven_once_and_its_table_is_taken_up(
    tmp_path: Path, weights: Path
) -> None:
    state = tmp_path / "state"
    with house(state, weights=weights, prove="auto") as home:
        version = wait_for(home, has_a_verdict)
        assert version.proven
        assert table_of(state).exists()
        assert home.engine.has_tables_of == {SHIPPED}
        assert home.registry.get_sample_value("menny_proofs_total", {"verdict": "proven"}) == 1
        assert home.registry.get_sample_value("menny_proof_progress") == 1
    with house(state, weights=weights, prove="auto", answers="model") as home:
        assert home.versions.get("shipped").proven
        job = home.run_job()  # the thread has looked at what there is to do
        assert job.state == "succeeded"
        assert home.children.num_proofs == 0


def test_a_version_that_is_promoted_is_proven_and_a_long_proof_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.jobs.proving.estimate_seconds", lambda *_, **__: 9000)
    with house(tmp_path, prove="auto", answers="model") as home:
        home.children.proof = VIOLATED
        made = home.make(1, promote="always")
        wait_for(home, has_a_verdict, made)
        assert home.children.num_proofs == 1
    assert "a proof takes some 2.5 hours on this machine" in caplog.text


def test_a_violation_is_said_with_its_query_and_changes_nothing_of_what_serves(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    children = ScriptedChildren(proof=VIOLATED)
    with house(tmp_path / "state", weights=weights, prove="auto", children=children) as home:
        version = wait_for(home, has_a_verdict)
        assert not version.proven
        assert version.proof is not None
        assert version.proof.counter_examples[0].query == "MeM"
        assert (version.active, home.engine.answers) == (True, SHIPPED)
        assert not table_of(tmp_path / "state").exists()
        assert "does not keep the rule" in caplog.text
        assert "MeM" in caplog.text
        assert home.registry.get_sample_value("menny_proofs_total", {"verdict": "refuted"}) == 1


def test_a_proof_makes_way_for_a_job_and_goes_on_after_it(tmp_path: Path, weights: Path) -> None:
    children = ScriptedChildren(wait_forever("proving"))
    with house(tmp_path / "state", weights=weights, prove="auto", children=children) as home:
        eventually(lambda: children.num_proofs == 1)
        proving = wait_for(home, lambda version: version.proving is not None).proving
        assert proving is not None
        assert proving.fault is None
        job_id = home.start_job()
        home.wait_for(job_id, lambda job: job.state != "queued")
        children.in_phase = lambda phase, check: None
        home.wait_for(job_id, lambda job: job.state == "succeeded")
        assert wait_for(home, has_a_verdict).proven
        assert children.num_proofs == 2


def test_the_end_of_the_service_does_not_wait_for_a_proof(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    children = ScriptedChildren(wait_forever("proving"))
    with house(tmp_path / "state", weights=weights, prove="auto", children=children):
        eventually(lambda: children.num_proofs == 1)
    assert "does not end" not in caplog.text
    with house(tmp_path / "state", weights=weights, prove="auto") as home:
        assert wait_for(home, has_a_verdict).proven


def test_any_version_is_proven_on_request_one_at_a_time(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        made = home.make(1)
        home.children.in_phase = wait_forever("proving")
        home.children.proof = VIOLATED
        asked = home.versions.prove(made)
        assert asked.proving is not None
        with pytest.raises(ConflictError, match=f"version {made} is being proven"):
            home.versions.prove("shipped")
        home.children.in_phase = lambda phase, check: None
        assert not wait_for(home, has_a_verdict, made).proven


def test_without_being_told_to_nothing_is_proven(tmp_path: Path, weights: Path) -> None:
    with house(tmp_path / "state", weights=weights) as home:
        home.make(1, promote="always")
        home.make(2)
        assert home.children.num_proofs == 0


@pytest.mark.parametrize("retry_s", [600.0, 0.1])
def test_a_proof_that_fails_is_said_and_done_again_later_or_on_request(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, retry_s: float
) -> None:
    monkeypatch.setattr("app.jobs.proving.RETRY_S", retry_s)

    def fail(phase: str, check: Check) -> None:
        if phase == "proving":
            raise WeightsError(f"can't write {tmp_path}/state/staging/x: No space left on device")

    state = tmp_path / "state"
    with house(state, weights=weights, prove="auto", children=ScriptedChildren(fail)) as home:
        proving = wait_for(home, lambda version: bool(version.proving and version.proving.fault))
        assert proving.proving is not None
        assert proving.proving.fault == "can't write staging/x: No space left on device"
        home.children.in_phase = lambda phase, check: None
        if retry_s == 600:
            home.run_job()  # the thread has looked at what there is to do
            assert home.children.num_proofs == 1
            home.versions.prove("shipped")
        assert wait_for(home, has_a_verdict).proven


def test_a_proof_that_the_database_takes_no_word_of_is_left_alone_for_a_while(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise StateUnavailableError("database or disk is full")

    database, children = Database(tmp_path / "menny.sqlite3"), ScriptedChildren()
    serving = Serving(ScriptedEngine(), weights, tmp_path / "versions")
    serving.reload(lambda: None)
    prover = Prover(
        Verdicts(database),
        serving,
        children,
        tmp_path / "staging",
        tmp_path / "answers",
        JobMetrics(CollectorRegistry()),
        is_automatic=True,
        wants_table=False,
    )
    monkeypatch.setattr("app.jobs.proving.REST_S", 0)
    for _ in range(2):
        with pytest.raises(StateUnavailableError):
            prover.work(refuse)
    monkeypatch.setattr("app.jobs.proving.REST_S", 600)
    with pytest.raises(StateUnavailableError):
        prover.work(refuse)
    prover.work(refuse)
    assert prover.state_of(SHIPPED) is None
    database.close()


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"no table")])
def test_a_table_that_was_removed_or_damaged_is_made_anew_at_the_next_start(
    tmp_path: Path, weights: Path, damage: Callable[[Path], object]
) -> None:
    state = tmp_path / "state"
    with house(state, weights=weights, prove="auto") as home:
        wait_for(home, has_a_verdict)
    whole = table_of(state).read_bytes()
    damage(table_of(state))
    with house(state, weights=weights, prove="auto") as home:
        assert home.versions.get("shipped").proven
        wait_for(home, lambda version: bool(home.engine.has_tables_of) and not version.proving)
        assert table_of(state).read_bytes() == whole


def test_the_table_of_a_version_goes_with_it_and_a_start_leaves_only_what_is_known(
    tmp_path: Path, weights: Path
) -> None:
    with house(tmp_path, weights=weights) as home:
        made = home.make(1)
        tables = tmp_path / "answers"
        tables.mkdir()
        gone, kept = tables / f"{made}{'0' * 52}.npz", table_of(tmp_path)
        for path in (gone, kept):
            path.write_bytes(b"")
        home.versions.delete(made)
        assert list(tables.iterdir()) == [kept]
        for name in (f"{'a' * 64}.npz", "notes.txt"):
            (tables / name).write_bytes(b"")
        for name in (f"{SHIPPED}-{'0' * 16}", f"{made}-{'0' * 16}", "17"):
            (tmp_path / "staging" / name).mkdir(parents=True)
    with house(tmp_path, weights=weights):
        assert {path.name for path in tables.iterdir()} == {kept.name, "notes.txt"}
        assert [path.name for path in (tmp_path / "staging").iterdir()] == [f"{SHIPPED}-{'0' * 16}"]


def test_a_verdict_that_makes_no_sense_costs_that_verdict_alone(
    tmp_path: Path, weights: Path
) -> None:
    state = tmp_path / "state"
    with house(state, weights=weights, prove="auto") as home:
        wait_for(home, has_a_verdict)
    with closing(sqlite3.connect(state / "menny.sqlite3")) as database:
        database.execute("UPDATE verdicts SET proof = '{'")
        database.commit()
    with house(state, weights=weights, prove="auto") as home:
        assert wait_for(home, has_a_verdict).proven
        assert home.children.num_proofs == 1
