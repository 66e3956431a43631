"""Batching, loss, evaluation and configuration: the small steps."""

import math

import mlx.core as mx
import numpy as np
import pytest
from pydantic import ValidationError

from training.batching import batch_iterate
from training.config import Recipe, TrainingConfig, recipe_config
from training.dataset import (
    ANSWERS,
    Dataset,
    generate_dataset,
    generate_labels,
    generate_queries,
    query_codes,
)
from training.evaluation import evaluate, fresh_dataset
from training.loss import cross_entropy_loss
from training.vocabulary import PADDING, Letters, encode_batch


def test_batches_come_in_order_and_the_remainder_is_dropped_as_in_the_book() -> None:
    dataset = generate_dataset(300, np.random.default_rng(0))
    batches = list(batch_iterate(dataset, 64))
    assert [len(batch) for batch in batches] == [64] * 4
    np.testing.assert_array_equal(
        np.concatenate([batch.queries for batch in batches]), dataset.queries[:256]
    )


def test_shuffled_batches_have_each_row_once_with_its_own_label() -> None:
    dataset = generate_dataset(256, np.random.default_rng(0))
    batches = list(batch_iterate(dataset, 64, np.random.default_rng(1)))
    shuffled = [pair for batch in batches for pair in batch.pairs()]
    assert shuffled != list(dataset.pairs())
    assert sorted(shuffled) == sorted(dataset.pairs())


def uniform_over_vowels(queries: Letters) -> np.ndarray:
    logits = np.full((*queries.shape, 52), -100, dtype=np.float32)
    np.put_along_axis(logits, ANSWERS[queries].astype(np.intp), 0, axis=-1)
    return logits


@pytest.mark.default_rule
def test_the_loss_of_the_best_model_is_ln_5_a_letter() -> None:
    dataset = generate_dataset(100, np.random.default_rng(0))
    logits = mx.array(uniform_over_vowels(dataset.queries))
    loss = cross_entropy_loss(logits, mx.array(dataset.labels), mask_padding=True)
    assert loss.item() == pytest.approx(math.log(5), abs=1e-5)


@pytest.mark.default_rule
def test_several_labels_cost_as_much_as_the_query_several_times_in_the_batch() -> None:
    rng = np.random.default_rng(1)
    queries = generate_queries(20, rng)
    labels = np.stack([generate_labels(queries, rng) for _ in range(3)], axis=1)  # (B, R, L)
    logits = rng.normal(size=(20, 5, 52)).astype(np.float32)
    for mask_padding in (True, False):
        at_once = cross_entropy_loss(mx.array(logits), mx.array(labels), mask_padding=mask_padding)
        one_by_one = cross_entropy_loss(
            mx.array(logits.repeat(3, axis=0)),
            mx.array(labels.reshape(60, 5)),
            mask_padding=mask_padding,
        )
        assert at_once.item() == pytest.approx(one_by_one.item(), abs=1e-5)


@pytest.mark.default_rule
def test_the_books_loss_wants_an_a_at_empty_positions() -> None:
    labels = mx.array(encode_batch(["A"]))
    logits = np.zeros((1, 5, 52), dtype=np.float32)
    logits[0, 1:, 0] = 100  # 'a' wherever nothing is
    book = cross_entropy_loss(mx.array(logits), labels, mask_padding=False)
    assert book.item() == pytest.approx(math.log(52) / 5, abs=1e-4)
    masked = cross_entropy_loss(mx.array(logits), labels, mask_padding=True)
    assert masked.item() == pytest.approx(math.log(52), abs=1e-4)


@pytest.mark.default_rule
def test_the_best_model_has_no_excess_and_matches_one_label_in_five() -> None:
    dataset = generate_dataset(5_000, np.random.default_rng(0))
    metrics = evaluate(uniform_over_vowels, dataset)
    assert metrics.rule_accuracy == 1
    assert metrics.excess_nll == pytest.approx(0, abs=1e-6)
    assert metrics.exact_match == pytest.approx(0.2, abs=0.02)
    assert metrics.num_queries == 5_000


@pytest.mark.default_rule
def test_metrics_count_real_letters_and_the_books_counts_padding() -> None:
    def always_a(queries: Letters) -> np.ndarray:
        logits = np.zeros((*queries.shape, 52), dtype=np.float32)
        logits[..., 0] = 10
        return logits

    dataset = Dataset(encode_batch(["A", "b", "CD"]), encode_batch(["a", "E", "ae"]))
    metrics = evaluate(always_a, dataset)
    assert metrics.rule_accuracy == pytest.approx(3 / 4)  # of four letters all but b
    assert metrics.exact_match == pytest.approx(2 / 4)
    assert metrics.book_accuracy == pytest.approx((5 + 4 + 4) / 15)
    log_normaliser = math.log(math.exp(10) + 51)
    nll_upper, nll_lower = log_normaliser - 10 / 5, log_normaliser
    assert metrics.excess_nll == pytest.approx(
        (3 * nll_upper + nll_lower) / 4 - math.log(5), abs=1e-6
    )


def test_fresh_queries_are_none_that_were_trained_on() -> None:
    trained_on = query_codes(generate_dataset(50_000, np.random.default_rng(0)).queries)
    fresh = fresh_dataset(2_000, np.random.default_rng(1), trained_on)
    assert len(fresh) == 2_000
    assert not np.isin(query_codes(fresh.queries), trained_on).any()
    assert (fresh.queries[:, 0] != PADDING).all()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_samples": 0}, "num_samples"),
        ({"batch_size": 501}, "not fill one batch of 501"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"seed": -1}, "seed"),
        ({"schedule": "linear"}, "schedule"),
        ({"warm_up_steps": 10_000}, "longer than the run"),
        ({"momentum": 1}, "momentum"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(changes, field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        recipe_config(Recipe.BOOK, **changes)


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrainingConfig().seed = 1


def test_the_book_recipe_is_what_the_chapter_prints() -> None:
    book = recipe_config(Recipe.BOOK)
    assert (book.num_samples, book.num_epochs, book.batch_size) == (500, 100, 64)
    assert (book.learning_rate, book.schedule, book.warm_up_steps) == (1e-3, "constant", 0)
    assert (book.resample, book.shuffle, book.mask_padding) == (False, False, False)
    assert book.steps_per_epoch == 7  # it trains on all 500; 52 are dropped
