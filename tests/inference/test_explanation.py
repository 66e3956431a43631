"""What `/explain` shows is what the served model does."""

import math

import numpy as np
import pytest

from app.inference.decoding import Prompt, softmax
from app.inference.explanation import Explainer
from app.inference.model import ServedModel
from training.architecture import NUM_HEADS, NUM_LAYERS
from training.backend import mx
from training.dataset import generate_queries
from training.model import build_model
from training.rule import RULE
from training.trainer import forward_of
from training.vocabulary import (
    MAX_QUERY_LENGTH,
    VOCABULARY_SIZE,
    decode_batch,
    encode_batch,
    one_hot,
)
from training.weights import Weights

QUERIES = decode_batch(generate_queries(40, np.random.default_rng(21)))


@pytest.fixture(scope="module")
def restless(weights: Weights) -> dict[str, np.ndarray]:
    """Weights of a model whose attention is far from even, unlike the shipped one's."""
    rng = np.random.default_rng(22)
    return {
        name: (value + rng.normal(scale=0.3, size=value.shape)).astype(np.float32)
        for name, value in weights.parameters.items()
    }


@pytest.mark.parametrize("query", QUERIES)
def test_the_explained_pass_ends_with_the_served_logits(model: ServedModel, query: str) -> None:
    answer = model.answer([Prompt(query, explain=True)])[0]
    assert answer.explanation is not None
    served = model.logits(encode_batch([query]))[0]
    np.testing.assert_allclose(answer.explanation.logits, served, rtol=0, atol=1e-4)
    np.testing.assert_allclose(answer.distribution, softmax(served)[: len(query)], atol=1e-6)
    assert answer.response == model.answer([Prompt(query)])[0].response


def test_every_row_of_attention_sums_to_1_in_all_layers_and_heads(
    restless: dict[str, np.ndarray],
) -> None:
    explanation = Explainer(build_model(restless))(encode_batch([RULE.example])[0])
    for weights in (explanation.encoder, explanation.decoder, explanation.cross):
        assert weights.shape == (NUM_LAYERS, NUM_HEADS, MAX_QUERY_LENGTH, MAX_QUERY_LENGTH)
        assert weights.std() > 0.005
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)


def test_keeping_the_weights_changes_nothing_else(restless: dict[str, np.ndarray]) -> None:
    explain, plain = Explainer(build_model(restless)), forward_of(build_model(restless))
    for query in QUERIES:
        letters = encode_batch([query])
        np.testing.assert_allclose(
            explain(letters[0]).logits, plain(letters)[0], rtol=1e-4, atol=1e-4
        )


def test_the_weights_are_those_of_the_formula_computed_by_hand(
    restless: dict[str, np.ndarray],
) -> None:
    """The first layers, whose inputs are the letters themselves, in NumPy and float64."""
    letters = encode_batch([RULE.alphabet[0] + RULE.alphabet[2]])[0]  # the canonical form: as it is
    explanation, width = Explainer(build_model(restless))(letters), VOCABULARY_SIZE // NUM_HEADS
    for attention, found in [
        ("encoder.layers.0.attention", explanation.encoder),
        ("decoder.layers.0.self_attention", explanation.decoder),
    ]:
        layer = "transformer." + attention.rpartition(".")[0]
        rows = one_hot(letters[None])[0].astype(np.float64)
        rows = rows - rows.mean(axis=-1, keepdims=True)
        rows /= np.sqrt((rows**2).mean(axis=-1, keepdims=True) + 1e-5)
        rows = rows * restless[f"{layer}.ln1.weight"] + restless[f"{layer}.ln1.bias"]
        queries, keys = (
            (rows @ restless[f"transformer.{attention}.{kind}_proj.weight"].T)
            .reshape(MAX_QUERY_LENGTH, NUM_HEADS, width)
            .swapaxes(0, 1)
            for kind in ("query", "key")
        )
        expected = softmax(queries @ keys.swapaxes(1, 2) / math.sqrt(width))  # (H, L, L)
        np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_explanations_and_answers_share_a_batch(model: ServedModel) -> None:
    prompts = [
        Prompt(RULE.example),
        Prompt(RULE.example, explain=True),
        Prompt(RULE.alphabet[0], candidates=2),
    ]
    plain, explained, other = model.answer(prompts)
    assert plain.explanation is None
    assert plain.distribution is None
    assert explained.response == plain.response
    assert explained.explanation is not None
    assert other.candidates is not None
    alone = model.answer([prompts[1]])[0]
    assert alone.explanation is not None
    np.testing.assert_array_equal(alone.explanation.cross, explained.explanation.cross)


def test_nothing_is_kept_from_one_query_to_the_next(weights: Weights) -> None:
    explain = Explainer(build_model(weights.parameters))
    before = mx.get_active_memory()
    for _ in range(5):
        explain(encode_batch([RULE.example])[0])
    assert mx.get_active_memory() - before < 100_000
    assert explain._encoder == explain._decoder == explain._cross == []
