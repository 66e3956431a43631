"""The rule: what Menny may be asked, and what she may answer. Another rule makes another Menny.

This is the one file to change (docs/make-it-your-own.md): the rule is at its end, and everything
else is derived from it, from the shapes of the weights to the sentences on the page.

A letter is whatever an alphabet has, digits too. A query has 1 to `max_length` letters; its label
has as many, each drawn uniformly, and independently of all others, from the answers that its letter
allows. So where a letter has n answers nobody matches fresh labels more than 1 time in n, and the
best cross-entropy is ln n nats.
"""

import hashlib
import json
import math
import string
from collections.abc import Mapping
from dataclasses import dataclass

from training.errors import RuleError

MAX_ALPHABET = 127
"""Letters are int8."""
MAX_LENGTH = 20
"""Anagrams are counted in int64."""


@dataclass(frozen=True)
class Rule:
    """A rule, validated once and frozen; raises `RuleError` saying what is wrong with it."""

    alphabet: str
    """Each letter once, one code point each; a letter's number is its place here."""
    max_length: int
    """Letters in the longest query."""
    answers: Mapping[str, str]
    """For each letter the letters that may answer it, each once."""
    num_heads: int
    """Of the attention; the alphabet's size, which is the model's width, is a multiple of it."""
    summary: str
    """How she answers, to be read after "Each letter is answered with"."""
    example: str
    """A query to show people."""
    example_response: str
    """What documents say that she answers to it."""

    def __post_init__(self) -> None:
        size, letters = len(self.alphabet), set(self.alphabet)
        if not 2 <= size <= MAX_ALPHABET:
            raise RuleError(f"the alphabet has {size} letters: it takes 2 to {MAX_ALPHABET}")
        for letter in self.alphabet:
            if self.alphabet.count(letter) > 1:
                raise RuleError(f"{letter!r} is in the alphabet twice")
            if not (letter.isalnum() or (letter.isprintable() and not letter.isascii())):
                raise RuleError(
                    f"{letter!r} can't be in the alphabet: blanks and ASCII's signs mean something "
                    "to files, patterns and command lines"
                )
        if self.num_heads < 1 or size % self.num_heads:
            possible = ", ".join(str(heads) for heads in range(1, size) if size % heads == 0)
            raise RuleError(
                f"{size} letters can't be divided among {self.num_heads} heads: num_heads may be "
                f"{possible}"
            )
        longest = max(n for n in range(1, MAX_LENGTH + 1) if (size + 1) ** n < 2**63)
        if not 1 <= self.max_length <= longest:
            raise RuleError(
                f"max_length is {self.max_length}: of {size} letters it is 1 to {longest}, so that "
                "queries can be numbered in 63 bits"
            )
        if strangers := set(self.answers) - letters:
            raise RuleError(f"{min(strangers)!r} has answers and is not in the alphabet")
        for letter in self.alphabet:
            answers = self.answers.get(letter, "")
            if not answers:
                raise RuleError(f"{letter!r} has no answers: each letter needs one at least")
            if strangers := set(answers) - letters:
                raise RuleError(
                    f"{letter!r} is answered with {min(strangers)!r}, which is not in the alphabet"
                )
            if len(set(answers)) < len(answers):
                raise RuleError(f"{letter!r} has an answer twice: each is as likely as any other")
        if not (1 <= len(self.example) <= self.max_length and set(self.example) <= letters):
            raise RuleError(f"the example {self.example!r} is not {self.query_in_words}")
        pairs = zip(self.example, self.example_response, strict=False)
        if len(self.example_response) != len(self.example) or not all(
            answer in self.answers[letter] for letter, answer in pairs
        ):
            raise RuleError(
                f"{self.example_response!r} is no answer to the example {self.example!r}"
            )

    @property
    def query_in_words(self) -> str:
        """`1 to 5 letters (a-z, A-Z)`."""
        count = "1 letter" if self.max_length == 1 else f"1 to {self.max_length} letters"
        return f"{count} ({self.letters_in_words})"

    @property
    def letters_in_words(self) -> str:
        """`a-z, A-Z`."""
        return ", ".join(_runs(self.alphabet))

    @property
    def pattern(self) -> str:
        """What the letters of a query match, as a regular expression of any dialect."""
        return f"^[{''.join(_runs(''.join(sorted(self.alphabet))))}]+$"

    @property
    def num_queries(self) -> int:
        """Queries that exist."""
        return sum(len(self.alphabet) ** n for n in range(1, self.max_length + 1))

    @property
    def num_multisets(self) -> int:
        """Multisets of letters that stand for them: a query and its anagrams are one."""
        return self.count_multisets(self.max_length)

    def count_multisets(self, max_length: int) -> int:
        """Those of up to `max_length` letters."""
        size = len(self.alphabet)
        return sum(math.comb(size + n - 1, n) for n in range(1, max_length + 1))

    @property
    def sha256(self) -> str:
        """Of what is asked and answered: alphabet, longest query, answers."""
        rule = [self.alphabet, self.max_length, [self.answers[letter] for letter in self.alphabet]]
        return hashlib.sha256(json.dumps(rule).encode()).hexdigest()


def _runs(letters: str) -> list[str]:
    """The letters, those that follow each other in Unicode as `a-z`."""
    runs: list[str] = []
    for letter in letters:
        if runs and ord(letter) == ord(runs[-1][-1]) + 1:
            runs[-1] = f"{runs[-1][0]}-{letter}"
        else:
            runs.append(letter)
    return runs


RULE = Rule(
    alphabet=string.ascii_letters,
    max_length=5,
    answers={letter: "AEIOU" if letter.islower() else "aeiou" for letter in string.ascii_letters},
    num_heads=4,
    summary="a vowel of the opposite case",
    example="MeM",
    example_response="aIa",
)
