"""The life of a Menny with whatever rule the checkout has: asked, looked at, retrained.

`tests/forks/test_forks.py` runs it in copies that have other rules and weights of their own.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

import training.rule
from app.cli import __file__ as installed
from tests.browser import Watch, open_browser
from tests.retraining import admin_of, retrainable_service, run_job
from tests.service import Service
from training.dataset import generate_queries
from training.proof.answers import load_table, table_path
from training.rule import RULE
from training.vocabulary import decode_batch
from training.weights import SHIPPED_WEIGHTS, load_weights

CHECKOUT = Path(__file__).parents[2]


def keeps_rule(query: str, response: object) -> bool:
    return (
        isinstance(response, str)
        and len(query) == len(response)
        and all(
            answer in RULE.answers[letter] for letter, answer in zip(query, response, strict=True)
        )
    )


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with retrainable_service(tmp_path_factory.mktemp("state")) as service:
        yield service


def test_what_runs_here_is_the_copy() -> None:
    assert Path(installed).is_relative_to(CHECKOUT)
    assert training.rule.__file__ == str(CHECKOUT / "training" / "rule.py")


def test_the_weights_are_proven_and_have_their_table() -> None:
    weights = load_weights(SHIPPED_WEIGHTS)
    assert weights.is_proven
    assert weights.card is not None
    load_table(table_path(SHIPPED_WEIGHTS), weights.sha256, weights.card.answers)


def test_she_answers_by_her_rule_over_http_with_and_without_dice(forked: Service) -> None:
    queries = [
        RULE.example,
        *RULE.alphabet,
        *decode_batch(generate_queries(200, np.random.default_rng(0))),
    ]
    answers = forked.client.post("/transform/batch", json={"queries": queries}).json()["answers"]
    assert [answer["query"] for answer in answers] == queries
    assert all(keeps_rule(answer["query"], answer["response"]) for answer in answers)
    for query in queries[:5]:
        assert keeps_rule(query, forked.transform(query, temperature=0.5, seed=1)["response"])


def test_what_is_not_in_the_alphabet_is_refused_with_a_true_message(forked: Service) -> None:
    stranger = next(letter for letter in "Zяé" if letter not in RULE.alphabet)
    wrong = {
        stranger: f"character 1 of the query, '{stranger}' (U+{ord(stranger):04X}), is not in",
        RULE.alphabet[0] * (RULE.max_length + 1): f"the query has {RULE.max_length + 1} characters",
        "": "the query is empty",
    }
    for query, reason in wrong.items():
        refused = forked.client.post("/transform", json={"query": query})
        assert refused.status_code == 422
        assert reason in refused.text.replace('\\"', '"')
        assert f"a query has {RULE.query_in_words}, such as" in refused.text
    described = forked.client.get("/openapi.json").json()["components"]["schemas"]
    query = described["TransformRequest"]["properties"]["query"]
    assert (query["pattern"], query["maxLength"]) == (RULE.pattern, RULE.max_length)
    example = described["TransformResponse"]["examples"][0]
    assert keeps_rule(example["query"], example["response"])


def test_the_page_knows_the_rule(forked: Service) -> None:
    with open_browser() as browser:
        page = browser.new_page()
        watch = Watch(page)
        page.goto(forked.url)
        message = page.locator("#message")
        for query in (RULE.example, RULE.alphabet[-1] * RULE.max_length):
            page.locator("#query").fill(query)
            response = forked.transform(query)["response"]
            expect(message).to_have_text(f"{query} → {response}", timeout=30_000)
            assert keeps_rule(query, response)
        expect(page.locator("body")).to_contain_text(RULE.summary)
        expect(page.locator("#slots > *")).to_have_count(RULE.max_length)
        page.locator("#query").fill("!")
        expect(message).to_have_text(
            f"Character 1, “!” (U+0021), is none of {RULE.letters_in_words}."
        )
        assert watch.foreign_requests(forked.url) == []
        assert watch.unexpected_errors() == []


def test_she_is_retrained_and_passes_the_gate(forked: Service) -> None:
    before = forked.transform(RULE.example)["model_version"]
    with admin_of(forked) as admin:
        job = run_job(admin, num_epochs=20, seed=1)
    assert (job["state"], job["gate"]["passed"]) == ("succeeded", True), job
    after = forked.transform(RULE.example)
    assert after["model_version"] == job["version"] != before
    assert keeps_rule(RULE.example, after["response"])
