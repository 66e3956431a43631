"""`menny verify --table`: the answer table alone, and a sample of it held against the model."""

from pathlib import Path

import numpy as np

from training.dataset import generate_queries
from training.errors import ProofError
from training.graph import FusedMenny
from training.proof.answers import (
    NUM_MULTISETS,
    AnswerTable,
    check_table,
    load_table,
    table_path,
)
from training.proof.queries import BATCH_SIZE, NUM_QUERIES, random_queries
from training.settling import Settler
from training.vocabulary import decode_batch
from training.weights import Weights


def check_table_of(path: Path, weights: Weights) -> str:
    """What the answer table of a weights file is worth by itself, in words.

    Raises `WeightsError` if it is missing, damaged, another's, or breaks the rule.
    """
    check_table(_load(path, weights))
    return (
        f"{table_path(path)}: the answer table of version {weights.version}; its {NUM_MULTISETS:,} "
        f"codes answer all {NUM_QUERIES:,} queries with allowed letters, and equal letters of a "
        "query alike. Whether the model answers so was not asked: --ask N asks it, and "
        "`menny verify` asks it everything"
    )


def ask_again(path: Path, weights: Weights, count: int) -> str:
    """Hold the table against the model on so many random queries; returns what that shows.

    Raises `ProofError` that names a query which the model answers otherwise.
    """
    table = _load(path, weights)
    forward = FusedMenny(weights.parameters)
    probes = generate_queries(256, np.random.default_rng(0))
    settler = Settler(weights.parameters, forward, probes, [1, 64, BATCH_SIZE])
    rng = np.random.default_rng()
    for start in range(0, count, BATCH_SIZE):
        queries = random_queries(min(BATCH_SIZE, count - start), rng)
        texts = decode_batch(queries)
        answers = decode_batch(settler.answers(queries, forward(queries)))
        for query, says, has in zip(texts, answers, table.answers(texts), strict=True):
            if says != has:
                raise ProofError(
                    f"the model answers {query} with {says}, and the table has {has}: it is not "
                    "the model's; `menny verify` makes it anew"
                )
    return (
        f"the model answers {count:,} random queries as the table does: so with 95 % confidence "
        f"at most {min(1, 3 / count):.2g} of all queries differ"
    )


def _load(path: Path, weights: Weights) -> AnswerTable:
    own_sha256 = weights.card.answers if weights.card else None
    return load_table(table_path(path), weights.sha256, own_sha256)
