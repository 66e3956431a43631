"""A real Chromium, and a page that tells what went wrong in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from app.doctor.machine import find_chromium

CHROMIUM = find_chromium()


@contextmanager
def open_browser(*arguments: str) -> Iterator[Browser]:
    """Chromium without a window; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium here: `menny doctor` says how to get one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", *arguments],
        )
        yield browser
        browser.close()


class Watch:
    """What a page asks for and complains about.

    Chromium itself logs every response that is an error and every connection that fails: a test
    that brings those about puts their words (`the server responded with a status of 401`) into
    `expected`.
    """

    def __init__(self, page: Page) -> None:
        self.requests: list[Request] = []
        self.errors: list[str] = []
        self.expected: list[str] = []
        page.on("request", lambda request: self.requests.append(request))
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def foreign_requests(self, own_url: str) -> list[str]:
        """Those to any other host."""
        own = (own_url, "data:", "blob:")
        return [request.url for request in self.requests if not request.url.startswith(own)]

    def unexpected_errors(self) -> list[str]:
        return [text for text in self.errors if not any(part in text for part in self.expected)]

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)
