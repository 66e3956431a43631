"""Numbers, numbers, numbers: letters <-> integers <-> one-hot rows.

The vocabulary is the alphabet of the rule: of the default one the 52 ASCII letters, a-z as 0 to 25
and A-Z as 26 to 51. A batch of texts is an integer array (B, L) with `PADDING` where a text has
ended; as one-hot rows, (B, L, V), those positions are all zeros, as in the book.

Shapes here and everywhere: B queries, L positions, V letters; L = 5 and V = 52 by the default rule.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.errors import VocabularyError
from training.rule import RULE

ALPHABET = RULE.alphabet
VOCABULARY_SIZE = len(ALPHABET)
MAX_QUERY_LENGTH = RULE.max_length
PADDING = -1

Letters = npt.NDArray[np.int8]
"""Letters as integers, (B, L), `PADDING` after the end of each text."""

_UTF_32 = "utf-32-le"  # a code point is a letter, and a letter one number
_NOT_A_LETTER = -2
_CODE_OF_INDEX = np.frombuffer((ALPHABET + "\0").encode(_UTF_32), dtype="<u4")  # [PADDING] is NUL
_INDEX_OF_CODE = np.full(_CODE_OF_INDEX.max() + 2, _NOT_A_LETTER, dtype=np.int8)
_INDEX_OF_CODE[_CODE_OF_INDEX] = [*range(VOCABULARY_SIZE), PADDING]
_ONE_HOT_ROWS = np.eye(VOCABULARY_SIZE + 1, VOCABULARY_SIZE, dtype=np.float32)  # [PADDING] is zeros


def check_query(text: str) -> str:
    """Return `text` if it is a query; raise `VocabularyError` saying what is wrong with it."""
    right = f'a query has {RULE.query_in_words}, such as "{RULE.example}"'
    if not text:
        raise VocabularyError(f"the query is empty; {right}")
    if len(text) > MAX_QUERY_LENGTH:
        raise VocabularyError(f"the query has {len(text):,} characters; {right}")
    for position, character in enumerate(text, start=1):
        if character not in ALPHABET:
            raise VocabularyError(
                f"character {position} of the query, {_show(character)}, is not in the alphabet; "
                f"{right}"
            )
    return text


def encode(text: str) -> list[int]:
    """Letters to integers, 0 to V - 1; raises `VocabularyError` for what is not in the alphabet.

    >>> encode("aZ")
    [0, 51]
    """
    indices = [ALPHABET.find(character) for character in text]
    if -1 in indices:
        raise VocabularyError(f"{_show(text[indices.index(-1)])} is not in the alphabet")
    return indices


def decode(indices: Sequence[int]) -> str:
    """Integers to letters; raises `VocabularyError` for one that is not 0 to V - 1.

    >>> decode([0, 51])
    'aZ'
    """
    for index in indices:
        if not 0 <= index < VOCABULARY_SIZE:
            raise VocabularyError(f"{index} is not a letter's number (0 to {VOCABULARY_SIZE - 1})")
    return "".join(ALPHABET[index] for index in indices)


def encode_batch(texts: Sequence[str]) -> Letters:
    """Texts of at most L letters to integers, (B, L).

    Raises `VocabularyError` for the first text that is longer or has something but letters.
    """
    padded = "".join([text.ljust(MAX_QUERY_LENGTH, "\0") for text in texts])
    if len(padded) == len(texts) * MAX_QUERY_LENGTH:
        codes = np.frombuffer(padded.encode(_UTF_32, "replace"), dtype="<u4")
        letters: Letters = _INDEX_OF_CODE.take(codes, mode="clip")
        letters = letters.reshape(-1, MAX_QUERY_LENGTH)
        if not (letters == _NOT_A_LETTER).any() and not any("\0" in text for text in texts):
            return letters
    for text in texts:
        if len(text) > MAX_QUERY_LENGTH:
            raise VocabularyError(f"{text[:20]!r} has more than {MAX_QUERY_LENGTH} letters")
        encode(text)
    raise AssertionError("unreachable: one of the texts was not right")


def decode_batch(letters: Letters) -> list[str]:
    """Integers (B, L) with `PADDING` at the ends to texts."""
    joined = _CODE_OF_INDEX[letters].tobytes().decode(_UTF_32)
    width = letters.shape[1]
    return [joined[at : at + width].rstrip("\0") for at in range(0, len(joined), width)]


def one_hot(letters: Letters) -> npt.NDArray[np.float32]:
    """Integers (B, L) to one-hot rows (B, L, V); rows of zeros where there is no letter."""
    return _ONE_HOT_ROWS[letters]


def _show(character: str) -> str:
    """Show a character so that look-alikes can be told apart: `'é' (U+00E9)`."""
    return f"{character!r} (U+{ord(character):04X})"


if __name__ == "__main__":
    from training.show import show

    show("vocabulary")
