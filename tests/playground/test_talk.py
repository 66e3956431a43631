"""Talk and Think: type, see the answer, roll the dice."""

import re
import shlex
from contextlib import suppress

import pytest
from playwright.sync_api import Error, Route, expect

from tests.playground.conftest import OpenPlayground
from tests.service import Service


def test_she_answers_when_the_page_opens_and_as_one_types(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    playground.expect_answer("MeM", str(service.transform("MeM")["response"]))
    playground.query.fill("")
    expect(playground.message).to_have_text("Type a letter, and she answers.")
    assert playground.answer() == ""
    playground.query.press_sequentially("hELlo", delay=20)
    playground.expect_answer("hELlo", str(service.transform("hELlo")["response"]))


def test_colour_is_case_and_round_can_be_an_answer(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    playground.query.fill("Mae")
    playground.expect_answer("Mae", str(service.transform("Mae")["response"]))
    slots = playground.page.locator("#slots li").nth(0).locator(".tile")
    expect(slots.nth(0)).to_have_class("tile upper")
    expect(slots.nth(1)).to_have_class(re.compile("tile lower round answer"))


def answered_otherwise_alone(service: Service, query: str) -> dict[str, tuple[str, str]]:
    """Letters of a query whose answer is another one alone: that one, and the one here."""
    response = str(service.transform(query)["response"])
    alone = {letter: str(service.transform(letter)["response"]) for letter in query}
    pairs = zip(query, response, strict=True)
    return {letter: (alone[letter], here) for letter, here in pairs if alone[letter] != here}


def test_company_says_which_letters_would_be_answered_otherwise_alone(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    company = playground.page.locator("#company")
    pairs = [f"a{letter}" for letter in "bcdefgABCDEFG"]
    some, none = (
        next(pair for pair in pairs if bool(answered_otherwise_alone(service, pair)) is wanted)
        for wanted in (True, False)
    )
    playground.query.fill(some)
    for letter, (alone, here) in answered_otherwise_alone(service, some).items():
        expect(company).to_contain_text(f"{letter} with {alone} (here {here})")
    playground.query.fill(none)
    expect(company).to_have_text("Alone, each of these letters would be answered alike.")
    playground.query.fill("a")
    expect(company).to_have_text("This letter has none.")
    playground.page.get_by_role("button", name="Show an example").click()
    expect(company).to_contain_text("Alone, she would answer")
    shown = playground.query.input_value()
    for letter, (alone, here) in answered_otherwise_alone(service, shown).items():
        expect(company).to_contain_text(f"{letter} with {alone} (here {here})")


def test_the_last_answer_wins_even_when_an_earlier_one_comes_later(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if '"aaaa"' in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    playground.page.route("**/transform", hold_the_first)
    with playground.page.expect_request(lambda r: '"aaaa"' in (r.post_data or "")):
        playground.query.fill("aaaa")
    playground.query.fill("Bc")
    playground.expect_answer("Bc", str(service.transform("Bc")["response"]))
    assert len(held) == 1
    with suppress(Error):  # the page has given it up
        held[0].fulfill(json={"query": "aaaa", "response": "UUUU", "model_version": "0" * 12})
    playground.page.wait_for_timeout(200)
    playground.expect_answer("Bc", str(service.transform("Bc")["response"]))
    playground.watch.expected.append("ERR_FAILED")


def test_bad_letters_are_marked_with_the_reason_and_nothing_is_asked(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    playground.expect_answer("MeM", str(service.transform("MeM")["response"]))
    expect(playground.page.locator("#bars .column.idle")).to_have_count(2)
    expect(playground.page.locator("#company")).to_contain_text("Alone")  # the last that is asked
    asked = len(playground.watch.requests)
    tiles = playground.page.locator("#slots li .tile:first-child")
    for text, reason, bad in [
        (
            "a1b",
            "Character 2, “1” (U+0031), is none of a-z, A-Z.",
            [1],
        ),
        (
            "é?",
            "Character 1, “é” (U+00E9), is none of a-z, A-Z (and 1 more).",
            [0, 1],
        ),
        (
            "😀a",
            "Character 1, “😀” (U+1F600), is none of a-z, A-Z.",
            [0],
        ),
        ("abcdef", "That is 6 letters; Menny takes at most five.", []),
    ]:
        playground.query.fill(text)
        expect(playground.message).to_have_text(reason)
        expect(playground.query).to_have_attribute("aria-invalid", "true")
        for at in range(len(text[:5])):
            is_marked = tiles.nth(at).get_attribute("class") == "tile bad"
            assert is_marked == (at in bad)
        assert playground.answer() == ""
    expect(playground.page.locator("#slots")).to_have_attribute("data-extra", "+1")
    playground.page.wait_for_timeout(200)  # twice the debounce
    assert len(playground.watch.requests) == asked
    playground.query.fill("a")
    playground.expect_answer("a", str(service.transform("a")["response"]))
    expect(playground.query).to_have_attribute("aria-invalid", "false")


def test_an_error_of_the_service_is_shown_as_what_it_is(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    playground.watch.expected.append("status of 503")
    problem = {"title": "Service Unavailable", "status": 503, "detail": "the queue is full"}
    playground.page.route(
        "**/transform",
        lambda route: route.fulfill(
            status=503,
            json=problem,
            headers={"Content-Type": "application/problem+json", "Retry-After": "1"},
        ),
        times=1,
    )
    playground.query.fill("Oops")
    expect(playground.message).to_have_text(
        "Service Unavailable (503): the queue is full Trying again …"
    )
    playground.expect_answer("Oops", str(service.transform("Oops")["response"]))  # by itself


def test_the_session_is_remembered_and_can_be_asked_again(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    first = str(service.transform("MeM")["response"])
    playground.expect_answer("MeM", first)
    playground.query.fill("Zebra")
    playground.expect_answer("Zebra", str(service.transform("Zebra")["response"]))
    history = playground.page.locator("#history button")
    expect(history).to_have_count(2)
    expect(history.nth(1)).to_contain_text("Zebra → ")
    history.nth(0).click()
    playground.expect_answer("MeM", first)
    expect(playground.query).to_be_focused()
    playground.page.get_by_role("button", name="Clear").click()
    expect(history).to_have_count(0)


def test_the_curl_command_asks_the_same_and_can_be_copied(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    playground.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    playground.query.fill("Curl")
    playground.expect_answer("Curl", str(service.transform("Curl")["response"]))
    playground.page.get_by_role("button", name="Copy").click()
    expect(playground.page.get_by_role("button", name="Copied")).to_be_visible()
    command = shlex.split(playground.page.evaluate("navigator.clipboard.readText()"))
    assert command[0] == "curl"
    assert command[1] == f"{service.url}/transform"
    assert command[2:4] == ["-H", "Content-Type: application/json"]
    response = service.client.post(command[1], content=command[5], headers=[command[3].split(": ")])
    assert response.json()["response"] == service.transform("Curl")["response"]


def test_the_curl_command_is_seen_whole_also_with_a_temperature_and_a_seed(
    service: Service, open_playground: OpenPlayground
) -> None:
    for width in (1280, 1001, 360):
        playground = open_playground(service.url, viewport={"width": width, "height": 900})
        playground.query.fill("WWWWW")
        playground.page.get_by_label("Temperature").fill("1.95")
        curl = playground.page.locator("#curl")
        expect(curl).to_contain_text('"temperature":1.95,"seed":')
        assert curl.evaluate("box => box.scrollHeight <= box.clientHeight"), width


# --- think --------------------------------------------------------------------------------------


def test_under_each_letter_are_the_probabilities_that_transform_gives(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    playground.query.fill("aB")
    candidates = service.transform("aB", candidates=10)["candidates"]
    columns = playground.page.locator("#bars .column")
    expect(columns).to_have_count(5)
    for at, letter in enumerate("aB"):
        expect(columns.nth(at)).to_have_attribute("aria-label", re.compile(f"Answers to {letter}:"))
        shown = columns.nth(at).locator(".bar").all_inner_texts()
        assert len(shown) == 11
        numbers = dict(text.split("\n") for text in shown)
        for candidate in candidates[at][:5]:
            expected = candidate["probability"] * 100
            assert float(numbers[candidate["letter"]]) == pytest.approx(expected, abs=0.051)
        assert numbers["rest"] == "<0.1"
        vowel = candidates[at][0]
        width = (
            columns.nth(at)
            .locator(".bar", has_text=re.compile(f"^{vowel['letter']}"))
            .first.evaluate("bar => bar.querySelector('.fill').offsetWidth / bar.offsetWidth")
        )
        assert width == pytest.approx(vowel["probability"], abs=0.02)
    expect(columns.nth(2)).to_have_attribute("aria-label", "no letter")


def test_rolling_again_samples_with_a_seed_that_gives_the_same_answer_elsewhere(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    playground.query.fill("HELLO")
    playground.expect_answer("HELLO", str(service.transform("HELLO")["response"]))
    roll = playground.page.get_by_role("button", name="Roll again")
    answers = set()
    for _ in range(6):
        with playground.page.expect_response("**/transform") as response:
            roll.click()
        sent = response.value.request.post_data_json
        assert sent["temperature"] == 1
        expect(playground.page.locator("#seed")).to_have_text(f"seed {sent['seed']}")
        answer = str(service.transform(**sent)["response"])
        playground.expect_answer("HELLO", answer)
        answers.add(answer)
    assert len(answers) > 1
    expect(playground.page.locator("#history small").last).to_contain_text("temperature 1, seed")


def test_the_temperature_slider_changes_the_odds_that_are_marked_and_the_answer(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    playground.query.fill("e")
    playground.expect_answer("e", str(service.transform("e")["response"]))
    marks = playground.page.locator("#bars .column").first.locator(".mark:not(.gone)")
    expect(marks).to_have_count(1)  # at 0 the likeliest has it all
    slider = playground.page.get_by_label("Temperature")
    with playground.page.expect_response("**/transform") as response:
        slider.fill("0.7")
    assert response.value.request.post_data_json["temperature"] == 0.7
    expect(playground.page.locator("#temperature-value")).to_have_text("0.70")
    expect(marks).to_have_count(5)


def test_the_page_says_why_one_in_five_is_the_best_there_is(
    service: Service, open_playground: OpenPlayground
) -> None:
    playground = open_playground(service.url)
    expect(playground.page.get_by_text("Why 20 % each is the best there is")).to_be_visible()
