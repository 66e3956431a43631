"""`POST /explain` and `GET /card`: a look inside, on the wire."""

import asyncio
from typing import Any, cast

import numpy as np
import pytest

from app.errors import OverloadedError
from app.inference.answers import MAX_EXPLANATIONS, Responder
from app.inference.batcher import Batcher
from app.inference.engine import Engine
from app.inference.model import Served
from app.metrics import ServiceMetrics
from tests.in_process import InProcess
from training.rule import RULE
from training.weights import SHIPPED_WEIGHTS, load_weights


def explain(menny: InProcess, query: str) -> dict[str, object]:
    response = menny.client.post("/explain", json={"query": query})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    "query", [RULE.alphabet[0], RULE.example, RULE.alphabet[-1] * RULE.max_length]
)
def test_an_explanation_goes_with_the_answer(menny: InProcess, query: str) -> None:
    answer = menny.transform(query, candidates=10)
    explanation = explain(menny, query)
    assert explanation["response"] == answer["response"]
    assert explanation["model_version"] == answer["model_version"]
    assert explanation["positions"] == [*query, *[""] * (RULE.max_length - len(query))]
    assert len(explanation["distribution"]) == len(query)
    for position, candidates in enumerate(answer["candidates"]):
        shown = dict(
            zip(explanation["alphabet"], explanation["distribution"][position], strict=True)
        )
        for candidate in candidates:
            assert shown[candidate["letter"]] == pytest.approx(candidate["probability"], abs=1e-6)


def test_the_attention_has_all_layers_heads_and_positions_and_its_rows_sum_to_1(
    menny: InProcess,
) -> None:
    attention = explain(menny, RULE.example)["attention"]
    assert list(attention) == ["encoder", "decoder", "cross"]
    for weights in attention.values():
        array = np.array(weights)
        assert array.shape == (6, RULE.num_heads, RULE.max_length, RULE.max_length)
        np.testing.assert_allclose(array.sum(axis=-1), 1, atol=5e-6)


@pytest.mark.parametrize("body", [{"query": "!"}, {"query": ""}, {}, {"query": "a", "seed": 1}])
def test_a_bad_query_gets_the_problem_that_transform_gives(
    menny: InProcess, body: dict[str, object]
) -> None:
    response = menny.client.post("/explain", json=body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    if "seed" not in body:
        expected = menny.client.post("/transform", json=body).json()
        assert response.json()["errors"] == expected["errors"]


def test_more_explanations_at_once_than_the_engine_should_bear_are_refused() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def ask() -> None:
        metrics, batcher = ServiceMetrics(), Batcher(max_batch=8, max_queue=100)
        engine = Engine(batcher, metrics)  # not started: nothing is answered
        engine.served = Served("0" * 12, None, None, "", model=cast("Any", object()))
        responder = Responder(engine, batcher, metrics, timeout_s=60)
        waiting = [
            asyncio.ensure_future(responder.explain(RULE.example, never))
            for _ in range(MAX_EXPLANATIONS)
        ]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="try again"):
            await responder.explain(RULE.example, never)
        waiting.pop().cancel()
        await asyncio.sleep(0)
        freed = asyncio.ensure_future(responder.explain(RULE.example, never))
        await asyncio.sleep(0)
        assert not freed.done()  # it has the place of the one that was cancelled
        for future in [*waiting, freed]:
            future.cancel()
        await asyncio.gather(*waiting, freed, return_exceptions=True)
        assert len(batcher) == 0

    asyncio.run(ask())


def test_explanations_are_counted_in_the_metrics(menny: InProcess) -> None:
    explain(menny, RULE.example)
    assert 'menny_requests_total{route="/explain",status="200"}' in (
        menny.client.get("/metrics").text
    )


def test_the_card_is_that_of_the_model_that_answers(menny: InProcess) -> None:
    shown = menny.client.get("/card").json()
    weights = load_weights(SHIPPED_WEIGHTS)
    assert weights.card is not None
    assert shown["model_version"] == weights.version
    assert shown["proven"] is True
    assert shown["card"]["proof"]["queries"] == RULE.num_queries
    assert shown["card"] == weights.card.model_dump(mode="json")
