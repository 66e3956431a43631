"""The service goes and comes back; the page stays and goes on."""

import socket

from playwright.sync_api import expect

from tests.playground.conftest import OpenPlayground
from tests.service import running_service


def test_the_page_says_that_the_service_is_gone_and_goes_on_when_it_is_back(
    open_playground: OpenPlayground,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with running_service("--port", port) as service:
        url = service.url
        playground = open_playground(url)
        response = str(service.transform("MeM")["response"])
        playground.expect_answer("MeM", response)
        # Once it is back, its table answers before its model can explain.
        playground.watch.expected += ["ERR_CONNECTION_REFUSED", "503 (Service Unavailable)"]
        assert service.stop() in {0, 143, -15}
    playground.query.fill("Gone")
    expect(playground.message).to_contain_text("Menny can’t be reached. Is the service running?")
    assert playground.answer() == ""
    with running_service("--port", port) as service:
        assert service.url == url
        playground.expect_answer("Gone", str(service.transform("Gone")["response"]))  # by itself
        expect(playground.page.locator("#heatmap td[tabindex]").first).not_to_be_empty()
        playground.page.close()
