"""What every answer tells a browser to refuse, whatever the answer is."""

import pytest

from app.http.headers import OTHER_POLICY, PAGE_POLICY
from tests.in_process import InProcess

COMMON = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.mark.parametrize("path", ["/docs"])
def test_a_page_may_load_its_own_files_and_run_nothing_inline(menny: InProcess, path: str) -> None:
    response = menny.client.get(path)
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers.get_list("content-security-policy") == [PAGE_POLICY]
    assert "unsafe" not in PAGE_POLICY
    assert response.headers.items() >= COMMON.items()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/docs.js", 200),
        ("GET", "/static-offline-docs/swagger-ui.css", 200),
        ("GET", "/nothing", 404),
        ("GET", "/transform", 405),
        ("POST", "/transform", 422),
        ("GET", "/train", 401),
    ],
)
def test_what_is_no_page_may_load_nothing_at_all(
    menny: InProcess, method: str, path: str, status: int
) -> None:
    response = menny.client.request(method, path)
    assert response.status_code == status
    assert response.headers.get_list("content-security-policy") == [OTHER_POLICY]
    assert response.headers.items() >= COMMON.items()
    assert "permissions-policy" in response.headers
    assert "server" not in response.headers
