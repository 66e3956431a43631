"""The answer table: what the model answers to every query that exists, written down.

The proof asks the model every multiset of letters. What it answers is kept, one code for each in
the order of `training.proof.queries`: the letters' answers as digits in base 5, which of the five
allowed vowels, the first letter's digit the lowest. A forbidden answer has no digit, so that a
model that breaks the rule anywhere has no table. A query is looked up by its canonical form, its
letters in ascending order, and the answer carried back to its own order.

A table is an `.npz` without pickles, bound to the weights and to the rule by their SHA-256. Anybody
can check that all it says keeps the rule; that it is what the model says, the model alone can tell.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from math import comb
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.atomic import write_atomically
from training.dataset import ALLOWED_VOWELS, IS_ALLOWED
from training.errors import WeightsError
from training.proof.queries import Plan, multisets
from training.settling import canonical_order
from training.vocabulary import ALPHABET, MAX_QUERY_LENGTH, PADDING, VOCABULARY_SIZE, Letters
from training.weights.npz import parse_npz
from training.weights.untrusted import read_file

Codes = npt.NDArray[np.uint16]

FORMAT = 1
MAX_TABLE_SIZE = 12 * 2**20
"""Bytes; the shipped table has less than 1 MiB, and no table more than 8 MiB of codes."""

BASE = ALLOWED_VOWELS.shape[1]
_PLACES = BASE ** np.arange(MAX_QUERY_LENGTH)
_LENGTHS = range(1, MAX_QUERY_LENGTH + 1)
_SIZES = [comb(VOCABULARY_SIZE + n - 1, n) for n in _LENGTHS]
_OFFSETS = [0, 0, *np.cumsum(_SIZES).tolist()]  # [n]: the first multiset of n letters
NUM_MULTISETS = sum(_SIZES)

_DIGITS = np.full((VOCABULARY_SIZE, VOCABULARY_SIZE), -1, dtype=np.int64)  # [letter, answer]
np.put_along_axis(_DIGITS, ALLOWED_VOWELS.astype(np.intp), np.arange(BASE)[None], axis=1)


def _before(size: int, letter: int) -> int:
    """How many multisets of so many letters begin with an earlier letter."""
    if size == 0:
        return 0
    return sum(comb(VOCABULARY_SIZE - first + size - 2, size - 1) for first in range(letter))


# The rank of a multiset among those of its length is a sum over its letters, by how many letters
# follow: the combinatorial number system. [rest + 1, letter]; nothing for no letter.
_RANKS = np.array(
    [
        [_before(size, letter) - _before(size - 1, letter) for letter in range(VOCABULARY_SIZE)]
        + [0]
        for size in range(1, MAX_QUERY_LENGTH + 1)
    ]
)
_RANKS = np.concatenate([np.zeros_like(_RANKS[:1]), _RANKS])
_ORDER = {letter: index for index, letter in enumerate(ALPHABET)}
_RANK_OF = [dict(zip(ALPHABET, row[:-1], strict=True)) for row in _RANKS.tolist()]
_ANSWERS_OF = {
    letter: "".join(ALPHABET[answer] for answer in row)
    for letter, row in zip(ALPHABET, ALLOWED_VOWELS.tolist(), strict=True)
}


class AnswerTable:
    """Looks answers up; the codes (`NUM_MULTISETS`,) are those of the weights with a SHA-256."""

    def __init__(self, codes: Codes, weights_sha256: str) -> None:
        self.codes = codes
        self.weights_sha256 = weights_sha256
        self._codes = codes.data

    def answer(self, query: str) -> str:
        """The response to a query of 1 to 5 letters."""
        letters = sorted(query, key=_ORDER.__getitem__)
        rest = len(letters)
        rank = _OFFSETS[rest]
        for letter in letters:
            rank += _RANK_OF[rest][letter]
            rest -= 1
        code = self._codes[rank]
        answers = {}
        for letter in letters:
            code, digit = divmod(code, BASE)
            answers[letter] = _ANSWERS_OF[letter][digit]
        return "".join([answers[letter] for letter in query])

    def answers(self, queries: Letters) -> Letters:
        """Letters (B, L) to letters (B, L), `PADDING` at the ends of both."""
        order = canonical_order(queries)
        letters = np.take_along_axis(queries, order, axis=1)
        digits = self.codes[ranks(letters)][:, None] // _PLACES % BASE  # (B, L)
        answers = np.where(letters == PADDING, PADDING, ALLOWED_VOWELS[letters, digits])
        responses = np.empty_like(queries)
        np.put_along_axis(responses, order, answers.astype(np.int8), axis=1)
        return responses


def ranks(letters: Letters) -> npt.NDArray[np.int64]:
    """Where each canonical query of (B, L) is among all multisets, (B,)."""
    lengths = (letters != PADDING).sum(axis=1)
    rest = np.maximum(lengths[:, None] - np.arange(MAX_QUERY_LENGTH), 0)
    found: npt.NDArray[np.int64] = np.array(_OFFSETS)[lengths] + _RANKS[rest, letters].sum(axis=1)
    return found


def encode_answers(queries: Letters, answers: Letters) -> Codes | None:
    """Canonical queries (N, L) and their answers (N, L) to codes; `None` if one is forbidden."""
    digits = np.where(queries == PADDING, 0, _DIGITS[queries, answers])
    if (digits < 0).any():
        return None
    codes: Codes = (digits @ _PLACES).astype(np.uint16)
    return codes


def rule_sha256() -> str:
    """Of the rule: letters, longest query, and the answers that each letter allows."""
    rule = [ALPHABET, MAX_QUERY_LENGTH, list(_ANSWERS_OF.values())]
    return hashlib.sha256(json.dumps(rule).encode()).hexdigest()


def table_path(weights: Path) -> Path:
    """Where the answer table of a weights file is: its name says which weights it belongs to."""
    stem = weights.stem.removesuffix("_weights")
    return weights.with_name(f"{stem}_answers.npz")


def save_table(path: Path, table: AnswerTable) -> str:
    """Write a table, whole or not at all; returns its SHA-256.

    Raises `WeightsError` if the disk won't take it.
    """
    file = io.BytesIO()
    np.savez_compressed(
        file,
        allow_pickle=False,
        format=np.array([FORMAT], dtype=np.uint16),
        weights=_as_bytes(table.weights_sha256),
        rule=_as_bytes(rule_sha256()),
        codes=table.codes,
    )
    data = file.getvalue()
    try:
        write_atomically(path, [data])
    except OSError as error:
        raise WeightsError(f"can't write {path}: {error.strerror}") from error
    return hashlib.sha256(data).hexdigest()


def load_table(path: Path, weights_sha256: str) -> AnswerTable:
    """Read and check a table of these weights.

    Every code in it stands for allowed answers. Raises `WeightsError` saying what is wrong.
    """
    arrays = parse_npz(
        read_file(path, MAX_TABLE_SIZE),
        path,
        {
            "format": ((1,), np.dtype("<u2")),
            "weights": ((32,), np.dtype("u1")),
            "rule": ((32,), np.dtype("u1")),
            "codes": ((NUM_MULTISETS,), np.dtype("<u2")),
        },
    )
    if arrays["format"][0] != FORMAT:
        raise WeightsError(f"{path} has format {arrays['format'][0]}; this Menny knows {FORMAT}")
    if arrays["rule"].tobytes().hex() != rule_sha256():
        raise WeightsError(f"{path} is the answer table of another rule")
    found = arrays["weights"].tobytes().hex()
    if found != weights_sha256:
        raise WeightsError(
            f"{path} is the answer table of weights {found[:12]}, not of {weights_sha256[:12]}"
        )
    codes = arrays["codes"]
    for length, part in zip(_LENGTHS, _parts(codes), strict=True):
        if part.max() >= BASE**length:
            raise WeightsError(f"{path} has a code that stands for no answer to {length} letters")
    return AnswerTable(codes, found)


def check_table(table: AnswerTable) -> None:
    """Decode every code and hold it against the rule; raises `WeightsError` for the first fault.

    All queries that exist are answered with allowed letters, and equal letters of a query alike.
    It is not asked whether the model answers so.
    """
    for length, codes in zip(_LENGTHS, _parts(table.codes), strict=True):
        letters = multisets(length)  # (N, length)
        answers = ALLOWED_VOWELS[letters, codes[:, None] // _PLACES[:length] % BASE]
        if not IS_ALLOWED[letters, answers].all():
            raise WeightsError(f"the table answers {length} letters with a forbidden one")
        is_same = letters[:, 1:] == letters[:, :-1]
        if (is_same & (answers[:, 1:] != answers[:, :-1])).any():
            raise WeightsError(f"the table answers two equal letters of {length} differently")


def _parts(codes: Codes) -> Sequence[Codes]:
    """The codes of each length."""
    return np.split(codes, np.cumsum(_SIZES)[:-1])


def _as_bytes(sha256: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(sha256), dtype=np.uint8)


def is_whole(plan: Plan) -> bool:
    """Whether a plan asks every multiset there is, so that a table can come of it."""
    return plan.sample is None and plan.max_length == MAX_QUERY_LENGTH
