"""Several workers on one state directory, in one process: they change together, one runs jobs."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from app.errors import ConflictError, EngineError, StateUnavailableError, WorkerError
from app.jobs import peers
from app.scoreboard import Row, Scoreboard, Worker
from tests.jobs.house import SHIPPED, Home, house, shipped_copy, version_of, wait_forever
from tests.waiting import eventually
from training.weights import SHIPPED_WEIGHTS

ALWAYS_LIVE = 2**62


@contextmanager
def scoreboard_of(state: Path, num_workers: int) -> Iterator[Scoreboard]:
    """With numbers in place of processes; what is condemned is gone a moment later."""
    state.mkdir(exist_ok=True)
    board = Scoreboard.create(state / "scoreboard", num_workers)
    for row in board.rows:
        row.pid = 1000 + row.index
    has_ended = threading.Event()

    def supervise() -> None:
        while not has_ended.wait(0.01):
            for row in board.rows:
                if row.condemned:
                    row.clear()

    threading.Thread(target=supervise, daemon=True).start()
    yield board
    has_ended.set()


@contextmanager
def crew(state: Path, num_workers: int = 2, **settings: object) -> Iterator[list[Home]]:
    with scoreboard_of(state, num_workers) as board, ExitStack() as stack:
        homes = []
        for row in board.rows:
            worker = Worker(board, row, None)
            homes.append(stack.enter_context(house(state, worker=worker, **settings)))
            row.beat = ALWAYS_LIVE
        yield homes


def row_of(home: Home) -> Row:
    return home.worker.row


def answers_of(homes: list[Home]) -> set[str | None]:
    return {home.engine.answers for home in homes}


def test_once_an_activation_is_answered_every_worker_answers_with_that_version(
    tmp_path: Path,
) -> None:
    with crew(tmp_path, 3) as homes:
        first, second = homes[0].make(1), homes[0].make(2)
        for home, version in zip(homes * 2, [first, second, SHIPPED] * 2, strict=True):
            home.versions.activate(version)
            assert answers_of(homes) == {version}
            assert [other.active() for other in homes] == [[version]] * 3


def test_a_promotion_takes_all_workers_along(tmp_path: Path) -> None:
    with crew(tmp_path) as homes:
        made = homes[1].make(1, promote="always")
        assert answers_of(homes) == {made}
        assert homes[0].listed() == homes[1].listed() == [made, SHIPPED]


def test_a_job_that_is_started_at_any_worker_is_run_once_and_told_by_all(tmp_path: Path) -> None:
    with crew(tmp_path, prove="auto") as (runs, other):
        for children in (runs.children, other.children):
            children.in_phase = wait_forever("training")
        job_id = other.start_job(num_epochs=2)
        for home in (runs, other):
            home.wait_for(job_id, lambda job: job.epoch == 1)
        other.store.cancel_job(job_id)
        assert runs.wait_for(job_id, lambda job: job.state.has_ended).state == "cancelled"
        assert (runs.children.num_trained, other.children.num_trained) == (1, 0)


def test_when_the_worker_that_runs_jobs_ends_another_runs_them(tmp_path: Path) -> None:
    with scoreboard_of(tmp_path, 2) as board:
        first, second = (Worker(board, row, None) for row in board.rows)
        with house(tmp_path, worker=first) as runs, house(tmp_path, worker=second) as other:
            runs.make(1)
            runs.retraining.stop()
            assert other.run_job(2).state == "succeeded"


def test_if_a_worker_can_not_load_a_version_nothing_is_changed_anywhere(tmp_path: Path) -> None:
    with crew(tmp_path) as homes:
        made = homes[0].make(1)
        homes[1].engine.refuses.add(made)
        with pytest.raises(WorkerError, match=r"worker 2 \(process 1001\) can't load"):
            homes[0].versions.activate(made)
        assert answers_of(homes) == {SHIPPED}
        assert [home.active() for home in homes] == [[SHIPPED]] * 2
        homes[1].engine.refuses.clear()
        homes[1].versions.activate(made)
        assert answers_of(homes) == {made}


def test_if_a_worker_is_not_ready_in_time_nothing_is_changed_and_the_answer_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "READY_S", 0.3)
    with crew(tmp_path) as homes:
        made = homes[0].make(1)
        is_ready = threading.Event()
        homes[1].engine.before_prepare = is_ready.wait
        with pytest.raises(WorkerError, match=r"worker 2 \(process 1001\) was not ready"):
            homes[0].versions.activate(made)
        is_ready.set()
        assert answers_of(homes) == {SHIPPED}
        monkeypatch.setattr(peers, "READY_S", 10)
        homes[0].versions.activate(made)
        assert answers_of(homes) == {made}


def test_a_worker_that_is_silent_after_the_switch_is_killed_before_the_answer(
    tmp_path: Path,
) -> None:
    with crew(tmp_path) as homes:
        made = homes[0].make(1)
        goes_on = threading.Event()

        def fall_silent() -> None:
            row_of(homes[1]).beat = 1
            goes_on.wait()

        homes[1].engine.before_install = fall_silent
        homes[0].versions.activate(made)
        assert (homes[0].engine.answers, row_of(homes[1]).pid) == (made, 0)
        goes_on.set()


def test_a_version_that_became_active_is_served_by_all_though_who_activated_it_fails_then(
    tmp_path: Path,
) -> None:
    with crew(tmp_path) as homes:
        made = homes[0].make(1)

        def fail() -> None:
            raise EngineError("it has ended")

        homes[0].engine.before_install = fail
        with pytest.raises(EngineError):
            homes[0].versions.activate(made)
        eventually(lambda: homes[1].engine.answers == made)


def test_a_worker_without_the_database_keeps_others_from_activating_what_it_can_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "READY_S", 0.1)
    with crew(tmp_path) as homes:
        made = homes[0].make(1)
        row_of(homes[1]).has_joined = 0
        homes[1].retraining.stop()
        row_of(homes[1]).beat = ALWAYS_LIVE
        with pytest.raises(WorkerError, match="worker 2"):
            homes[0].versions.activate(made)


def test_a_worker_that_can_not_read_what_others_answer_with_does_not_begin(tmp_path: Path) -> None:
    with crew(tmp_path) as homes:
        board = homes[0].worker.scoreboard
        newcomer = Worker(board, board.rows[1], "the state directory is away")
        with pytest.raises(StateUnavailableError, match="is away"):
            Home(tmp_path, worker=newcomer)


def test_without_a_state_directory_all_workers_answer_with_the_shipped_version(
    tmp_path: Path,
) -> None:
    with scoreboard_of(tmp_path, 2) as board:
        workers = [Worker(board, row, "it is another service's") for row in board.rows]
        with (
            house(tmp_path, worker=workers[0]) as one,
            house(tmp_path, worker=workers[1]) as other,
        ):
            assert answers_of([one, other]) == {SHIPPED}
            assert one.retraining.note == "retraining is unavailable: it is another service's"


def test_a_worker_that_starts_while_a_version_is_activated_begins_with_the_newer_one(
    tmp_path: Path,
) -> None:
    with scoreboard_of(tmp_path, 3) as board, ExitStack() as stack:
        workers = [Worker(board, row, None) for row in board.rows]
        one, other = (stack.enter_context(house(tmp_path, worker=each)) for each in workers[:2])
        made = one.make(1)
        goes_on = threading.Event()
        other.engine.before_install = goes_on.wait
        activating = threading.Thread(target=one.versions.activate, args=[made], daemon=True)
        activating.start()
        eventually(lambda: one.engine.answers == made)
        starting: list[Home] = []
        start = threading.Thread(
            target=lambda: starting.append(Home(tmp_path, worker=workers[2])), daemon=True
        )
        start.start()
        start.join(0.3)
        assert start.is_alive()
        goes_on.set()
        activating.join()
        start.join()
        assert answers_of([one, other, *starting]) == {made}
        starting[0].retraining.stop()


def test_who_waits_for_a_worker_that_does_nothing_any_more_has_it_killed(tmp_path: Path) -> None:
    with crew(tmp_path) as (stopped, waits):
        made, holds, goes_on = stopped.make(1), threading.Event(), threading.Event()
        stopped.engine.before_prepare = lambda: (holds.set(), goes_on.wait())
        changing = threading.Thread(target=stopped.versions.activate, args=[made], daemon=True)
        changing.start()
        assert holds.wait(60)  # the change, for which the other one has to wait
        row_of(stopped).beat = 1
        waiting = threading.Thread(target=waits.listed, daemon=True)
        waiting.start()
        eventually(lambda: row_of(stopped).pid == 0)
        goes_on.set()
        changing.join()
        waiting.join()


def test_a_proof_that_one_worker_is_asked_for_is_told_by_all_and_its_table_taken_up_by_all(
    tmp_path: Path,
) -> None:
    weights = Path(shutil.copy(SHIPPED_WEIGHTS, tmp_path))
    with crew(tmp_path / "state", weights=weights) as homes:
        for home in homes:
            home.children.in_phase = wait_forever("proving")
        assert homes[1].versions.prove("shipped").proving is not None
        for home in homes:
            assert home.versions.get("shipped").proving is not None
            with pytest.raises(ConflictError, match="is being proven"):
                home.versions.prove("shipped")
        for home in homes:
            home.children.in_phase = lambda phase, check: None
        for home in homes:
            eventually(lambda home=home: home.versions.get("shipped").proven)
            eventually(lambda home=home: home.engine.has_tables_of == {SHIPPED})
        assert sum(home.children.num_proofs for home in homes) == 1


def test_hangups_at_all_workers_leave_all_with_the_active_version(tmp_path: Path) -> None:
    weights = shipped_copy(tmp_path)
    with crew(tmp_path / "state", weights=weights) as homes:
        made = homes[0].make(1)
        threads = [
            threading.Thread(target=home.retraining.reload, daemon=True) for home in homes * 3
        ]
        for thread in threads:
            thread.start()
        homes[0].versions.activate(made)
        for thread in threads:
            thread.join()
        assert answers_of(homes) == {made} == {version_of(1)}
