"""The OpenAPI document and its page, in a real browser."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser import Watch, open_browser
from tests.service import Service


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with open_browser() as browser:
        yield browser.new_page()


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    return service.client.get("/openapi.json").json()


@pytest.mark.default_rule
def test_the_docs_page_works_with_no_request_to_any_other_host(
    service: Service, page: Page
) -> None:
    watch = Watch(page)
    page.goto(f"{service.url}/docs")
    expect(page.get_by_role("heading", name="Menny")).to_be_visible()

    operation = page.locator("#operations-transform-transform_transform_post")
    operation.get_by_role("button").first.click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table .response .highlight-code").first
    expect(answer).to_contain_text('"response"')
    expect(answer).to_contain_text('"MeM"')

    assert watch.foreign_requests(service.url) == []
    assert watch.unexpected_errors() == []


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_every_operation_is_described_and_every_reference_leads_somewhere(
    document: dict[str, Any],
) -> None:
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
    for reference in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document)):
        assert reference in document["components"]["schemas"]


def test_the_errors_of_transform_are_documented_as_problems(document: dict[str, Any]) -> None:
    responses = document["paths"]["/transform"]["post"]["responses"]
    assert {"200", "400", "415", "422", "503"} <= set(responses)
    for status, response in responses.items():
        if status != "200":
            schema = response["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}
    assert "HTTPValidationError" not in document["components"]["schemas"]


@pytest.mark.default_rule
def test_the_query_is_described_by_its_length_and_letters(document: dict[str, Any]) -> None:
    query = document["components"]["schemas"]["TransformRequest"]["properties"]["query"]
    assert (query["minLength"], query["maxLength"]) == (1, 5)
    assert query["pattern"] == "^[A-Za-z]+$"


def test_the_examples_in_the_document_are_right(service: Service, document: dict[str, Any]) -> None:
    (example,) = document["components"]["schemas"]["TransformRequest"]["examples"]
    answer = service.transform(**example)
    (shown,) = document["components"]["schemas"]["TransformResponse"]["examples"]
    assert shown.keys() == answer.keys()
