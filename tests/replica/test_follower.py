"""What a replica does, whatever its primary does: the variants, without a socket."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from app.errors import ConflictError
from app.replica import follower as follower_module
from app.replica.files import KEEP
from tests.end_to_end.load import until
from tests.jobs.house import SHIPPED, SHIPPED_FILE, Home, house, version_of
from tests.replica.primary import URL, FakePrimary, Replica, replica, sent
from training.weights import SHIPPED_WEIGHTS


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with house(tmp_path / "primary") as home:
        yield home


@pytest.fixture
def primary(home: Home) -> FakePrimary:
    return FakePrimary(home)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "replica"


def gone(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nobody is there")


def test_an_activation_and_a_rollback_are_followed_each_in_a_higher_generation(
    home: Home, primary: FakePrimary, state: Path
) -> None:
    with replica(state, primary) as follower:
        seen = []
        follower.follow()
        assert follower.engine.answers == SHIPPED
        seen.append(follower.following.generation)
        for version in (home.make(1, "always"), home.make(2, "always"), version_of(1), SHIPPED):
            home.versions.activate("shipped" if version == SHIPPED else version)
            follower.follow()
            assert follower.engine.answers == version
            seen.append(follower.following.generation)
        assert seen == sorted(set(seen))
        assert (follower.note, follower.following.fault) == (None, None)


def test_without_news_nothing_is_fetched_and_a_rollback_fetches_nothing_either(
    home: Home, primary: FakePrimary, state: Path
) -> None:
    with replica(state, primary) as follower:
        home.make(1, "always")
        follower.follow()
        home.make(2, "always")
        follower.follow()
        primary.asked.clear()
        follower.follow()
        home.versions.activate(version_of(1))
        follower.follow()
        assert follower.engine.answers == version_of(1)
        assert primary.fetched == []


def test_a_card_that_a_proof_was_put_into_is_followed_in_the_same_generation(
    home: Home, primary: FakePrimary, state: Path
) -> None:
    with replica(state, primary) as follower:
        version = home.make(1, "always")
        follower.follow()
        generation = follower.following.generation
        card = home.file(version).with_suffix(".json")
        changed = json.loads(card.read_text()) | {"training_seconds": 1234.5}
        card.write_text(json.dumps(changed))
        follower.follow()
        assert follower.following.generation == generation
        assert follower.following.fault is None
        (kept,) = [
            path for path in (state / "replica").glob("*/*.json") if "1234.5" in path.read_text()
        ]
        assert kept.stem == version


def test_a_table_and_a_verdict_that_the_primary_came_to_are_followed_in_the_same_generation(
    state: Path, tmp_path: Path
) -> None:
    weights = shutil.copy(SHIPPED_WEIGHTS, tmp_path / "menny.npz")  # with neither card nor table
    with (
        house(tmp_path / "another", weights=weights) as home,
        replica(state, FakePrimary(home)) as follower,
    ):
        follower.follow()
        before = follower.following
        assert follower.proof_of(SHIPPED, None) is None
        home.versions.prove("shipped")
        asyncio.run(until(lambda: home.versions.get("shipped").proving is None))
        follower.follow()
        assert follower.following == before
        assert follower.proof_of(SHIPPED, None) == SHIPPED_FILE.card.proof
        (kept,) = (state / "replica").glob("*/*_answers.npz")
        assert kept.read_bytes() == TABLE
    with replica(state, FakePrimary(home)) as follower:
        assert follower.proof_of(SHIPPED, None) is not None
        assert follower.proof_of(version_of(1), None) is None


def test_a_primary_that_is_gone_is_missed_with_a_time_and_the_last_version_goes_on(
    home: Home, primary: FakePrimary, state: Path
) -> None:
    with replica(state, primary) as follower:
        version = home.make(1, "always")
        follower.follow()
        primary.says = gone
        follower.follow()
        since = follower.following.since
        follower.follow()
        assert follower.following.since == since is not None
        assert follower.engine.answers == version
        assert f"{URL} can't be asked: nobody is there" in str(follower.following.fault)
        assert f"version {version} goes on answering" in str(follower.note)
        assert since.isoformat(timespec="seconds") in str(follower.note)
        primary.says = lambda request: None
        follower.follow()
        assert (follower.following.fault, follower.following.since) == (None, None)


def test_a_restart_without_the_primary_answers_with_the_last_version_at_once(
    home: Home, primary: FakePrimary, state: Path
) -> None:
    with replica(state, primary) as follower:
        version = home.make(1, "always")
        follower.follow()
        generation = follower.following.generation
    primary.says = gone
    with replica(state, primary) as follower:
        assert follower.engine.answers == version
        assert follower.following.generation == generation
        assert follower.engine.fault is None


def test_a_first_start_without_the_primary_answers_nothing_until_it_comes(
    primary: FakePrimary, state: Path
) -> None:
    primary.says = gone
    with replica(state, primary) as follower:
        assert "nothing has been heard yet" in str(follower.engine.fault)
        follower.follow()
        assert follower.engine.answers is None
        assert "nobody is there" in str(follower.engine.fault)
        primary.says = lambda request: None
        follower.follow()
        assert (follower.engine.answers, follower.engine.fault) == (SHIPPED, None)


def test_another_primary_is_a_first_start(home: Home, primary: FakePrimary, state: Path) -> None:
    with replica(state, primary) as follower:
        follower.follow()
    primary.says = gone
    with replica(state, primary, "http://127.0.0.1:8001") as follower:
        follower.follow()
        assert follower.engine.answers is None


# --- a primary that lies --------------------------------------------------------------------------

Lie = Callable[[FakePrimary, dict[str, object], str], httpx.Response | None]


def announcing(**changes: object) -> Lie:
    def lie(_: FakePrimary, announced: dict[str, object], path: str) -> httpx.Response | None:
        if path == "/models/active":
            return sent(json.dumps(announced | changes).encode())
        return None

    return lie


def file_is(part: str, content: bytes, *, is_announced: bool) -> Lie:
    """A file with other content, whether or not the announced hash is the right one."""

    def lie(_: FakePrimary, announced: dict[str, object], path: str) -> httpx.Response | None:
        if path == "/models/active":
            digest = hashlib.sha256(content).hexdigest()
            changes: dict[str, object] = {part: digest} if is_announced else {}
            if is_announced and part == "weights":
                changes |= {"version": digest[:12], "card": None, "answers": None}
            return sent(json.dumps(announced | changes).encode())
        return sent(content) if path.endswith(part) else None

    return lie


def everywhere(response: Callable[[], httpx.Response]) -> Lie:
    return lambda primary, announced, path: response()


FILE = SHIPPED_WEIGHTS.read_bytes()
CARD = SHIPPED_WEIGHTS.with_suffix(".json").read_bytes()
TABLE = SHIPPED_WEIGHTS.with_name("menny_model_answers.npz").read_bytes()

LIES: dict[str, tuple[Lie, str]] = {
    "a lower generation": (announcing(generation=1), "which is below"),
    "no JSON": (everywhere(lambda: sent(b"hello")), "does not say what is active"),
    "other JSON": (everywhere(lambda: sent(b"[]")), "does not say what is active"),
    "a path as a version": (announcing(version="../../../../x"), "does not say what is active"),
    "another version": (announcing(version="0123456789ab"), "not the one of these weights"),
    "an endless announcement": (everywhere(lambda: sent(b" " * 20_000)), "larger than 16,384"),
    "a redirect": (
        everywhere(lambda: sent(b"", 302, location="http://elsewhere.example/")),
        "answers 302",
    ),
    "not modified, unasked": (everywhere(lambda: sent(b"", 304)), "answers 304"),
    "a wrong token": (everywhere(lambda: sent(b"", 401)), "MENNY_READ_TOKEN"),
    "a failure": (everywhere(lambda: sent(b"oh", 500)), "answers 500"),
    "other weights": (file_is("weights", FILE[:-1], is_announced=False), "sent other weights"),
    "another card": (file_is("card", b"{}", is_announced=False), "sent other card"),
    "endless weights": (
        file_is("weights", bytes(2**24 + 1), is_announced=False),
        "larger than 16,777,216 bytes",
    ),
    "damaged weights": (file_is("weights", FILE[:-1000], is_announced=True), "is not an .npz"),
    "a card of other weights": (file_is("card", CARD, is_announced=True), "belongs to other"),
    "a table of other weights": (file_is("answers", TABLE, is_announced=True), "answer table of"),
    "a damaged table": (file_is("answers", TABLE[:-9], is_announced=True), "is not an .npz"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_primary_that_lies_is_not_followed_and_the_last_version_goes_on(
    home: Home, primary: FakePrimary, state: Path, name: str
) -> None:
    lie, reason = LIES[name]
    with replica(state, primary) as follower:
        version = home.make(1, "always")
        follower.follow()
        home.make(2, "always")
        announced = json.loads(home.versions.announce().model_dump_json())
        primary.says = lambda request: lie(primary, announced, request.url.path)
        follower._etag = None if "unasked" in name else follower._etag
        follower.follow()
        assert follower.engine.answers == version
        assert reason in str(follower.following.fault)
        assert follower.following.since is not None
    with replica(state, primary) as follower:
        assert follower.engine.answers == version
        primary.says = lambda request: None
        follower.follow()
        assert (follower.engine.answers, follower.note) == (version_of(2), None)


def test_another_version_in_the_same_generation_is_not_followed(
    home: Home, primary: FakePrimary, state: Path
) -> None:
    with replica(state, primary) as follower:
        version = home.make(1, "always")
        follower.follow()
        generation = follower.following.generation
        home.make(2, "always")
        announced = json.loads(home.versions.announce().model_dump_json())
        primary.says = lambda request: announcing(generation=generation)(
            primary, announced, request.url.path
        )
        follower.follow()
        assert follower.engine.answers == version
        assert f"which was version {version}" in str(follower.following.fault)


def test_what_the_engine_refuses_is_not_followed(
    home: Home, primary: FakePrimary, state: Path
) -> None:
    with replica(state, primary) as follower:
        follower.follow()
        follower.engine.refuses.add(home.make(1, "always"))
        follower.follow()
        assert follower.engine.answers == SHIPPED
        assert "the engine won't" in str(follower.following.fault)


def test_what_was_refused_is_fetched_again_after_a_while_and_not_before(
    home: Home, primary: FakePrimary, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replica(state, primary) as follower:
        follower.follow()
        version = home.make(1, "always")
        primary.says = lambda request: (
            sent(b"half") if request.url.path.endswith("weights") else None
        )
        follower.follow()
        fault = follower.following.fault
        primary.asked.clear()
        follower.follow()
        assert (primary.fetched, follower.following.fault) == ([], fault)
        primary.says = lambda request: None
        monkeypatch.setattr(follower_module, "RETRY_S", 0)
        follower.follow()
        assert follower.engine.answers == version


# --- what a replica keeps -------------------------------------------------------------------------


def kept(state: Path) -> list[str]:
    return sorted(path.stem for path in (state / "replica").glob("*/*.npz"))


def test_the_last_versions_are_kept_and_older_ones_go(
    home: Home, primary: FakePrimary, state: Path
) -> None:
    with replica(state, primary) as follower:
        for seed in range(1, KEEP + 3):
            home.make(seed, "always")
            follower.follow()
        assert kept(state) == sorted(version_of(seed) for seed in range(3, KEEP + 3))


@pytest.mark.parametrize("part", ["npz", "json"])
def test_a_kept_file_that_was_damaged_is_thrown_away_and_fetched_again(
    home: Home, primary: FakePrimary, state: Path, part: str
) -> None:
    with replica(state, primary) as follower:
        version = home.make(1, "always")
        follower.follow()
    (file,) = (state / "replica").glob(f"*/*.{part}")
    file.write_bytes(file.read_bytes()[:-100])
    with replica(state, primary) as follower:
        assert follower.engine.answers is None
        follower.follow()
        assert follower.engine.answers == version
        assert follower.following.fault is None


@pytest.mark.parametrize("damage", ["gone", "half", "another's"])
def test_without_its_note_of_what_is_followed_it_asks_the_primary(
    home: Home, primary: FakePrimary, state: Path, damage: str
) -> None:
    with replica(state, primary) as follower:
        follower.follow()
    note = state / "replica" / "following.json"
    text = note.read_text()
    note.unlink()
    if damage != "gone":
        note.write_text(text[:-20] if damage == "half" else '{"a": 1}')
    with replica(state, primary) as follower:
        assert follower.engine.answers is None
        follower.follow()
        assert follower.engine.answers == SHIPPED


def test_half_of_a_version_that_a_crash_left_goes_at_the_next_start(
    primary: FakePrimary, state: Path
) -> None:
    leftover = state / "replica" / ".new-abc"
    leftover.mkdir(parents=True)
    with replica(state, primary):
        assert not leftover.exists()


def test_a_state_directory_of_another_service_is_left_alone_and_nothing_is_served(
    primary: FakePrimary, state: Path
) -> None:
    with replica(state, primary), replica(state, primary) as second:
        assert "another service uses the state directory" in str(second.engine.fault)
        assert second.engine.answers is None


def test_a_replica_keeps_what_follows_though_its_folder_was_removed(
    home: Home, primary: FakePrimary, state: Path
) -> None:
    with replica(state, primary) as follower:
        follower.follow()
        shutil.rmtree(state / "replica")
        home.make(1, "always")
        follower.follow()
        assert follower.engine.answers == SHIPPED
        assert "can't be used" in str(follower.following.fault)


def test_jobs_and_versions_are_the_primarys(primary: FakePrimary, state: Path) -> None:
    with replica(state, primary) as follower:
        for name in ("store", "versions"):
            with pytest.raises(ConflictError, match=f"ask its primary, {URL}"):
                getattr(follower, name)


def test_a_fault_of_its_own_does_not_end_the_following(
    primary: FakePrimary, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []

    def fail(self: Replica) -> None:
        rounds.append(1)
        if len(rounds) == 2:
            self._stopping.set()
        raise ZeroDivisionError

    monkeypatch.setattr(Replica, "follow", fail)
    monkeypatch.setattr(follower_module, "ASK_S", 0)
    with replica(state, primary) as follower:
        follower._run()
        assert len(rounds) == 2
        assert "its log has more" in str(follower.following.fault)
