"""Which pages may change something, as their browsers say by Origin and Sec-Fetch-Site."""

from collections.abc import Iterator

import httpx
import pytest

from tests.cli.command import menny
from tests.retraining import ADMIN, TOKEN
from tests.service import Service, running_service

TRUSTED = "https://trusted.example:8443"


@pytest.fixture(scope="module")
def opened() -> Iterator[Service]:
    with running_service(MENNY_CORS_ORIGINS=TRUSTED, MENNY_ADMIN_TOKEN=TOKEN) as service:
        yield service


def ask(service: Service, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.client.post("/transform", json={"query": "MeM"}, headers=names)


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
def test_a_page_of_another_origin_may_change_nothing(service: Service, origin: str) -> None:
    response = ask(service, Origin=origin)
    assert response.status_code == 403
    assert response.headers["content-type"] == "application/problem+json"
    assert "another origin" in response.json()["detail"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_so_it_is_where_only_sec_fetch_site_says_so(service: Service, site: str) -> None:
    assert ask(service, Sec_Fetch_Site=site).status_code == 403


def test_two_origins_are_400(service: Service) -> None:
    headers = [("Origin", service.url), ("Origin", "https://elsewhere.example")]
    response = service.client.post("/transform", json={"query": "MeM"}, headers=headers)
    assert response.status_code == 400
    assert "Origin" in response.json()["detail"]


def test_two_sites_are_400(service: Service) -> None:
    headers = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Site", "same-origin")]
    response = service.client.post("/transform", json={"query": "MeM"}, headers=headers)
    assert response.status_code == 400
    assert "Sec-Fetch-Site" in response.json()["detail"]


def test_its_own_pages_and_what_is_no_browser_may(service: Service) -> None:
    assert ask(service).status_code == 200
    assert ask(service, Origin=service.url).status_code == 200
    assert ask(service, Origin=service.url.replace("http:", "https:")).status_code == 200
    for site in ("same-origin", "none"):
        assert ask(service, Sec_Fetch_Site=site).status_code == 200


def test_reading_is_left_to_the_browser_which_shows_it_to_no_page(service: Service) -> None:
    response = service.client.get("/health", headers={"Origin": "https://elsewhere.example"})
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


def test_cors_is_off_unless_it_is_turned_on(service: Service) -> None:
    response = service.client.options(
        "/transform", headers={"Origin": TRUSTED, "Access-Control-Request-Method": "POST"}
    )
    assert response.status_code == 405
    assert not any(name.startswith("access-control") for name in response.headers)


def test_a_trusted_origin_may_ask_and_read_what_clients_need(opened: Service) -> None:
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
    assert opened.client.get("/train", headers=ADMIN | {"Origin": TRUSTED}).status_code == 200


def test_trusting_one_origin_trusts_no_other(opened: Service) -> None:
    for origin in (TRUSTED.removesuffix(":8443"), TRUSTED + "0", "https://elsewhere.example"):
        assert ask(opened, Origin=origin).status_code == 403


@pytest.mark.parametrize("origins", ["*", "trusted.example", "https://a.example/path", "null"])
def test_an_origin_that_is_none_is_refused_at_start(origins: str) -> None:
    result = menny("serve", "--port", "0", MENNY_CORS_ORIGINS=origins)
    assert result.status == 2
    assert "MENNY_CORS_ORIGINS" in result.stderr
