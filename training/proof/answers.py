"""The answer table: what the model answers to every query that exists, written down.

The proof asks the model every multiset of letters. What it answers is kept, one code for each in
the order of `training.proof.queries`: the letters' answers as digits, which of its n allowed ones
each letter got, to base n (5 by the default rule), the first letter's digit the lowest. A forbidden
answer has no digit, so that a model that breaks the rule anywhere has no table. A query is looked
up by its canonical form, its letters in ascending order, and the answer carried back to its own
order.

A table is an `.npz` without pickles, bound to the weights and to the rule by their SHA-256. Anybody
can check that all it says keeps the rule; that it is what the model says, the model alone can tell.
"""

import hashlib
import io
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.atomic import write_atomically
from training.dataset import ANSWERS, IS_ALLOWED, NUM_ANSWERS
from training.errors import WeightsError
from training.proof.queries import Plan, multisets
from training.rule import RULE
from training.vocabulary import ALPHABET, MAX_QUERY_LENGTH, PADDING, VOCABULARY_SIZE, Letters
from training.weights.npz import parse_npz
from training.weights.untrusted import read_file

Codes = npt.NDArray[np.unsignedinteger]

MAX_CODES = int(NUM_ANSWERS.max()) ** MAX_QUERY_LENGTH
"""More than any code."""
CODE_TYPE: np.dtype[Any] = np.dtype(f"<u{np.min_scalar_type(MAX_CODES - 1).itemsize}")
"""The smallest unsigned type that fits; uint16 by the default rule."""

FORMAT = 1
NUM_MULTISETS = RULE.num_multisets
MAX_TABLE_SIZE = NUM_MULTISETS * CODE_TYPE.itemsize + 4 * 2**20
"""Bytes; the shipped table, which is compressed, has less than 1 MiB of some 8."""

_LENGTHS = range(1, MAX_QUERY_LENGTH + 1)
_SIZES = [comb(VOCABULARY_SIZE + n - 1, n) for n in _LENGTHS]
_OFFSETS: list[int] = [0, 0, *np.cumsum(_SIZES).tolist()]  # [n]: the first multiset of n letters

_DIGITS = np.full((VOCABULARY_SIZE, VOCABULARY_SIZE), -1, dtype=np.int64)  # [letter, answer]
np.put_along_axis(
    _DIGITS,
    ANSWERS.astype(np.intp),
    np.arange(ANSWERS.shape[1]) % NUM_ANSWERS[:, None],
    axis=1,
)
_BASES = np.array([*NUM_ANSWERS, 1], dtype=CODE_TYPE)  # [PADDING] has one answer, and so no digit


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
_TEXT = f"U{MAX_QUERY_LENGTH}"  # NumPy's strings: four bytes a character, NUL after the end
_PLACE = np.arange(MAX_QUERY_LENGTH, dtype=np.int16)
_PLACE_BITS = MAX_QUERY_LENGTH.bit_length()
_CHARACTERS = [ord(letter) for letter in ALPHABET]
_KEY_OF_CHARACTER = np.full(max(_CHARACTERS) + 1, PADDING << _PLACE_BITS, dtype=np.int16)
_KEY_OF_CHARACTER[_CHARACTERS] = np.arange(VOCABULARY_SIZE) << _PLACE_BITS
_CHARACTER_OF_ANSWER = np.append(_CHARACTERS, 0).astype(np.uint32)[
    np.pad(ANSWERS, ((0, 1), (0, 0)), constant_values=PADDING)
]  # (V + 1, N); [PADDING] is NUL
_SORTING_NETWORK = [(at, at + 1) for end in _LENGTHS for at in range(MAX_QUERY_LENGTH - end)]


class AnswerTable:
    """Looks answers up; the codes (`NUM_MULTISETS`,) are those of the weights with a SHA-256.

    Of equal letters the first one's digit counts: they are answered alike whatever the codes are.
    """

    def __init__(self, codes: Codes, weights_sha256: str) -> None:
        self.codes = codes
        self.weights_sha256 = weights_sha256
        self._codes = codes.data

    def answer(self, query: str) -> str:
        """The response to a query; 3 us."""
        letters = sorted(query, key=_ORDER.__getitem__)
        place = MAX_QUERY_LENGTH - len(letters)
        rank = 0
        for letter in letters:
            rank += _STEPS_OF[place][letter]
            place += 1
        code = self._codes[rank]
        answers: dict[str, str] = {}
        for letter in letters:
            allowed = RULE.answers[letter]
            code, digit = divmod(code, len(allowed))
            if letter not in answers:
                answers[letter] = allowed[digit]
        return "".join([answers[letter] for letter in query])

    def answers(self, queries: Sequence[str]) -> list[str]:
        """The responses to queries, in order; 0.3 ms for 1,024.

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
        digits = _digits(letters, self.codes[ranks(letters)])
        for place in range(1, MAX_QUERY_LENGTH):
            is_same = letters[place] == letters[place - 1]
            np.copyto(digits[place], digits[place - 1], where=is_same)
        responses = np.empty(characters.size, dtype=np.uint32)
        places = ordered & (1 << _PLACE_BITS) - 1
        starts = np.arange(0, characters.size, MAX_QUERY_LENGTH)
        responses[places + starts] = _CHARACTER_OF_ANSWER[letters, digits]
        texts: list[str] = responses.view(_TEXT).tolist()
        return texts


def ranks(letters: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Where each canonical query of (L, B), the padding first, is among all multisets: (B,)."""
    found: npt.NDArray[np.int64] = _STEPS[_PLACE[:, None], letters].sum(axis=0)
    return found


def encode_answers(queries: Letters, answers: Letters) -> Codes | None:
    """Canonical queries (N, L) and their answers (N, L) to codes; `None` if one is forbidden."""
    digits = np.where(queries == PADDING, 0, _DIGITS[queries, answers])
    if (digits < 0).any():
        return None
    codes: Codes = np.zeros(len(queries), dtype=CODE_TYPE)
    for place in reversed(range(MAX_QUERY_LENGTH)):
        codes = codes * _BASES[queries[:, place]] + digits[:, place].astype(CODE_TYPE)
    return codes


def _digits(letters: npt.NDArray[np.integer], codes: Codes) -> Codes:
    """Which of its answers each letter gets: canonical queries (L, B) and their codes to (L, B)."""
    bases = _BASES.take(letters)
    digits = np.empty_like(bases)
    for place, base in enumerate(bases):
        codes, digits[place] = np.divmod(codes, base)
    return digits


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
        rule=_as_bytes(RULE.sha256),
        codes=table.codes,
    )
    data = file.getvalue()
    try:
        write_atomically(path, [data])
    except OSError as error:
        raise WeightsError(f"can't write {path}: {error.strerror}") from error
    return hashlib.sha256(data).hexdigest()


def load_table(path: Path, weights_sha256: str, own_sha256: str | None = None) -> AnswerTable:
    """Read and check a table of these weights; `own_sha256` is the file's own, where it is known.

    Every code in it stands for allowed answers. Raises `WeightsError` saying what is wrong.
    """
    data = read_file(path, MAX_TABLE_SIZE)
    if own_sha256 is not None and (is_now := hashlib.sha256(data).hexdigest()) != own_sha256:
        raise WeightsError(
            f"{path}: the file's SHA-256 is {is_now[:12]}..., but the model card says "
            f"{own_sha256[:12]}...: it is damaged, or another one"
        )
    arrays = parse_npz(
        data,
        path,
        {
            "format": ((1,), np.dtype("<u2")),
            "weights": ((32,), np.dtype("u1")),
            "rule": ((32,), np.dtype("u1")),
            "codes": ((NUM_MULTISETS,), CODE_TYPE),
        },
    )
    if arrays["format"][0] != FORMAT:
        raise WeightsError(f"{path} has format {arrays['format'][0]}; this Menny knows {FORMAT}")
    if arrays["rule"].tobytes().hex() != RULE.sha256:
        raise WeightsError(f"{path} is the answer table of another rule")
    found = arrays["weights"].tobytes().hex()
    if found != weights_sha256:
        raise WeightsError(
            f"{path} is the answer table of weights {found[:12]}, not of {weights_sha256[:12]}"
        )
    codes = arrays["codes"]
    for length, part in zip(_LENGTHS, _parts(codes), strict=True):
        if part.max() >= int(NUM_ANSWERS.max()) ** length:
            raise WeightsError(f"{path} has a code that stands for no answer to {length} letters")
    return AnswerTable(codes, found)


def check_table(table: AnswerTable) -> None:
    """Decode every code and hold it against the rule; raises `WeightsError` for the first fault.

    All queries that exist are answered with allowed letters, and equal letters of a query alike.
    It is not asked whether the model answers so.
    """
    is_allowed = np.take_along_axis(IS_ALLOWED, ANSWERS.astype(np.intp), axis=1)  # [letter, digit]
    for length, codes in zip(_LENGTHS, _parts(table.codes), strict=True):
        letters = np.ascontiguousarray(multisets(length).T)  # (length, N)
        digits = _digits(letters, codes)
        if not is_allowed[letters, digits].all():
            raise WeightsError(f"the table answers {length} letters with a forbidden one")
        is_same = letters[1:] == letters[:-1]
        if (is_same & (digits[1:] != digits[:-1])).any():
            raise WeightsError(f"the table answers two equal letters of {length} differently")


def _parts(codes: Codes) -> Sequence[Codes]:
    """The codes of each length."""
    return np.split(codes, np.cumsum(_SIZES)[:-1])


def _as_bytes(sha256: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(sha256), dtype=np.uint8)


def is_whole(plan: Plan) -> bool:
    """Whether a plan asks every multiset there is, so that a table can come of it."""
    return plan.sample is None and plan.max_length == MAX_QUERY_LENGTH
