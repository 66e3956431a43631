"""Inside and the model card: numbers that are those of the model that serves."""

import re

import pytest
from playwright.sync_api import expect

from tests.playground.conftest import OpenPlayground
from tests.service import Service


def test_the_heat_maps_numbers_are_those_of_explain(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    page = playground.page
    playground.query.fill("aBc")
    explanation = service.client.post("/explain", json={"query": "aBc"}).json()
    grid = page.get_by_role("grid", name="Attention heat map")
    for axis in ("columnheader", "rowheader"):
        expect(grid.get_by_role(axis)).to_have_text(["a", "B", "c", "·", "·"])
    page.get_by_text("These weights as a table").click()
    table = page.get_by_role("region", name="Attention weights as a table")
    for kind, layer, head in [("encoder", 1, 1), ("decoder", 3, 4), ("cross", 6, 2)]:
        page.get_by_role("group", name="Attention").get_by_label(kind.title()).check(force=True)
        page.get_by_role("group", name="Layer").get_by_label(str(layer)).check(force=True)
        page.get_by_role("group", name="Head").get_by_label(str(head)).check(force=True)
        weights = explanation["attention"][kind][layer - 1][head - 1]
        flat = [weight for row in weights for weight in row]
        for text, weight in zip(
            grid.locator("td[tabindex]").all_text_contents(), flat, strict=True
        ):
            digits = len(text.partition(".")[2])
            assert digits >= 3
            assert float(text) == pytest.approx(weight, abs=0.51 * 10**-digits)
        assert [float(text) for text in table.locator("tbody td").all_inner_texts()] == flat
        expect(table.locator("caption")).to_contain_text(f"layer {layer}, head {head}")


def test_hover_and_the_arrow_keys_read_out_a_weight(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    page = playground.page
    weights = service.client.post("/explain", json={"query": "MeM"}).json()["attention"]["cross"]
    readout = page.locator("#readout")
    cells = page.locator("#heatmap td[tabindex]")
    expect(cells.first).not_to_be_empty()
    cells.nth(5 + 1).hover()
    expect(readout).to_have_text(f"e (2) looks at e (2): {weights[0][0][1][1]:.6f}")
    cells.nth(5 + 1).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    expect(cells.nth(15)).to_be_focused()
    expect(readout).to_have_text(
        f"the empty position (4) looks at M (1): {weights[0][0][3][0]:.6f}"
    )
    page.keyboard.press("ArrowLeft")  # at the edge
    expect(cells.nth(15)).to_be_focused()


def test_the_colours_span_the_map_or_0_to_1(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    cells = playground.page.locator("#heatmap td[tabindex]")
    expect(cells.first).not_to_be_empty()
    colours = "cells => new Set(cells.map(cell => cell.style.backgroundColor)).size"
    assert cells.evaluate_all(colours) > 2
    playground.page.get_by_label("stretch the colours").uncheck()
    expect(playground.page.locator("#scale-high")).to_have_text("1")
    assert cells.evaluate_all(colours) <= 2  # on a scale from 0 to 1 the shipped model is even
    expect(playground.page.locator("#evenness")).to_contain_text("Practically even")


def test_a_click_on_the_overview_picks_layer_and_head(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    page = playground.page
    box = page.locator("#overview").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 4.5 / 6, box["y"] + box["height"] * 2.5 / 4)
    assert page.get_by_role("group", name="Layer").get_by_label("5").is_checked()
    assert page.get_by_role("group", name="Head").get_by_label("3").is_checked()


def test_a_bad_query_empties_the_map(service: Service, open_playground: OpenPlayground) -> None:
    playground = open_playground(service.url)
    cells = playground.page.locator("#heatmap td[tabindex]")
    expect(cells.first).not_to_be_empty()
    playground.query.fill("?")
    expect(cells.first).to_be_empty()


def test_an_explanation_that_is_refused_for_now_is_asked_for_again(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    playground.watch.expected.append("status of 503")
    playground.page.route(
        "**/explain",
        lambda route: route.fulfill(
            status=503,
            json={"title": "Service Unavailable", "detail": "4 explanations are being made"},
            headers={"Content-Type": "application/problem+json", "Retry-After": "1"},
        ),
        times=1,
    )
    playground.query.fill("Later")
    evenness = playground.page.locator("#evenness")
    expect(evenness).to_have_text("Service Unavailable (503): 4 explanations are being made")
    expect(evenness).to_contain_text("Practically even")
    expect(playground.page.locator("#heatmap td[tabindex]").first).not_to_be_empty()


def test_the_card_says_what_is_measured_and_proven(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    card = playground.page.locator("#card")
    version = service.client.get("/health").json()["model_version"]
    expect(card).to_contain_text(f"Version {version}")
    expect(card).to_contain_text("the model's recorded answer, looked up")
    expect(card).to_contain_text("menny verify --table --ask")
    expect(card).to_contain_text("Proven on all 387,659,012 queries")
    terms = card.locator("dt")
    expect(terms).to_have_text(["Rule accuracy", "Excess NLL", "Exact match", "Trained"])
    metrics = service.client.get("/card").json()["card"]["metrics"]
    expect(card.locator("dd b").nth(0)).to_have_text("100 %")
    expect(card.locator("dd b").nth(1)).to_have_text(f"{metrics['excess_nll']:.4f} nats")
    expect(card.locator("dd").nth(2)).to_have_text(re.compile(r"20 % is the ceiling"))

    example = {"query": "MeM", "response": "uxu", "margin": -0.5}
    refuted = service.client.get("/card").json() | {"proven": False, "counter_example": example}
    playground.page.route("**/card", lambda route: route.fulfill(json=refuted))
    playground.page.reload()
    expect(card).to_contain_text("Not every query is answered by the rule: MeM gets uxu.")
