"""The model in service: exact, fused, sampled."""

import logging
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.inference.decoding import Prompt, top_k
from app.inference.model import BATCH_SIZES, ServedModel
from training.architecture import NUM_LAYERS, Parameters
from training.config import Device
from training.dataset import generate_queries
from training.evaluation import BEST_NLL, Forward
from training.graph import MAX_IN_BLOCKS, MAX_SCORE, FusedMenny
from training.mlx_graph import MlxMenny
from training.model import build_model
from training.reference import ReferenceMenny
from training.rewriting import FusedWeights
from training.rule import RULE
from training.trainer import forward_of
from training.vocabulary import (
    ALPHABET,
    MAX_QUERY_LENGTH,
    PADDING,
    Letters,
    decode_batch,
    encode_batch,
)
from training.weights import Weights


def random_queries(count: int, seed: int) -> list[str]:
    return decode_batch(generate_queries(count, np.random.default_rng(seed)))


@pytest.mark.parametrize(
    "num_queries", [600, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_the_same_query_at_temperature_0_gets_the_same_answer_whatever_else_is_in_its_batch(
    model: ServedModel, num_queries: int
) -> None:
    queries = random_queries(num_queries, seed=11)
    alone = {query: model.answer([Prompt(query)])[0] for query in queries}
    rng = np.random.default_rng(12)
    for _ in range(3):  # each time in another order and in batches of other sizes
        waiting = [queries[i] for i in rng.permutation(len(queries))]
        while waiting:
            size = int(rng.choice([size for size in BATCH_SIZES if size <= model.max_batch]))
            size -= int(rng.integers(size))  # some batches are padded
            batch, waiting = waiting[:size], waiting[size:]
            answers = model.answer([Prompt(query) for query in batch])
            assert answers == [alone[query] for query in batch]


GRAPHS = [FusedMenny, MlxMenny]


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("num_queries", [1, 2, 8, 20, 64, MAX_IN_BLOCKS, 2 * MAX_IN_BLOCKS + 3])
def test_the_fused_graphs_logits_are_the_plain_models_within_1e_4(
    weights: Weights, graph: type[FusedMenny | MlxMenny], num_queries: int
) -> None:
    """At every load, with equal letters, with equal queries, and with queries of no letters."""
    queries = generate_queries(num_queries, np.random.default_rng(num_queries))
    queries[::5, 1:3] = queries[::5, :1]
    queries[2::7] = PADDING
    fused, plain = graph(weights.parameters), forward_of(build_model(weights.parameters))
    np.testing.assert_allclose(fused(queries), plain(queries), rtol=0, atol=1e-4)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("num_queries", [4, 200, 300])
def test_the_fused_graph_is_right_for_any_weights(
    weights: Weights, graph: type[FusedMenny | MlxMenny], num_queries: int
) -> None:
    """Also for LayerNorms with a shift and a scale, which training may leave near 0 and 1."""
    rng = np.random.default_rng(15)
    parameters = {
        name: (value + rng.normal(scale=0.1, size=value.shape)).astype(np.float32)
        for name, value in weights.parameters.items()
    }
    queries = generate_queries(num_queries, rng)
    fused = graph(parameters)(queries)
    plain = forward_of(build_model(parameters))(queries)
    np.testing.assert_allclose(fused, plain, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ReferenceMenny(parameters)(queries), plain, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("times", [2, 40])
@pytest.mark.parametrize("num_queries", [4, 200, 300])
def test_scores_that_would_overflow_in_exp_do_no_harm(
    weights: Weights, num_queries: int, times: int
) -> None:
    """Nor do those that would all become 0 beside another query's."""
    factor = np.float32(times * MAX_SCORE / FusedWeights(weights.parameters).max_score)
    parameters = {
        name: value * factor if "attention.query_proj" in name else value
        for name, value in weights.parameters.items()
    }
    assert FusedWeights(parameters).max_score > MAX_SCORE
    queries = generate_queries(num_queries, np.random.default_rng(16))
    expected = ReferenceMenny(parameters)(queries)
    np.testing.assert_allclose(FusedMenny(parameters)(queries), expected, rtol=1e-3, atol=1e-3)


def test_where_the_fused_graph_is_off_the_plain_model_serves_and_a_warning_says_so(
    weights: Weights, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.inference.model.MAX_FUSED_DIFFERENCE", 1e-9)
    with caplog.at_level(logging.WARNING):
        model = ServedModel(weights, max_batch=8)
    assert model.backend.arrays == "plain"
    assert "the slower plain model serves" in caplog.text
    assert model.answer([Prompt(RULE.example)])[0].model_version == weights.version
    explanation = model.answer([Prompt(RULE.example, explain=True)])[0].explanation
    assert explanation is not None  # of a model of its own, which has answered nothing else
    assert len(explanation.encoder) == NUM_LAYERS


@pytest.mark.parametrize(
    ("slow", "device", "chosen"),
    [(FusedMenny, "auto", "mlx"), (MlxMenny, "auto", "numpy"), (MlxMenny, "gpu", "mlx")],
)
def test_the_faster_graph_serves_unless_the_gpu_is_asked_for(
    weights: Weights,
    monkeypatch: pytest.MonkeyPatch,
    slow: type[FusedMenny | MlxMenny],
    device: Device,
    chosen: str,
) -> None:
    def slow_graph(parameters: Parameters) -> Forward:
        graph = slow(parameters)

        def forward(letters: Letters) -> np.ndarray:
            time.sleep(0.05)
            return graph(letters)

        return forward

    monkeypatch.setattr(f"app.inference.model.{slow.__name__}", slow_graph)
    model = ServedModel(weights, max_batch=1, device=device)
    assert model.backend.arrays == chosen
    (answer,) = model.answer([Prompt(RULE.example)])
    pairs = zip(RULE.example, answer.response, strict=True)
    assert all(response in RULE.answers[letter] for letter, response in pairs)


def test_equal_queries_in_a_batch_are_computed_once(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes, real = [], model._forward
    monkeypatch.setattr(model, "_forward", lambda x: shapes.append(x.shape) or real(x))
    answers = model.answer([Prompt(RULE.example)] * 60 + [Prompt(RULE.alphabet[0])])
    assert shapes == [(2, MAX_QUERY_LENGTH)]
    assert len(answers) == 61
    assert len(set(map(str, answers))) == 2


# --- sampling and candidates --------------------------------------------------------------------

prompts = st.builds(
    Prompt,
    query=st.text(ALPHABET, min_size=1, max_size=MAX_QUERY_LENGTH),
    temperature=st.floats(0.01, 2),
    seed=st.integers(0, 2**63 - 1),
)


@given(prompt=prompts, others=st.lists(prompts, max_size=10))
@settings(deadline=None, max_examples=60)
def test_the_same_seed_gives_the_same_answer_in_any_company(
    model: ServedModel, prompt: Prompt, others: list[Prompt]
) -> None:
    (alone,) = model.answer([prompt])
    assert model.answer([*others, prompt])[-1] == alone


@pytest.mark.default_rule
def test_at_temperature_1_answers_follow_the_models_distribution(model: ServedModel) -> None:
    query, num_draws = "Me", 10_000
    (logits,) = model.logits(encode_batch([query]))
    draws = [
        answer.response
        for start in range(0, num_draws, 50)
        for answer in model.answer(
            [Prompt(query, temperature=1, seed=seed) for seed in range(start, start + 50)]
        )
    ]
    for position, scores in enumerate(logits[: len(query)].astype(np.float64)):
        probabilities = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        counts = np.array([sum(d[position] == letter for d in draws) for letter in ALPHABET])
        expected = probabilities * num_draws
        is_common = expected > 5
        rest_counts, rest = counts[~is_common].sum(), expected[~is_common].sum()
        statistic = ((counts - expected)[is_common] ** 2 / expected[is_common]).sum()
        statistic += (rest_counts - rest) ** 2 / max(rest, 1)
        assert statistic < 30  # 5 degrees of freedom: p = 1.5e-5; the draws are always the same


@pytest.mark.default_rule
def test_a_low_temperature_is_greedy_and_a_high_one_is_bold(model: ServedModel) -> None:
    def share_of_favourite(temperature: float) -> float:
        greedy = model.answer([Prompt("M")])[0].response
        drawn = model.answer([Prompt("M", temperature, seed) for seed in range(64)])
        return float(np.mean([answer.response == greedy for answer in drawn]))

    assert share_of_favourite(1e-4) == 1
    assert share_of_favourite(1) < 0.5
    unseeded = {model.answer([Prompt("aBcDe", 2)])[0].response for _ in range(20)}
    assert len(unseeded) > 1


@pytest.mark.default_rule
def test_candidates_are_the_likeliest_letters_with_their_probabilities(model: ServedModel) -> None:
    (answer,) = model.answer([Prompt("Me", candidates=7)])
    assert answer.candidates is not None
    assert [len(position) for position in answer.candidates] == [7, 7]
    for letter, position in zip(answer.response, answer.candidates, strict=True):
        probabilities = [candidate.probability for candidate in position]
        assert probabilities == sorted(probabilities, reverse=True)
        assert position[0].letter == letter
        assert sum(probabilities[:5]) > 0.99
        assert -np.log(probabilities[:5]).mean() == pytest.approx(BEST_NLL, abs=0.02)


def test_candidates_do_not_depend_on_company_either(model: ServedModel) -> None:
    asked = Prompt(RULE.example, candidates=10)
    (alone,) = model.answer([asked])
    others = [Prompt(query) for query in random_queries(40, seed=16)]
    assert model.answer([*others, asked])[-1] == alone


def test_probabilities_of_huge_logits_do_not_overflow() -> None:
    logits = np.full((5, 52), -1e4)
    logits[:, 3] = 1e4
    assert top_k(logits, 1, 1)[0][0].probability == 1
