"""Promise 6: who may do what is under /train and /models."""

import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings
from tests.in_process import InProcess, in_process
from tests.retraining import ADMIN, TOKEN
from tests.service import clean_environment, running_service

ROUTES = [
    ("GET", "/train"),
    ("POST", "/train"),
    ("GET", "/train/1"),
    ("DELETE", "/train/1"),
    ("GET", "/train/1/events"),
    ("GET", "/models"),
    ("GET", "/models/shipped"),
    ("POST", "/models/shipped/activate"),
    ("POST", "/models/shipped/prove"),
    ("GET", "/models/shipped/events"),
    ("DELETE", "/models/shipped"),
]
FILES = [
    ("GET", "/models/active"),
    *[("GET", f"/models/shipped/{part}") for part in ("weights", "card", "answers")],
]
"""What the read token opens, too."""


@pytest.fixture(scope="module")
def guarded() -> Iterator[InProcess]:
    with in_process(admin_token=TOKEN) as menny:
        yield menny


def test_every_admin_route_is_in_the_list_here(guarded: InProcess) -> None:
    paths = guarded.client.get("/openapi.json").json()["paths"]
    listed = {(method, re.sub("/1|/shipped", "/{}", path)) for method, path in ROUTES + FILES}
    found = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path))
        for path, methods in paths.items()
        for method in methods
        if path.startswith(("/train", "/models"))
    }
    assert found == listed


@pytest.mark.parametrize(("method", "path"), ROUTES + FILES)
def test_every_admin_route_needs_the_token(guarded: InProcess, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Cookie": f"token={TOKEN}"}):
        response = guarded.client.request(method, path, headers=headers, params={"token": TOKEN})
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
        needed = "MENNY_READ_TOKEN" if (method, path) in FILES else "`menny token` prints"
        assert needed in response.json()["detail"]


@pytest.mark.parametrize(("method", "path"), ROUTES + FILES)
def test_nothing_a_web_page_elsewhere_can_do_reaches_an_admin_action(
    guarded: InProcess, method: str, path: str
) -> None:
    elsewhere = {"Origin": "https://elsewhere.example"}
    # A page elsewhere can send the token only if a preflight allows it to.
    preflight = guarded.client.options(
        path,
        headers=elsewhere
        | {
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert not any(name.startswith("access-control-allow") for name in preflight.headers)
    # What it can send without one is a form, or text.
    for content_type in ("text/plain", "application/x-www-form-urlencoded"):
        response = guarded.client.request(
            method, path, headers=elsewhere | {"Content-Type": content_type}, content="{}"
        )
        assert response.status_code == (401 if method == "GET" else 403)
    assert guarded.client.get("/train", headers=ADMIN).json()["jobs"] == []


def test_openapi_shows_the_tokens(guarded: InProcess) -> None:
    document = guarded.client.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert set(schemes) == {"Admin token", "Read token"}
    for scheme in schemes.values():
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, name in (("/train", "Admin token"), ("/models/active", "Read token")):
        assert document["paths"][path]["get"]["security"] == [{name: []}]


def test_wrong_tokens_are_slowed_down_and_the_right_one_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with in_process(admin_token=TOKEN) as menny:
        took = []
        for number in range(5):
            began = time.monotonic()
            response = menny.client.get(
                "/train", headers={"Authorization": f"Bearer wrong-{number}"}
            )
            took.append(time.monotonic() - began)
            assert response.status_code == 401
        assert sum(took[3:]) > 0.25 + 0.5
        began = time.monotonic()
        assert menny.client.get("/train", headers=ADMIN).status_code == 200
        assert time.monotonic() - began < 1  # the next wrong one would wait as long
    assert "wrong-" not in caplog.text
    assert TOKEN not in caplog.text


def test_a_token_is_generated_and_menny_token_prints_it_and_the_log_never_does(
    tmp_path: Path,
) -> None:
    with running_service(MENNY_STATE_DIR=tmp_path) as service:
        assert service.client.get("/health").status_code == 200
        path = tmp_path / "admin_token"
        token = path.read_text().strip()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(token) >= 43  # 256 bits
        assert f"the admin token is in {path}" in service.log
        assert token not in service.log
        printed = subprocess.run(
            [sys.executable, "-m", "app.cli", "token"],
            env=clean_environment() | {"MENNY_STATE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert printed.stdout == token + "\n"
        headers = {"Authorization": f"Bearer {token}"}
        assert service.client.get("/models", headers=headers).status_code == 200
    with in_process(state_dir=tmp_path) as menny:
        assert menny.client.get("/models", headers=headers).status_code == 200


@pytest.mark.parametrize("around", ["\n", "  ", "\r\n"])
def test_blanks_around_a_token_are_no_part_of_it(around: str) -> None:
    settings = Settings(admin_token=f"{around}{TOKEN}{around}")
    assert settings.admin_token.get_secret_value() == TOKEN


@pytest.mark.parametrize("token", [" " * 20, "tokén" * 4, "token\n" * 4, "short \n"])
def test_a_token_that_no_header_can_carry_is_refused_in_a_sentence(token: str) -> None:
    with pytest.raises(ValidationError, match="a token has"):
        Settings(admin_token=token)
