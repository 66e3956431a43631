"""Temperature, seed, candidates and many queries at once, over HTTP."""

import pytest

from tests.in_process import InProcess
from training.rule import RULE


@pytest.mark.default_rule
def test_candidates_are_shown_for_each_position(menny: InProcess) -> None:
    answer = menny.transform("Me", candidates=3)
    assert [len(position) for position in answer["candidates"]] == [3, 3]
    for letter, position in zip(answer["response"], answer["candidates"], strict=True):
        assert position[0]["letter"] == letter
        assert 0.15 < position[0]["probability"] < 0.3
    assert "candidates" not in menny.transform("Me")


@pytest.mark.default_rule
def test_a_seed_makes_a_sample_repeatable(menny: InProcess) -> None:
    drawn = [menny.transform("aBcDe", temperature=1, seed=seed) for seed in range(20)]
    again = [menny.transform("aBcDe", temperature=1, seed=seed) for seed in range(20)]
    assert drawn == again
    assert len({answer["response"] for answer in drawn}) > 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "1"),
        ("temperature", True),
        ("seed", -1),
        ("seed", 1.5),
        ("candidates", 11),
        ("candidates", -1),
    ],
)
def test_an_option_out_of_bounds_is_refused_by_name(menny: InProcess, field, value) -> None:
    response = menny.client.post("/transform", json={"query": RULE.example, field: value})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == f"#/{field}"


def test_many_queries_are_answered_in_order_as_each_is_alone(menny: InProcess) -> None:
    queries = [RULE.example, *RULE.alphabet[:3], RULE.example] * 100
    response = menny.client.post("/transform/batch", json={"queries": queries})
    assert response.status_code == 200
    alone = {query: menny.transform(query) for query in set(queries)}
    assert response.json()["answers"] == [alone[query] for query in queries]


def test_one_bad_query_is_named_by_its_index_and_nothing_is_half_answered(
    menny: InProcess,
) -> None:
    queries = [RULE.example] * 7 + ["!"] + [RULE.example] * 3
    response = menny.client.post("/transform/batch", json={"queries": queries})
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == ["#/queries/7"]
    assert "'!' (U+0021)" in response.json()["detail"]


@pytest.mark.parametrize("count", [0, 1025])
def test_none_and_too_many_queries_are_refused(menny: InProcess, count: int) -> None:
    response = menny.client.post("/transform/batch", json={"queries": ["a"] * count})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "#/queries"


def test_1024_queries_are_answered(menny: InProcess) -> None:
    response = menny.client.post("/transform/batch", json={"queries": [RULE.example] * 1024})
    assert len(response.json()["answers"]) == 1024
