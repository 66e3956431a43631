"""Step 6: how good is she? Metrics that say what they are.

All are over real letters, never padding, except the book's own accuracy.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from training.dataset import (
    IS_ALLOWED,
    LABEL_ODDS,
    NUM_ANSWERS,
    Dataset,
    generate_labels,
    generate_queries,
    query_codes,
)
from training.rule import RULE
from training.vocabulary import ALPHABET, PADDING, Letters

Forward = Callable[[Letters], npt.NDArray[np.float32]]
"""Letters (B, L) to logits (B, L, V)."""

BEST_NLLS: npt.NDArray[np.float64] = np.log(NUM_ANSWERS.astype(np.float64))
"""(V,): each letter's ln n, nats: what a model that knows the label distribution exactly has."""

BEST_NLL = float(BEST_NLLS.mean())
"""The same over uniform letters; ln 5 by the default rule."""

EXACT_MATCH_CEILING = float((1 / NUM_ANSWERS).mean())
"""The expected exact match of any model on labels it has not seen: the mean of 1 / n."""

BATCH_SIZE = 256
"""Queries in one forward pass; a smaller set is padded to it, so that MLX sees one shape."""


class Metrics(BaseModel):
    """How a model does on a set of queries."""

    model_config = ConfigDict(frozen=True)

    num_queries: int = Field(description="queries that were measured")
    rule_accuracy: float = Field(description="share of letters answered with an allowed letter")
    excess_nll: float = Field(
        description="cross-entropy against the true label distribution minus the best "
        "possible one, nats a letter"
    )
    exact_match: float = Field(
        description="share of letters answered with the very label drawn; "
        f"{EXACT_MATCH_CEILING:.2g} is the ceiling on labels not trained on, as they are random"
    )
    book_accuracy: float = Field(
        description="the book's accuracy: share of all positions answered with the label, an empty "
        f"position counting as right when it is answered with {ALPHABET[0]!r}"
    )


def evaluate(forward: Forward, dataset: Dataset) -> Metrics:
    """Measure a model on a dataset, the most likely letter being her answer."""
    num_letters = num_allowed = num_matched = num_matched_by_book = 0
    total_excess = 0.0
    for start in range(0, len(dataset), BATCH_SIZE):
        batch = dataset[start : start + BATCH_SIZE]
        log_probabilities = _log_softmax(_forward_padded(forward, batch.queries))  # (B, L, V)
        answers = log_probabilities.argmax(axis=-1)  # (B, L)
        is_letter = batch.queries != PADDING
        letters, letter_answers = batch.queries[is_letter], answers[is_letter]  # (N,)
        num_letters += letters.size
        num_allowed += int(IS_ALLOWED[letters, letter_answers].sum())
        num_matched += int((letter_answers == batch.labels[is_letter]).sum())
        num_matched_by_book += int((answers == np.maximum(batch.labels, 0)).sum())
        nll = -(LABEL_ODDS[letters] * log_probabilities[is_letter]).sum(axis=-1)
        total_excess += float((nll - BEST_NLLS[letters]).sum())
    return Metrics(
        num_queries=len(dataset),
        rule_accuracy=num_allowed / num_letters,
        excess_nll=total_excess / num_letters,
        exact_match=num_matched / num_letters,
        book_accuracy=num_matched_by_book / dataset.labels.size,
    )


def fresh_dataset(
    num_queries: int, rng: np.random.Generator, trained_on: npt.NDArray[np.int64] | None = None
) -> Dataset:
    """Draw queries that were not trained on, with fresh labels.

    `trained_on` has the codes (`query_codes`) of the queries to leave out. There are only 52
    queries of one letter and 2,704 of two: after a long training run few of them are left. By a
    rule with so few queries that none is left, all are drawn from.
    """
    seen = np.array([], dtype=np.int64) if trained_on is None else np.unique(trained_on)
    if len(seen) == RULE.num_queries:
        seen = seen[:0]
    queries = generate_queries(0, rng)
    while len(queries) < num_queries:
        more = generate_queries(num_queries, rng)
        more = more[~np.isin(query_codes(more), seen)]
        queries = np.concatenate([queries, more])[:num_queries]
    return Dataset(queries, generate_labels(queries, rng))


def _forward_padded(forward: Forward, queries: Letters) -> npt.NDArray[np.float64]:
    missing = BATCH_SIZE - len(queries)
    padded = np.pad(queries, ((0, missing), (0, 0)), constant_values=PADDING)
    return forward(padded)[: len(queries)].astype(np.float64)


def _log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normalised: npt.NDArray[np.float64] = shifted - np.log(
        np.exp(shifted).sum(axis=-1, keepdims=True)
    )
    return normalised


if __name__ == "__main__":
    from training.show import show

    show("evaluation")
