"""One browser for all page tests; for each test a page of its own, which must stay without errors.

Pages share a context, and with it a process and what it has compiled: a context for each would cost
twice the time. They don't share a session, where the page keeps the token.

The browser is closed as soon as a worker leaves this folder, for as long as Playwright runs there
can be no other event loop on its thread.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, ViewportSize, expect

from tests.browser import Watch, open_browser

TIMEOUT_MS = 30_000
"""Only ever waited for on a machine that is busy with much else."""
DESKTOP: ViewportSize = {"width": 1280, "height": 900}


@pytest.fixture(scope="package")
def context() -> Iterator[BrowserContext]:
    expect.set_options(timeout=TIMEOUT_MS)
    with open_browser() as browser:
        context = browser.new_context()
        context.set_default_timeout(TIMEOUT_MS)
        context.new_page()  # as long as there is a page, its process stays
        yield context
    expect.set_options(timeout=None)


@dataclass
class Playground:
    """The page, by what a person sees of it."""

    page: Page
    watch: Watch
    url: str

    @property
    def query(self) -> Locator:
        return self.page.get_by_label("Say up to five letters")

    @property
    def message(self) -> Locator:
        return self.page.locator("#message")

    def open(self, view: str = "") -> None:
        self.page.goto(f"{self.url}/{view}")
        expect(self.page.locator("h1")).to_contain_text("Menny")

    def answer(self) -> str:
        """Her answer, letter by letter."""
        return "".join(self.page.locator("#slots .answer").all_text_contents())

    def expect_answer(self, query: str, response: str) -> None:
        expect(self.message).to_have_text(f"{query} → {response}")
        assert self.answer() == response

    def unlock(self, token: str) -> None:
        """Enter the admin token in the view for training."""
        self.page.get_by_label("Admin token").fill(token)
        self.page.get_by_role("button", name="Unlock").click()


OpenPlayground = Callable[..., Playground]


@pytest.fixture
def open_playground(context: BrowserContext) -> Iterator[OpenPlayground]:
    """Opens the page of a service; at the end, nothing may have gone elsewhere or wrong.

    `media` are options of Playwright's `emulate_media`.
    """
    opened: list[Playground] = []

    def open_page(
        url: str, view: str = "", viewport: ViewportSize = DESKTOP, **media: Any
    ) -> Playground:
        page = context.new_page()
        page.set_viewport_size(viewport)
        page.emulate_media(**media)
        playground = Playground(page, Watch(page), url)
        opened.append(playground)
        playground.open(view)
        return playground

    yield open_page
    for playground in opened:
        foreign = playground.watch.foreign_requests(playground.url)
        errors = playground.watch.unexpected_errors()
        playground.page.close()
        assert foreign == []
        assert errors == []
