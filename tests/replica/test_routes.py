"""What a primary lets replicas read, and what a replica refuses, over HTTP but in process."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from app.settings import Settings
from tests.in_process import InProcess, in_process
from tests.jobs.house import house, make_weights, version_of
from tests.replica.primary import URL
from tests.retraining import ADMIN, TOKEN
from training.proof.answers import table_path
from training.weights import SHIPPED_WEIGHTS, card_path, load_weights, save_weights

READ_TOKEN = "a-token-to-read-with"  # noqa: S105 - it guards nothing
READ = {"Authorization": f"Bearer {READ_TOKEN}"}


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    state = tmp_path_factory.mktemp("primary")
    (state / "versions").mkdir()
    save_weights(state / "versions" / f"{version_of(1)}.npz", *make_weights(1))
    with in_process(state_dir=state, admin_token=TOKEN, read_token=READ_TOKEN) as running:
        yield running


def test_the_active_version_is_named_with_the_hashes_of_its_files(primary: InProcess) -> None:
    active = primary.client.get("/models/active", headers=READ).json()
    shipped = load_weights(SHIPPED_WEIGHTS)
    assert (active["version"], active["weights"]) == (shipped.version, shipped.sha256)
    paths = {
        "weights": SHIPPED_WEIGHTS,
        "card": card_path(SHIPPED_WEIGHTS),
        "answers": table_path(SHIPPED_WEIGHTS),
    }
    for part, path in paths.items():
        response = primary.client.get(f"/models/{active['version']}/{part}", headers=READ)
        assert response.content == path.read_bytes()
        assert active[part] == hashlib.sha256(response.content).hexdigest()


def test_the_etag_of_the_active_version_spares_an_answer_until_something_changes(
    primary: InProcess,
) -> None:
    first = primary.client.get("/models/active", headers=READ)
    known = READ | {"If-None-Match": first.headers["etag"]}
    again = primary.client.get("/models/active", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    for name in (version_of(1), "shipped"):
        primary.client.post(f"/models/{name}/activate", headers=ADMIN)
        changed = primary.client.get("/models/active", headers=known)
        assert changed.status_code == 200
        assert changed.headers["etag"] != first.headers["etag"]


def test_a_rollback_is_a_higher_generation_with_an_older_version(primary: InProcess) -> None:
    def generation() -> int:
        return primary.client.get("/models/active", headers=READ).json()["generation"]

    seen = [generation()]
    for name in (version_of(1), "shipped", version_of(1), "shipped"):
        primary.client.post(f"/models/{name}/activate", headers=ADMIN)
        seen += [generation(), generation()]
    assert seen == sorted(seen)
    assert len(set(seen)) == 5


def test_what_a_version_does_not_have_is_404(primary: InProcess) -> None:
    for path in (f"{version_of(1)}/answers", "0123456789ab/weights", "shipped/secrets"):
        assert primary.client.get(f"/models/{path}", headers=READ).status_code == 404


def test_the_read_token_opens_the_files_and_nothing_else(primary: InProcess) -> None:
    ask = primary.client.request
    for path in ("/models/active", "/models/shipped/card"):
        assert ask("GET", path, headers=READ).status_code == 200
        assert ask("GET", path, headers=ADMIN).status_code == 200
        refused = ask("GET", path)
        assert refused.status_code == 401
        assert "MENNY_READ_TOKEN" in refused.json()["detail"]
        assert ask("GET", path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    for method, path in (
        ("GET", "/models"),
        ("GET", "/models/shipped"),
        ("POST", "/models/shipped/activate"),
        ("DELETE", f"/models/{version_of(1)}"),
        ("GET", "/train"),
        ("POST", "/train"),
        ("DELETE", "/train/1"),
    ):
        assert ask(method, path, headers=READ).status_code == 401


def test_without_a_read_token_the_admin_token_alone_opens_the_files(tmp_path: Path) -> None:
    with in_process(state_dir=tmp_path, admin_token=TOKEN) as running:
        for headers, status in ((ADMIN, 200), (READ, 401), ({"Authorization": "Bearer "}, 401)):
            assert running.client.get("/models/active", headers=headers).status_code == status


def test_a_restart_keeps_the_generation_and_a_lost_database_does_not_lower_it(
    tmp_path: Path,
) -> None:
    with house(tmp_path) as home:
        home.make(1, "always")
        first = home.versions.announce()
    with house(tmp_path) as home:
        assert home.versions.announce() == first
        home.versions.activate("shipped")
        second = home.versions.announce().generation
        assert second > first.generation
        home.versions.activate(version_of(1))
        home.versions.activate("shipped")  # the same answers, when somebody asks again
        back = home.versions.announce().generation
        assert back > second
    for file in tmp_path.glob("menny.sqlite3*"):
        file.unlink()
    with house(tmp_path) as home:
        home.versions.activate(version_of(1))
        assert home.versions.announce().generation >= back


def test_a_replica_that_has_heard_nothing_is_503_and_sends_changes_to_its_primary(
    tmp_path: Path,
) -> None:
    with in_process(state_dir=tmp_path, admin_token=TOKEN, follow="http://127.0.0.1:1") as replica:
        health = replica.client.get("/health")
        assert health.status_code == 503
        assert health.json()["following"]["primary"] == "http://127.0.0.1:1"
        assert "127.0.0.1:1" in health.json()["reason"]
        assert replica.client.post("/transform", json={"query": "a"}).status_code == 503
        assert replica.client.get("/v2/health/ready").status_code == 503
        for method, path in (
            ("POST", "/train"),
            ("DELETE", "/train/1"),
            ("GET", "/models"),
            ("POST", "/models/shipped/activate"),
            ("DELETE", "/models/0123456789ab"),
        ):
            refused = replica.client.request(method, path, headers=ADMIN)
            assert refused.status_code == 409
            assert "its primary, http://127.0.0.1:1" in refused.json()["detail"]
            assert replica.client.request(method, path).status_code == 401


@pytest.mark.parametrize(
    ("url", "options", "fault"),
    [
        ("http://primary.example.org", {}, "unencrypted: use https"),
        ("http://10.0.0.1:8000", {}, "MENNY_FOLLOW_OVER_PLAIN_HTTP"),
        ("http://127.0.0.1.example.org:8000", {}, "unencrypted"),
        ("primary:8000", {}, "is not an address"),
        ("ftp://primary", {}, "is not an address"),
        ("https://user:secret@primary", {}, "is not an address"),
        ("https://primary/path", {}, "is not an address"),
        ("https://primary?query", {}, "is not an address"),
        ("http://primary.example.org", {"follow_over_plain_http": True}, None),
        ("https://primary.example.org:8443/", {}, None),
        ("http://localhost:8000", {}, None),
        ("http://[::1]:8000", {}, None),
        (URL, {}, None),
    ],
)
def test_a_primary_elsewhere_is_followed_over_plain_http_only_if_one_says_so(
    url: str, options: dict[str, bool], fault: str | None
) -> None:
    if fault is None:
        assert Settings(follow=url, **options).follow == url.rstrip("/")
    else:
        with pytest.raises(ValidationError, match=fault):
            Settings(follow=url, **options)


def test_an_unknown_path_of_a_version_names_no_file(primary: InProcess) -> None:
    response: httpx.Response = primary.client.get("/models/..%2F..%2Fetc/weights", headers=READ)
    assert response.status_code in {404, 422}
