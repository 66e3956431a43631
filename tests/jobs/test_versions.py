"""No version is ever lost, no answered activation undone: what serves and what is said agree."""

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from app.errors import ConflictError, NotFoundError, StateUnavailableError
from tests.jobs.house import SHIPPED, house, make_weights, metrics_of, shipped_copy, version_of
from training.errors import WeightsError
from training.weights import Weights, card_path, load_weights, save_weights


@pytest.mark.parametrize("loss", ["truncated", "removed"])
def test_versions_beside_a_new_database_are_taken_in_again_from_their_files(
    tmp_path: Path, loss: str
) -> None:
    with house(tmp_path) as home:
        made = [home.make(seed, "always") for seed in (1, 2, 3)]
    database = tmp_path / "menny.sqlite3"
    if loss == "truncated":
        os.truncate(database, 0)
    else:
        database.unlink()

    with house(tmp_path) as home:
        assert home.listed() == [*made[::-1], SHIPPED]
        assert home.engine.answers == SHIPPED
        assert home.active() == [SHIPPED]
        assert "the database was lost" in home.retraining.note
        assert all(version in home.retraining.note for version in made)
        assert home.versions.get(made[0]).card.config.seed == 1
        home.versions.activate(made[2])
        assert home.engine.answers == made[2]
    with house(tmp_path) as home:
        assert home.engine.answers == made[2]
        assert home.retraining.note is None


def test_what_is_none_of_ours_in_versions_is_left_alone(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        made = home.make()
    folder = tmp_path / "versions"
    (folder / "backup").mkdir()
    (folder / "backup.npz").mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "0123456789ab.npz").write_bytes(b"damaged")
    (folder / f".{made}.npz.x1_y2").write_bytes(b"half")  # what a crash left, and it alone
    (folder / "ba9876543210.json").write_text("{}")

    with house(tmp_path) as home:
        assert home.listed() == [made, SHIPPED]
        assert {path.name for path in folder.iterdir()} == {
            *(f"{made}.npz", f"{made}.json"),
            *("backup", "backup.npz", "notes.txt", "0123456789ab.npz"),
        }


def test_a_version_without_a_card_is_taken_in_and_one_of_other_weights_is_not(
    tmp_path: Path,
) -> None:
    with house(tmp_path) as home:
        made = home.make()
    shutil.copy(home.file(made), tmp_path / "versions" / "00112233aabb.npz")
    card_path(home.file(made)).unlink()
    (tmp_path / "menny.sqlite3").unlink()
    with house(tmp_path) as home:
        assert home.listed() == [made, SHIPPED]
        assert home.versions.get(made).card is None
        assert home.file("00112233aabb").exists()


def test_an_active_version_that_was_damaged_at_start_serves_once_it_is_mended(
    tmp_path: Path,
) -> None:
    with house(tmp_path) as home:
        made = home.make(1, "always")
        other = home.make(2)
    whole = home.file(made).read_bytes()
    home.file(made).write_bytes(b"damaged")

    with house(tmp_path) as home:
        assert (home.engine.answers, home.active()) == (SHIPPED, [SHIPPED])
        assert f"version {made} is the active one, but can't be served" in home.retraining.note
        with pytest.raises(ConflictError):  # a restart would serve it
            home.versions.delete(made)
        home.retraining.reload()
        assert home.engine.answers == SHIPPED

        home.file(made).write_bytes(whole)
        home.retraining.reload()
        assert (home.engine.answers, home.active()) == (made, [made])
        assert home.retraining.note is None

        home.versions.activate(other)
        home.retraining.reload()
        assert (home.engine.answers, home.active()) == (other, [other])


def test_a_version_that_is_damaged_while_it_answers_goes_on_answering(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        made = home.make(1, "always")
        save_weights(home.file(made), *make_weights(7))  # whole, but another version's
        home.retraining.reload()
        assert (home.engine.answers, home.active()) == (made, [made])
        assert f"holds other weights than version {made}" in home.engine.fault
        home.versions.activate("shipped")
        assert home.engine.fault is None
        with pytest.raises(WeightsError, match="other weights"):
            home.versions.activate(made)
        assert (home.engine.answers, home.active()) == (SHIPPED, [SHIPPED])


def test_losing_the_database_while_the_service_runs_changes_nothing_of_what_serves(
    tmp_path: Path,
) -> None:
    with house(tmp_path) as home:
        made = home.make(1, "always")
        (tmp_path / "menny.sqlite3").rename(tmp_path / "elsewhere")
        home.retraining.reload()
        assert home.engine.answers == made
        with pytest.raises(StateUnavailableError, match="removed or replaced"):
            home.versions.list_all()


def test_an_activation_survives_the_removal_of_the_databases_log(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        made = home.make(1)
        home.versions.activate(made)
        (tmp_path / "menny.sqlite3-wal").unlink()
        with pytest.raises(StateUnavailableError, match="-wal, was removed or replaced"):
            home.versions.activate("shipped")
        assert home.engine.answers == made
    with house(tmp_path) as home:
        assert (home.engine.answers, home.active()) == (made, [made])


def test_an_activation_that_the_database_or_the_engine_refuses_changes_nothing(
    tmp_path: Path,
) -> None:
    with house(tmp_path) as home:
        made = home.make(1)
        home.engine.refuses.add(made)
        with pytest.raises(WeightsError):
            home.versions.activate(made)
        assert (home.engine.answers, home.active()) == (SHIPPED, [SHIPPED])
        job = home.run_job(1, "always")
        assert (job.state, job.promoted, job.reason) == ("failed", False, "the engine won't")
        home.engine.refuses.clear()

        blocker = sqlite3.connect(tmp_path / "menny.sqlite3", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        for change in (home.versions.activate, home.versions.delete):
            with pytest.raises(StateUnavailableError, match="locked"):
                change(made)
        blocker.close()
        assert (home.engine.answers, home.active()) == (SHIPPED, [SHIPPED])
        assert home.listed() == [made, SHIPPED]
    with house(tmp_path) as home:
        assert home.engine.answers == SHIPPED


def test_the_shipped_version_is_listed_as_it_answers_until_sighup(tmp_path: Path) -> None:
    weights = shipped_copy(tmp_path)
    with house(tmp_path / "state", weights=weights) as home:
        old = home.engine.answers
        replaced = save_weights(weights, *make_weights(9)).sha256[:12]
        assert home.active() == [old] == [home.engine.answers]
        with pytest.raises(WeightsError, match=f"holds version {replaced} now, not {old}"):
            home.versions.activate(old)
        home.retraining.reload()
        assert home.active() == [replaced] == [home.engine.answers]

        weights.write_bytes(b"damaged")
        home.retraining.reload()
        assert home.active() == [replaced] == [home.engine.answers]
        assert "menny train" in home.engine.fault


def test_the_shipped_version_is_there_though_its_file_cannot_be_opened(tmp_path: Path) -> None:
    """As when descriptors are used up."""
    weights = shipped_copy(tmp_path)
    with house(tmp_path / "state", weights=weights) as home:
        weights.rename(tmp_path / "elsewhere.npz")
        card_path(weights).rename(tmp_path / "elsewhere.json")
        shipped = home.versions.get("shipped")
        assert (shipped.active, shipped.version) == (True, home.engine.answers)
        assert shipped.card is not None


def test_a_card_is_read_from_its_file_alone(tmp_path: Path) -> None:
    weights = shipped_copy(tmp_path)
    with house(tmp_path / "state", weights=weights) as home:
        for name, path in (("shipped", weights), (made := home.make(), home.file(made))):
            before = load_weights(path).card
            assert home.versions.get(name).card == before
            changed = before.model_copy(update={"training_seconds": 1234.0})
            card_path(path).write_text(changed.model_dump_json())
            assert home.versions.get(name).card.training_seconds == 1234.0


def test_so_many_versions_are_kept_besides_the_active_and_the_newest_goes_last(
    tmp_path: Path,
) -> None:
    with house(tmp_path, keep_versions=1) as home:
        first = home.make(1, "always")
        second = home.make(2, "always")
        assert home.listed() == [second, first, SHIPPED]
        third = home.make(3)
        assert home.listed() == [third, second, SHIPPED]
        assert not home.file(first).exists()
    with house(tmp_path, keep_versions=2) as home:
        fourth = home.make(4)
        assert home.listed() == [fourth, third, second, SHIPPED]
        assert home.make(3) == third  # made again: it is the newest now
        assert home.listed() == [third, fourth, second, SHIPPED]
        fifth = home.make(5)
        assert home.listed() == [fifth, third, second, SHIPPED]


def test_pruning_beside_activations_and_deletions_never_takes_what_answers(tmp_path: Path) -> None:
    def keep_on(what: Callable[[int], object]) -> None:
        number = 0
        while not enough.is_set():
            number += 1
            with suppress(NotFoundError, ConflictError, WeightsError):
                what(number)

    def activate(number: int) -> None:
        home.versions.activate(version_of(number % 4 + 1))

    def delete(number: int) -> None:
        home.versions.delete(version_of(number % 4 + 1))

    def look(number: int) -> None:
        (active,) = home.active()
        assert home.versions.get(active).card is not None
        assert home.versions.copy_active(tmp_path / "copy.npz").card is not None

    with house(tmp_path / "state", keep_versions=1) as home:
        job_id = home.run_job(1).id
        enough = threading.Event()
        with ThreadPoolExecutor() as threads:
            others = [threads.submit(keep_on, what) for what in (activate, delete, look)]
            try:
                for seed in [2, 3, 4, 1] * 5:
                    parameters, card = make_weights(seed)
                    weights = Weights(parameters, version_of(seed) + "0" * 52, card)
                    home.versions.keep(weights, card, job_id)
            finally:
                enough.set()
            for other in others:
                other.result()
        assert home.active() == [home.engine.answers]
        listed = home.listed()
        for name in listed:
            if name != SHIPPED:
                assert load_weights(home.file(name)).version == name
        assert len(listed) <= 3  # the active one, one besides, and the shipped
    with house(tmp_path / "state", keep_versions=1) as again:
        assert again.listed() == listed
        assert again.engine.answers == home.engine.answers
        assert again.retraining.note is None


def test_a_version_that_is_active_or_shipped_is_not_deleted(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        made = home.make(1, "always")
        for name in (made, "shipped", SHIPPED):
            with pytest.raises(ConflictError):
                home.versions.delete(name)
        home.versions.activate(SHIPPED)
        home.versions.delete(made)
        with pytest.raises(NotFoundError):
            home.versions.activate(made)
        assert not list((tmp_path / "versions").iterdir())


def test_a_version_that_loses_by_the_gate_is_kept_and_one_that_passes_is_put_in(
    tmp_path: Path,
) -> None:
    with house(tmp_path) as home:
        home.children.measured[version_of(1)] = metrics_of(rule_accuracy=0.99)
        home.children.measured[version_of(2)] = metrics_of(excess_nll=0.1)
        for seed, why in ((1, "rule_accuracy is 0.990000, below 1"), (2, "excess_nll is 0.1")):
            job = home.run_job(seed, "if_better")
            assert (job.state, job.promoted) == ("succeeded", False)
            assert why in job.reason
            assert home.engine.answers == SHIPPED
        job = home.run_job(3, "if_better")
        assert (job.promoted, home.engine.answers) == (True, job.version)
        card = home.versions.get(job.version).card
        assert (card.parent, card.metrics) == (SHIPPED, job.gate.candidate)


@pytest.mark.parametrize("damage", ["missing", "damaged", "another's"])
def test_with_an_active_file_that_cannot_be_measured_nothing_is_put_in_as_better(
    tmp_path: Path, damage: str
) -> None:
    with house(tmp_path, gate_rule_accuracy=0.1) as home:
        active = home.make(1, "always")
        if damage == "missing":
            home.file(active).unlink()
        elif damage == "damaged":
            home.file(active).write_bytes(b"damaged")
        else:
            save_weights(home.file(active), *make_weights(5))
        job = home.run_job(2, "if_better")
        assert (job.state, job.promoted, job.gate.passed) == ("succeeded", False, False)
        assert "can't be compared with the version that answers" in job.reason
        assert str(tmp_path) not in job.reason
        assert home.engine.answers == active
        assert home.run_job(2, "always").promoted


def test_a_version_that_is_deleted_while_a_job_is_measured_against_it_fails_no_job(
    tmp_path: Path,
) -> None:
    with house(tmp_path) as home:
        active = home.make(1, "always")

        def delete(phase: str, check: object) -> None:
            if phase == "checking":
                home.versions.activate("shipped")
                home.versions.delete(active)

        home.children.in_phase = delete
        job = home.run_job(2, "if_better")
        assert (job.state, job.promoted) == ("succeeded", False)
        assert f"version {active}, which it was measured against, is no longer" in job.reason
        assert home.engine.answers == SHIPPED


def test_a_version_that_is_activated_in_spite_of_the_gate_says_that_it_was_asked_for(
    tmp_path: Path,
) -> None:
    with house(tmp_path) as home:
        home.children.measured[version_of(1)] = metrics_of(rule_accuracy=0.5)
        reason = home.run_job(1, "always").reason
        assert reason is not None
        assert "is active because promote is always, though its rule_accuracy is 0.5" in reason


def test_a_reload_beside_activations_never_brings_an_older_version_back(tmp_path: Path) -> None:
    """As when SIGHUP comes some milliseconds after the request, or during a promotion."""
    with house(tmp_path) as home:
        first, second = home.make(1), home.make(2)
        prepare, enough = home.engine.prepare, threading.Event()

        def prepare_slowly(weights: Weights, file: Path) -> str:
            time.sleep(0.002)
            return prepare(weights, file)

        def reload() -> None:
            while not enough.is_set():
                home.retraining.reload()

        home.engine.prepare = prepare_slowly
        reloading = [threading.Thread(target=reload) for _ in range(2)]
        for thread in reloading:
            thread.start()
        try:
            for name in [first, second, SHIPPED] * 3:
                home.versions.activate(name)
                for _ in range(5):
                    assert home.engine.answers == name
                    time.sleep(0.005)
            job = home.run_job(3, "always")
            assert home.engine.answers == job.version
        finally:
            enough.set()
            for thread in reloading:
                thread.join()
        assert home.active() == [job.version]
