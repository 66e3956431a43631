"""Every query that exists: which there are, and the multisets of letters that stand for them.

By the default rule 387,659,012 queries and 4,187,105 multisets, as `training.proof.check` has it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.dataset import generate_queries
from training.rule import RULE
from training.vocabulary import MAX_QUERY_LENGTH, PADDING, VOCABULARY_SIZE, Letters

NUM_QUERIES = RULE.num_queries

BATCH_SIZE = 128
"""Queries that are judged together: their arrays stay in a core's own cache."""

CHUNK_SIZE = 32 * BATCH_SIZE
"""Queries in a chunk, the unit of work and one forward pass: some 0.3 s."""


@dataclass(frozen=True)
class Workload:
    """Queries to check; each stands for itself alone or for all of its anagrams."""

    queries: Letters  # (N, L)
    with_anagrams: bool

    @property
    def anagrams(self) -> npt.NDArray[np.int64]:
        """How many queries each stands for, (N,)."""
        if self.with_anagrams:
            return count_anagrams(self.queries)
        return np.ones(len(self.queries), dtype=np.int64)

    @property
    def num_chunks(self) -> int:
        """Chunks of `CHUNK_SIZE` queries, the last one perhaps smaller."""
        return -(-len(self.queries) // CHUNK_SIZE)

    def chunk(self, index: int) -> "Workload":
        """A part of the work; the same index is the same part in every process."""
        rows = slice(index * CHUNK_SIZE, (index + 1) * CHUNK_SIZE)
        return Workload(self.queries[rows], self.with_anagrams)


@dataclass(frozen=True)
class Plan:
    """What to check: all queries of up to `max_length` letters, or so many random ones."""

    max_length: int = MAX_QUERY_LENGTH
    sample: int | None = None
    seed: int = 0

    @property
    def num_asked(self) -> int:
        """How many queries the model is asked, counted without making them."""
        if self.sample is not None:
            return self.sample
        return RULE.count_multisets(self.max_length)

    def workload(self) -> Workload:
        """The queries, always the same ones in the same order."""
        if self.sample is not None:
            queries = generate_queries(self.sample, np.random.default_rng(self.seed))
            return Workload(queries, with_anagrams=False)
        queries = np.concatenate([_padded(multisets(n)) for n in range(1, self.max_length + 1)])
        return Workload(queries, with_anagrams=True)


def random_queries(count: int, rng: np.random.Generator) -> Letters:
    """Draw from all queries that exist, each as likely as any other: (N, L)."""
    sizes = np.array([float(VOCABULARY_SIZE**n) for n in range(1, MAX_QUERY_LENGTH + 1)])
    lengths = rng.choice(len(sizes), size=(count, 1), p=sizes / sizes.sum()) + 1
    shape = (count, MAX_QUERY_LENGTH)
    letters = rng.integers(VOCABULARY_SIZE, size=shape, dtype=np.int8)
    return np.where(np.arange(MAX_QUERY_LENGTH) < lengths, letters, np.int8(PADDING))


def multisets(length: int) -> Letters:
    """Every multiset of `length` letters as a row in ascending order, (N, length)."""
    rows = np.arange(VOCABULARY_SIZE, dtype=np.int8)[:, None]
    for _ in range(length - 1):
        num_children = VOCABULARY_SIZE - rows[:, -1].astype(np.int64)
        parents = np.repeat(rows, num_children, axis=0)
        first_child = np.repeat(np.cumsum(num_children) - num_children, num_children)
        last = parents[:, -1] + (np.arange(len(parents)) - first_child)
        rows = np.column_stack([parents, last.astype(np.int8)])
    return rows


def count_anagrams(queries: Letters) -> npt.NDArray[np.int64]:
    """How many different queries have the letters of each row, (N,): n! / (c1! c2! ...).

    The letters of a row are in ascending order, `PADDING` after them.
    """
    is_letter = queries != PADDING
    run = np.ones_like(queries, dtype=np.int64)  # 1, 2, 3 ... along equal letters
    for at in range(1, queries.shape[1]):
        run[:, at] += np.where(queries[:, at] == queries[:, at - 1], run[:, at - 1], 0)
    factorials = np.cumprod([1, *range(1, queries.shape[1] + 1)])
    anagrams: npt.NDArray[np.int64] = factorials[is_letter.sum(axis=1)] // np.where(
        is_letter, run, 1
    ).prod(axis=1)
    return anagrams


def _padded(queries: Letters) -> Letters:
    missing = MAX_QUERY_LENGTH - queries.shape[1]
    return np.pad(queries, ((0, 0), (0, missing)), constant_values=PADDING)
