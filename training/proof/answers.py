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
_OFFSETS: list[int] = [0, 0, *np.cumsum(_SIZES).tolist()]  # [n]: the first multiset of n letters
NUM_MULTISETS = sum(_SIZES)

_DIGITS = np.full((VOCABULARY_SIZE, VOCABULARY_SIZE), -1, dtype=np.int64)  # [letter, answer]
np.put_along_axis(_DIGITS, ALLOWED_VOWELS.astype(np.intp), np.arange(BASE)[None], axis=1)


def _before(size: int, letter: int) -> int:
    """How many multisets of so many letters begin with an earlier letter."""
    if size == 0:
        return 0
    return sum(comb(VOCABULARY_SIZE - first + size - 2, size - 1) for first in range(letter))


def _step(size: int, letter: int) -> int:
    """What a letter adds to the rank of a multiset in which, with it, so many letters follow.

    The rank is a sum over the letters: the combinatorial number system. It counts the shorter
    multisets, too.
    """
    shorter = _OFFSETS[size] - _OFFSETS[size - 1]
    return shorter + _before(size, letter) - _before(size - 1, letter)


_STEPS = np.array(
    [
        [_step(MAX_QUERY_LENGTH - position, letter) for letter in range(VOCABULARY_SIZE)] + [0]
        for position in range(MAX_QUERY_LENGTH)
    ]
)
"""[position, letter]: `_step` where the letters stand at the end; nothing for `PADDING`."""

# One query is looked up in Python's own objects, many in NumPy's arrays.
_FEW = 32
_ORDER = {letter: index for index, letter in enumerate(ALPHABET)}
_STEPS_OF = [dict(zip(ALPHABET, row[:-1], strict=True)) for row in _STEPS.tolist()]
_ANSWERS_OF = {
    letter: "".join(ALPHABET[answer] for answer in row)
    for letter, row in zip(ALPHABET, ALLOWED_VOWELS.tolist(), strict=True)
}
_TEXT = f"U{MAX_QUERY_LENGTH}"  # NumPy's strings: four bytes a character, NUL after the end
_PLACE = np.arange(MAX_QUERY_LENGTH, dtype=np.int16)
_PLACE_BITS = 3
_KEY_OF_CHARACTER = np.full(128, PADDING << _PLACE_BITS, dtype=np.int16)
_KEY_OF_CHARACTER[[ord(letter) for letter in ALPHABET]] = np.arange(VOCABULARY_SIZE) << _PLACE_BITS
_CHARACTER_OF_ANSWER = np.zeros((VOCABULARY_SIZE + 1, BASE), dtype=np.uint32)  # [PADDING] is NUL
_CHARACTER_OF_ANSWER[:-1] = [[ord(answer) for answer in row] for row in _ANSWERS_OF.values()]
_SORTING_NETWORK = [(0, 3), (1, 4), (0, 2), (1, 3), (0, 1), (2, 4), (1, 2), (3, 4), (2, 3)]


class AnswerTable:
    """Looks answers up; the codes (`NUM_MULTISETS`,) are those of the weights with a SHA-256.

    Of equal letters the first one's digit counts: they are answered alike whatever the codes are.
    """

    def __init__(self, codes: Codes, weights_sha256: str) -> None:
        self.codes = codes
        self.weights_sha256 = weights_sha256
        self._codes = codes.data

    def answer(self, query: str) -> str:
        """The response to a query of 1 to 5 letters; 3 us."""
        letters = sorted(query, key=_ORDER.__getitem__)
        place = MAX_QUERY_LENGTH - len(letters)
        rank = 0
        for letter in letters:
            rank += _STEPS_OF[place][letter]
            place += 1
        code = self._codes[rank]
        answers: dict[str, str] = {}
        for letter in letters:
            code, digit = divmod(code, BASE)
            if letter not in answers:
                answers[letter] = _ANSWERS_OF[letter][digit]
        return "".join([answers[letter] for letter in query])

    def answers(self, queries: Sequence[str]) -> list[str]:
        """The responses to queries of 1 to 5 letters, in order; 0.3 ms for 1,024.

        Columns of all queries at once, (L, B), are sorted by a network of comparisons.
        """
        if len(queries) < _FEW:
            return [self.answer(query) for query in queries]
        characters = np.array(queries, dtype=_TEXT).view(np.uint32).reshape(-1, MAX_QUERY_LENGTH)
        keys = list(_KEY_OF_CHARACTER[characters.T] + _PLACE[:, None])
        for low, high in _SORTING_NETWORK:
            one, other = keys[low], keys[high]
            keys[low], keys[high] = np.minimum(one, other), np.maximum(one, other)
        ordered = np.array(keys)
        letters = ordered >> _PLACE_BITS  # (L, B), the padding first
        digits = self._digits(letters)
        responses = np.empty(characters.size, dtype=np.uint32)
        places = ordered & (1 << _PLACE_BITS) - 1
        starts = np.arange(0, characters.size, MAX_QUERY_LENGTH)
        responses[places + starts] = _CHARACTER_OF_ANSWER[letters, digits]
        texts: list[str] = responses.view(_TEXT).tolist()
        return texts

    def _digits(self, letters: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Of canonical queries (L, B), the padding first: (L, B)."""
        num_missing = (letters == PADDING).sum(axis=0)
        codes = self.codes[ranks(letters)] * _PLACES[num_missing]
        digits: npt.NDArray[np.int64] = codes // _PLACES[:, None] % BASE
        for place in range(1, MAX_QUERY_LENGTH):
            is_same = letters[place] == letters[place - 1]
            np.copyto(digits[place], digits[place - 1], where=is_same)
        return digits


def ranks(letters: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Where each canonical query of (L, B), the padding first, is among all multisets: (B,)."""
    found: npt.NDArray[np.int64] = _STEPS[_PLACE[:, None], letters].sum(axis=0)
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
