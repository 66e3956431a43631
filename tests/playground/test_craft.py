"""How the page is made: small, its own, still, for everybody."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from app.routes.playground import ROOT
from tests.playground.conftest import OpenPlayground, Playground
from tests.retraining import TOKEN, admin_of, retrainable_service, run_job
from tests.service import Service

PICTURES = Path(__file__).parents[2] / "build" / "playground"
PHONE = {"width": 360, "height": 740}

WATCH_SHIFTS = """
window.shift = 0;
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) {
    window.shift += entry.value;
    window.shifted = entry.sources.map(source => source.node?.id || source.node?.className);
  }
}).observe({type: "layout-shift", buffered: true});
"""


IS_WITHOUT_SCROLLING = """button => {
  const [it, box] = [button, button.closest(".scroll")].map(it => it.getBoundingClientRect());
  return it.width > 0 && it.left >= box.left && it.right <= box.right;
}"""


def show_something(service: Service, playground: Playground) -> None:
    playground.query.fill("Menny")
    playground.expect_answer("Menny", str(service.transform("Menny")["response"]))
    expect(playground.page.locator("#heatmap td[tabindex]").first).not_to_be_empty()
    expect(playground.page.locator("#card")).to_contain_text("Version")
    expect(playground.page.locator("#company")).to_contain_text("Alone")
    playground.page.evaluate(
        "Promise.all(document.getAnimations().map(animation => animation.finished))"
    )


def violations(page: Page) -> list[tuple[str, str]]:
    found = Axe().run(page).response["violations"]
    return [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]]


def assert_no_horizontal_scroll(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wide_and_narrow_and_a_picture_is_taken(
    service: Service, open_playground: OpenPlayground, scheme: str
) -> None:
    playground = open_playground(service.url, color_scheme=scheme)
    page = playground.page
    show_something(service, playground)
    page.mouse.move(0, 0)
    take_picture(page, f"{scheme}.png")
    page.get_by_text("These weights as a table").click()
    assert violations(page) == []
    playground.query.fill("a1")
    assert violations(page) == []
    page.set_viewport_size(PHONE)
    show_something(service, playground)
    assert violations(page) == []
    assert_no_horizontal_scroll(page)
    take_picture(page, f"phone-{scheme}.png")


def test_axe_finds_nothing_in_the_view_for_training(
    tmp_path: Path, open_playground: OpenPlayground
) -> None:
    with retrainable_service(tmp_path) as service:
        with admin_of(service) as admin:
            run_job(admin, num_samples=200, num_epochs=3, batch_size=64, promote="never")
        playground = open_playground(service.url, "#train")
        page = playground.page
        expect(page.get_by_label("Admin token")).to_be_visible()
        assert violations(page) == []
        playground.unlock(TOKEN)
        page.get_by_role("button", name="Watch job 1").click()
        expect(page.locator("#job-title")).to_have_text("Job 1: succeeded")
        expect(page.locator(".curve canvas")).to_be_visible()
        page.get_by_label("Compare version").first.check()
        page.get_by_label("Compare version").last.check()
        page.get_by_text("The curve as a table").click()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for viewport in ({"width": 1280, "height": 900}, PHONE):
                page.set_viewport_size(viewport)
                assert violations(page) == [], scheme
                assert_no_horizontal_scroll(page)
        for name in ("Watch job 1", "Activate version", "Delete version"):
            button = page.get_by_role("button", name=name)
            assert button.evaluate(IS_WITHOUT_SCROLLING), name
        take_picture(page, "phone-train.png")


def test_nothing_moves_while_one_types(service: Service, open_playground: OpenPlayground) -> None:
    for viewport in ({"width": 1280, "height": 900}, PHONE):
        playground = open_playground(service.url, viewport=viewport)
        show_something(service, playground)
        playground.page.evaluate(WATCH_SHIFTS)
        playground.page.wait_for_timeout(100)
        before = playground.page.evaluate("shift")
        assert before < 0.1  # while it was loading
        playground.query.fill("")
        for text in ("H", "He", "HeL", "He1", "HeLlO", "HeLlOoo", "", "x", "xyzzy"):
            playground.query.fill(text)
            playground.page.wait_for_timeout(150)
        expect(playground.message).to_contain_text("xyzzy →")
        assert playground.page.evaluate("shift") == before, playground.page.evaluate("shifted")


def test_everything_can_be_done_by_keyboard_alone(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    page = playground.page
    playground.expect_answer("MeM", str(service.transform("MeM")["response"]))
    name = """() => {
      const it = document.activeElement;
      return it.id || it.value || it.textContent.trim() || it.tagName;
    }"""
    visible = """() => {
      const it = document.activeElement, seen = getComputedStyle(it).outlineStyle !== "none";
      return seen || getComputedStyle(it.nextElementSibling ?? it).outlineStyle !== "none";
    }"""
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        reached.append(page.evaluate(name))
        assert page.evaluate(visible), f"{reached[-1]} does not show its focus"
    assert reached[:6] == [
        "Skip to the content",
        "Play",
        "Train",
        "API docs",
        "query",
        "temperature",
    ]
    for control in ("roll", "clear", "copy", "stretch", "These weights as a table"):
        assert control in reached, reached
    assert reached.index("roll") < reached.index("stretch")

    page.locator("#query").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("Key")
    playground.expect_answer("Key", str(service.transform("Key")["response"]))
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    expect(page.locator("#temperature-value")).to_have_text("2.00")
    page.keyboard.press("Tab")
    with page.expect_response("**/transform"):
        page.keyboard.press("Enter")
    page.get_by_role("group", name="Layer").get_by_label("1").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("group", name="Layer").get_by_label("2").is_checked()
    page.get_by_role("link", name="Train").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Admin token")).to_be_visible()


def test_reduced_motion_is_respected(service: Service, open_playground: OpenPlayground) -> None:
    for motion, name in (("no-preference", "pop"), ("reduce", "none")):
        playground = open_playground(service.url, reduced_motion=motion)
        show_something(service, playground)
        tile = playground.page.locator("#slots .answer.pop").first
        assert tile.evaluate("tile => getComputedStyle(tile).animationName") == name


def test_answers_and_complaints_are_told_to_screen_readers(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    expect(playground.message).to_have_attribute("role", "status")
    described = playground.query.get_attribute("aria-describedby")
    assert described == playground.message.get_attribute("id")


# --- the files ----------------------------------------------------------------------------------


class _Markup(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        inline = [name for name in attributes if name == "style" or name.startswith("on")]
        if inline or tag == "style" or (tag == "script" and "src" not in attributes):
            self.faults.append(self.get_starttag_text() or tag)
        self.addresses += [
            attributes[name] or "" for name in ("src", "href") if attributes.get(name)
        ]


def test_the_page_has_nothing_inline_and_only_relative_addresses(service: Service) -> None:
    markup = _Markup()
    markup.feed(service.client.get("/").text)
    assert markup.faults == []
    for address in markup.addresses:
        assert not re.match("[a-z]+:|/", address), address
        if not address.startswith("#"):
            assert service.client.get(f"/{address}").status_code == 200, address


def test_the_whole_page_is_under_300_kb() -> None:
    sizes = {path.name: path.stat().st_size for path in ROOT.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 300_000, sizes


def test_what_is_vendored_comes_with_its_licence() -> None:
    vendored = {path.name.split(".")[0] for path in (ROOT / "vendor").iterdir()}
    for name in vendored:
        assert "Permission is hereby granted" in (ROOT / "vendor" / f"{name}.LICENSE").read_text()


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/playground/main.js", "javascript; charset=utf-8"),
        ("/playground/menny.css", "text/css; charset=utf-8"),
        ("/playground/icon.svg", "image/svg+xml"),
    ],
)
def test_files_have_their_type_and_are_asked_about_each_time(
    service: Service, path: str, content_type: str
) -> None:
    response = service.client.get(path)
    assert response.headers["content-type"].endswith(content_type)
    assert response.headers["cache-control"] == "no-cache"
    again = service.client.get(path, headers={"If-None-Match": response.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert "content-security-policy" not in again.headers  # it would replace the page's own
    assert service.client.head(path).headers["content-length"] == str(len(response.content))


@pytest.mark.parametrize(
    "path",
    ["nothing.js", "", "vendor", "..%2fmain.py", "%2e%2e/settings.py", "a%00b", "x" * 300],
)
def test_what_is_no_file_of_the_page_is_not_found(service: Service, path: str) -> None:
    response = service.client.get(f"/playground/{path}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_files_can_only_be_read(service: Service) -> None:
    response = service.client.post("/playground/main.js")
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"


def take_picture(page: Page, name: str) -> None:
    """Into build/playground, with a palette, for it goes into the README (`make screenshot`)."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    image = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        PICTURES / name, optimize=True
    )
    assert (PICTURES / name).stat().st_size < 200_000
