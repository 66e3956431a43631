"""Promise 6 in a real browser: nothing a web page elsewhere can do reaches an admin action.

The page is on another port, which is another origin, and, as after DNS rebinding, on a name that
the browser believes to be the service's own address.
"""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from tests.browser import open_browser
from tests.retraining import TOKEN, admin_of, retrainable_service
from tests.service import Service

REBOUND = "rebound.example"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Nothing may come of what is done to it, so its attackers can share it."""
    with retrainable_service(tmp_path_factory.mktemp("attacked")) as service:
        yield service


ATTACK = """async ([service, token]) => {
  const seen = [];
  const bearer = {Authorization: "Bearer " + token};
  const json = {"Content-Type": "application/json"};
  const text = {"Content-Type": "text/plain"};
  const tries = [
    ["POST", "/train", "{}", text, "no-cors"],
    ["POST", "/train", "{}", {}, "no-cors"],
    ["POST", "/train", "{}", {...json, ...bearer}, "cors"],
    ["GET", "/train", undefined, bearer, "cors"],
    ["GET", "/models", undefined, bearer, "cors"],
    ["POST", "/models/shipped/activate", undefined, bearer, "cors"],
    ["DELETE", "/models/shipped", undefined, bearer, "cors"],
    ["POST", "/transform", '{"query": "MeM"}', json, "cors"],
    ["POST", "/transform", '{"query": "MeM"}', text, "no-cors"],
    ["GET", "/health", undefined, {}, "cors"],
  ];
  for (const [method, path, body, headers, mode] of tries) {
    try {
      const response = await fetch(service + path, {method, body, headers, mode});
      if (response.type !== "opaque" && response.status < 400) seen.push([method, path, mode]);
    } catch (error) { /* the browser shows nothing */ }
  }
  const loads = (element, address) => new Promise(resolve => {
    element.onload = () => resolve(true);
    element.onerror = () => resolve(false);
    element.src = service + address;
    document.body.append(element);
  });
  for (const path of ["/train/1/events", "/static-offline-docs/favicon.png"])
    if (await loads(new Image(), path)) seen.push(["img", path]);
  if (await loads(document.createElement("script"), "/docs.js")) seen.push(["script", "/docs.js"]);
  const stream = new EventSource(service + "/train/1/events");
  if (await new Promise(resolve => {
    stream.onopen = () => resolve(true);
    stream.onerror = () => resolve(false);
  })) seen.push(["EventSource"]);
  stream.close();
  const frame = document.createElement("iframe");
  frame.name = "target";
  document.body.append(frame);
  for (const enctype of ["text/plain", "multipart/form-data"]) {
    const form = document.createElement("form");
    Object.assign(form, {action: service + "/train", method: "post", enctype, target: "target"});
    form.innerHTML = '<input name=\\'{"seed": 1, "x": "\\' value=\\'"}\\'>';
    document.body.append(form);
    const done = new Promise(resolve => { frame.onload = resolve; });
    form.submit();
    await done;
  }
  return seen;
}"""


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!DOCTYPE html><title>elsewhere</title><body>")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def site_elsewhere() -> Iterator[int]:
    """A web server of somebody else's; its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser(f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1") as opened:
        yield opened


def what_a_page_reaches(
    browser: Browser, page_url: str, service_url: str, token: str
) -> list[list[str]]:
    # A page of somebody else's has no policy of ours that would keep it from asking.
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(page_url)
    reached: list[list[str]] = page.evaluate(ATTACK, [service_url, token])
    context.close()
    return reached


def assert_nothing_has_happened(service: Service) -> None:
    with admin_of(service) as admin:
        assert admin.get("/train").json()["jobs"] == []
        assert [
            model["version"] for model in admin.get("/models").json()["models"] if model["active"]
        ]


@pytest.mark.parametrize("name", ["localhost", REBOUND])
def test_nothing_a_web_page_elsewhere_can_do_reaches_an_admin_action_in_a_browser(
    attacked: Service, browser: Browser, name: str
) -> None:
    with site_elsewhere() as port:
        # Even with the right token, which no page has.
        reached = what_a_page_reaches(browser, f"http://{name}:{port}/", attacked.url, TOKEN)
    assert reached == []
    assert_nothing_has_happened(attacked)


def test_nothing_a_web_page_elsewhere_can_do_reaches_an_admin_action_by_dns_rebinding(
    attacked: Service, browser: Browser
) -> None:
    rebound = f"http://{REBOUND}:{urlsplit(attacked.url).port}"
    # To the browser this page and the service are one origin: nothing is hidden from it.
    reached = what_a_page_reaches(browser, f"{rebound}/health", rebound, TOKEN)
    assert reached == []
    assert_nothing_has_happened(attacked)


def test_the_attack_succeeds_where_the_page_is_the_services_own(
    tmp_path: Path, browser: Browser
) -> None:
    """So the tests above would notice if a defence were gone."""
    with retrainable_service(tmp_path, MENNY_TRAINING_TIMEOUT_S="1") as service:
        reached = what_a_page_reaches(browser, f"{service.url}/docs", service.url, TOKEN)
        assert ["POST", "/train", "cors"] in reached
        assert ["GET", "/models", "cors"] in reached
        with admin_of(service) as admin:
            assert admin.get("/train").json()["jobs"] != []
