"""What was measured, as a table and in words."""

import math
from collections.abc import Iterator

from rich.table import Table

from training.config import Recipe
from training.evaluation import BEST_NLL, EXACT_MATCH_CEILING, Metrics
from training.vocabulary import ALPHABET
from training.weights import Weights

_KNOWS_THE_RULE = 0.9
"""Rule accuracy below which the rule itself is what she has not learnt."""

_LEARNT_BY_HEART = 0.5
"""Nats a letter of excess: far more than a model has that knows the rule and nothing by heart."""


def metrics_table(columns: dict[str, Metrics], *, show_book_accuracy: bool) -> Table:
    """A column for each set of queries, a row for each metric, and what it means."""
    rows = {
        "queries": ("", lambda metrics: f"{metrics.num_queries:,}"),
        "rule_accuracy": (
            "letters answered with an allowed one",
            lambda metrics: _rounded_down(metrics.rule_accuracy),
        ),
        "excess_nll": (
            f"cross-entropy above the best possible, {BEST_NLL:.4f}; nats a letter",
            lambda metrics: f"{metrics.excess_nll:.5f}",
        ),
        "exact_match": (
            f"labels matched; {EXACT_MATCH_CEILING:.0%} is the ceiling on unseen ones",
            lambda metrics: f"{metrics.exact_match:.2%}",
        ),
    }
    if show_book_accuracy:
        rows["book accuracy"] = (
            f"the book's: counts padding, answered with {ALPHABET[0]!r}, as right",
            lambda metrics: f"{metrics.book_accuracy:.2%}",
        )
    table = Table("", *columns, "meaning", box=None, header_style="bold")
    for name, (meaning, show) in rows.items():
        table.add_row(name, *map(show, columns.values()), f"[dim]{meaning}[/dim]")
    return table


def meaning_of(weights: Weights, metrics: Metrics) -> Iterator[str]:
    """What the figures say, a sentence each."""
    forbidden = 1 - metrics.rule_accuracy
    if forbidden == 0:
        yield "Every letter of these queries gets an allowed answer."
    else:
        share = f"one letter in {1 / forbidden:,.0f}" if forbidden < 0.1 else f"{forbidden:.0%}"
        yield (
            f"{_rounded_down(metrics.rule_accuracy)} of letters get an allowed answer: "
            f"{share} gets a forbidden one."
        )
    if metrics.rule_accuracy < _KNOWS_THE_RULE:
        yield "She has not learnt the rule: train her for longer, or on more queries."
    elif metrics.excess_nll > _LEARNT_BY_HEART:
        yield (
            "She has not learnt that what is allowed is equally likely, but to be sure of one: "
            f"her excess_nll is {metrics.excess_nll:.2f} nats, as it gets by learning the labels "
            "of a small dataset by heart."
        )
    card = weights.card
    if card is not None and card.recipe is Recipe.BOOK:
        yield (
            "An accuracy above 91 %, as in the book, is measured on the queries that she was "
            "trained on and counts empty positions; on unseen labels nobody exceeds "
            f"{100 * EXACT_MATCH_CEILING:.0f} %."
        )
    if weights.is_proven:
        yield "Proven: every query that exists was checked, and none gets a forbidden letter."
    elif card is not None and card.proof is not None and card.proof.violations:
        yield (
            f"Refuted: {card.proof.violations:,} of all queries that exist get a forbidden letter "
            "(`menny verify`)."
        )
    else:
        yield "Not proven: `menny verify` checks every query that exists."


def _rounded_down(share: float) -> str:
    """100 % means all of them."""
    return f"{math.floor(share * 1e4) / 1e4:.2%}"
