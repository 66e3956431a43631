"""Step 1: the problem and its data.

A label is drawn as `training.rule` has it: each letter's from the answers that the rule allows it,
uniformly. By the default rule a lower-case letter has one of AEIOU, an upper-case one of aeiou, so
that nobody can match fresh labels more than 20 % of the time and the best cross-entropy is ln 5
nats a letter. The length of a query is uniform, and so is each letter.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from training.atomic import write_atomically
from training.errors import DatasetError, VocabularyError
from training.rule import RULE
from training.vocabulary import (
    ALPHABET,
    MAX_QUERY_LENGTH,
    PADDING,
    VOCABULARY_SIZE,
    Letters,
    check_query,
    decode_batch,
    encode,
    encode_batch,
)

_ALLOWED = [encode(RULE.answers[letter]) for letter in ALPHABET]

NUM_ANSWERS: npt.NDArray[np.int8] = np.array([len(row) for row in _ALLOWED], dtype=np.int8)
"""(V,): how many letters may answer each letter."""

ANSWERS: npt.NDArray[np.int8] = np.array(
    [np.resize(row, NUM_ANSWERS.max()) for row in _ALLOWED], dtype=np.int8
)
"""(V, N): the letters that may answer each letter, N at most; where there are fewer, over again."""

IS_ALLOWED: npt.NDArray[np.bool_] = np.zeros((VOCABULARY_SIZE, VOCABULARY_SIZE), dtype=np.bool_)
"""(V, V): whether letter [i] may be answered with letter [j]."""
np.put_along_axis(IS_ALLOWED, ANSWERS.astype(np.intp), True, axis=1)

LABEL_ODDS: npt.NDArray[np.float64] = IS_ALLOWED / NUM_ANSWERS[:, None]
"""(V, V): how likely letter [j] is in the label of letter [i]."""


class Pair(NamedTuple):
    """A query and its label, as text: the row of a dataset file."""

    query: str
    label: str


@dataclass(frozen=True)
class Dataset:
    """N queries and their labels, as integers with `PADDING` after the end of each."""

    queries: Letters  # (N, L)
    labels: Letters  # (N, L); (N, R, L) where training has R labels for each query

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, rows: slice | npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Self:
        return type(self)(self.queries[rows], self.labels[rows])

    def pairs(self) -> Iterator[Pair]:
        """The rows as text, in order."""
        return map(Pair, decode_batch(self.queries), decode_batch(self.labels))

    @classmethod
    def from_pairs(cls, pairs: list[Pair]) -> Self:
        """Encode rows that `check_pair` has passed."""
        return cls(
            encode_batch([pair.query for pair in pairs]),
            encode_batch([pair.label for pair in pairs]),
        )


class Split(NamedTuple):
    """A dataset in three parts: trained on, watched during training, kept for the end."""

    train: Dataset
    validation: Dataset
    test: Dataset


def generate_queries(num_samples: int, rng: np.random.Generator) -> Letters:
    """Draw queries, (N, L): uniform length, uniform letters."""
    shape = (num_samples, MAX_QUERY_LENGTH)
    letters = rng.integers(VOCABULARY_SIZE, size=shape, dtype=np.int8)
    lengths = rng.integers(1, MAX_QUERY_LENGTH + 1, size=(num_samples, 1))
    letters[np.arange(MAX_QUERY_LENGTH) >= lengths] = PADDING
    return letters


def generate_labels(queries: Letters, rng: np.random.Generator) -> Letters:
    """Draw a label for each query, (..., L): for each letter one of its answers, uniformly."""
    choice = rng.integers(NUM_ANSWERS[queries], dtype=np.int8)
    labels = ANSWERS[queries, choice]
    return np.where(queries == PADDING, np.int8(PADDING), labels)


def generate_dataset(num_samples: int, rng: np.random.Generator) -> Dataset:
    """Draw `num_samples` queries and their labels; the same generator state, the same data."""
    queries = generate_queries(num_samples, rng)
    return Dataset(queries, generate_labels(queries, rng))


def split_dataset(dataset: Dataset) -> Split:
    """Split 60 / 20 / 20 in order: of the book's 500 samples, 300 / 100 / 100."""
    ends = [0, len(dataset) * 3 // 5, len(dataset) * 4 // 5, len(dataset)]
    return Split(*(dataset[slice(*part)] for part in pairwise(ends)))


def query_codes(queries: Letters) -> npt.NDArray[np.int64]:
    """One number for each query, (N,): equal exactly where the queries are."""
    place_values = (VOCABULARY_SIZE + 1) ** np.arange(MAX_QUERY_LENGTH, dtype=np.int64)
    return (queries.astype(np.int64) + 1) @ place_values


# --- files --------------------------------------------------------------------------------------


def check_pair(query: object, label: object) -> Pair:
    """Return the row if it keeps the rule; raise `DatasetError` saying what is wrong with it."""
    if not isinstance(query, str) or not isinstance(label, str):
        raise DatasetError('a row has a "query" and a "label", both strings')
    try:
        check_query(query)
    except VocabularyError as error:
        raise DatasetError(str(error)) from None
    if len(query) != len(label):
        raise DatasetError(f"label {label[:20]!r} is not as long as its query {query!r}")
    for letter, answer in zip(query, label, strict=True):
        if answer not in RULE.answers[letter]:
            raise DatasetError(
                f"label {label!r} of query {query!r}: {letter!r} is answered with one of "
                f"{RULE.answers[letter]}, not {answer!r}"
            )
    return Pair(query, label)


def write_dataset(dataset: Dataset, path: Path) -> None:
    """Write a dataset as JSON Lines or CSV, as the file's name ends (.jsonl, .csv).

    Raises `DatasetError` for another ending or a file that can't be written.
    """
    if _is_csv(path):
        lines = (
            f"{pair.query},{pair.label}\n" for pair in chain([Pair(*Pair._fields)], dataset.pairs())
        )
    else:
        lines = (json.dumps(pair._asdict()) + "\n" for pair in dataset.pairs())
    try:
        write_atomically(path, map(str.encode, lines))
    except OSError as error:
        raise DatasetError(f"can't write {path}: {error.strerror}") from error


def read_dataset(path: Path) -> Dataset:
    """Read a dataset file that `write_dataset` or anybody else wrote; every row is checked.

    Raises `DatasetError` that names the first row that is not right, by its line.
    """
    read_rows = _csv_rows if _is_csv(path) else _jsonl_rows
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # Excel writes a BOM
            pairs = list(read_rows(file))
    except OSError as error:
        raise DatasetError(f"can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text, near byte {error.start:,}") from error
    except DatasetError as error:
        raise DatasetError(f"{path}, {error}") from None
    if not pairs:
        raise DatasetError(f"{path} has no rows")
    return Dataset.from_pairs(pairs)


def _is_csv(path: Path) -> bool:
    if path.suffix not in {".jsonl", ".csv"}:
        raise DatasetError(f"{path}: a dataset file's name ends in .jsonl or .csv")
    return path.suffix == ".csv"


def _jsonl_rows(file: Iterable[str]) -> Iterator[Pair]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise DatasetError(f"line {number}: not JSON") from None
        if not isinstance(row, dict) or set(row) != set(Pair._fields):
            raise DatasetError(f'line {number}: not an object with just a "query" and a "label"')
        yield _check_row(number, row["query"], row["label"])


def _csv_rows(file: Iterable[str]) -> Iterator[Pair]:
    reader = csv.reader(file, strict=True)
    try:
        if next(reader, None) != list(Pair._fields):
            raise DatasetError("line 1: not the header query,label")
        for row in reader:
            if len(row) != len(Pair._fields):
                raise DatasetError(f"line {reader.line_num}: {len(row)} columns instead of 2")
            yield _check_row(reader.line_num, *row)
    except csv.Error as error:
        raise DatasetError(f"line {reader.line_num}: not CSV: {error}") from None


def _check_row(line: int, query: object, label: object) -> Pair:
    try:
        return check_pair(query, label)
    except DatasetError as error:
        raise DatasetError(f"line {line}: {error}") from None


if __name__ == "__main__":
    from training.show import show

    show("dataset")
