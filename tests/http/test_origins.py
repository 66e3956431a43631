"""Which pages may change something, as their browsers say by Origin and Sec-Fetch-Site."""

from collections.abc import Iterator

import httpx
import pytest

from tests.cli import command
from tests.http.wire import stubbed
from tests.in_process import InProcess
from training.rule import RULE

TRUSTED = "https://trusted.example:8443"


@pytest.fixture(scope="module")
def opened() -> Iterator[InProcess]:
    with stubbed(cors_origins=(TRUSTED,)) as running:
        yield running


def ask(menny: InProcess, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return menny.client.post("/transform", json={"query": RULE.example}, headers=names)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://elsewhere.example",
        "http://localhost",  # another port
        "http://localhost:1",
        "http://127.0.0.1.elsewhere.example",
        "file://",
        "chrome-extension://abcdef",
        "",
    ],
)
def test_a_page_of_another_origin_may_change_nothing(menny: InProcess, origin: str) -> None:
    response = ask(menny, Origin=origin)
    assert response.status_code == 403
    assert response.headers["content-type"] == "application/problem+json"
    assert "another origin" in response.json()["detail"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_so_it_is_where_only_sec_fetch_site_says_so(menny: InProcess, site: str) -> None:
    assert ask(menny, Sec_Fetch_Site=site).status_code == 403


def test_two_origins_are_400(menny: InProcess) -> None:
    headers = [("Origin", menny.url), ("Origin", "https://elsewhere.example")]
    response = menny.client.post("/transform", json={"query": RULE.example}, headers=headers)
    assert response.status_code == 400
    assert "Origin" in response.json()["detail"]


def test_two_sites_are_400(menny: InProcess) -> None:
    headers = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Site", "same-origin")]
    response = menny.client.post("/transform", json={"query": RULE.example}, headers=headers)
    assert response.status_code == 400
    assert "Sec-Fetch-Site" in response.json()["detail"]


def test_its_own_pages_and_what_is_no_browser_may(menny: InProcess) -> None:
    assert ask(menny).status_code == 200
    assert ask(menny, Origin=menny.url).status_code == 200
    assert ask(menny, Origin=menny.url.replace("http:", "https:")).status_code == 200
    for site in ("same-origin", "none"):
        assert ask(menny, Sec_Fetch_Site=site).status_code == 200


def test_reading_is_left_to_the_browser_which_shows_it_to_no_page(menny: InProcess) -> None:
    response = menny.client.get("/health", headers={"Origin": "https://elsewhere.example"})
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


def test_cors_is_off_unless_it_is_turned_on(menny: InProcess) -> None:
    response = menny.client.options(
        "/transform", headers={"Origin": TRUSTED, "Access-Control-Request-Method": "POST"}
    )
    assert response.status_code == 405
    assert not any(name.startswith("access-control") for name in response.headers)


def test_a_trusted_origin_may_ask_and_read_what_clients_need(opened: InProcess) -> None:
    preflight = opened.client.options(
        "/train",
        headers={
            "Origin": TRUSTED,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == TRUSTED
    response = ask(opened, Origin=TRUSTED)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == TRUSTED
    exposed = response.headers["access-control-expose-headers"].lower().split(", ")
    assert {"x-request-id", "retry-after", "location"} <= set(exposed)
    assert "access-control-allow-credentials" not in response.headers
    assert opened.client.get("/health", headers={"Origin": TRUSTED}).status_code == 200


def test_trusting_one_origin_trusts_no_other(opened: InProcess) -> None:
    for origin in (TRUSTED.removesuffix(":8443"), TRUSTED + "0", "https://elsewhere.example"):
        assert ask(opened, Origin=origin).status_code == 403


@pytest.mark.parametrize("origins", ["*", "trusted.example", "https://a.example/path", "null"])
def test_an_origin_that_is_none_is_refused_at_start(origins: str) -> None:
    result = command.menny("serve", "--port", "0", MENNY_CORS_ORIGINS=origins)
    assert result.status == 2
    assert "MENNY_CORS_ORIGINS" in result.stderr
