"""What follows from a rule: of any rule there can be, and of three that are not the default one."""

import re
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.forks.rules import FORKS
from training.errors import RuleError
from training.rule import MAX_ALPHABET, RULE, Rule

LETTERS = st.characters(categories=["L", "N", "S"], min_codepoint=ord("0")).filter(
    lambda letter: letter.isalnum() or (not letter.isascii() and letter.isprintable())
)


@st.composite
def rules(draw: st.DrawFn, max_size: int = MAX_ALPHABET, max_length: int = 9) -> Rule:
    """Any rule."""
    alphabet = "".join(draw(st.lists(LETTERS, min_size=2, max_size=max_size, unique=True)))
    some = st.lists(st.sampled_from(alphabet), min_size=1, max_size=5, unique=True)
    answers = {letter: "".join(draw(some)) for letter in alphabet}
    return Rule(
        alphabet=alphabet,
        max_length=draw(st.integers(1, max_length)),
        answers=answers,
        num_heads=draw(
            st.sampled_from([n for n in range(1, len(alphabet) + 1) if len(alphabet) % n == 0])
        ),
        summary="something",
        example=alphabet[0],
        example_response=answers[alphabet[0]][0],
    )


@given(rules(max_size=4, max_length=4))
def test_queries_and_multisets_are_counted_as_if_they_were_listed(rule: Rule) -> None:
    queries = [
        query
        for length in range(1, rule.max_length + 1)
        for query in product(rule.alphabet, repeat=length)
    ]
    assert rule.num_queries == len(queries)
    assert rule.num_multisets == len({tuple(sorted(query)) for query in queries})


@given(rules(), st.text())
def test_the_pattern_matches_letters_of_the_alphabet_and_nothing_else(
    rule: Rule, text: str
) -> None:
    assert re.fullmatch(rule.pattern[1:-1], rule.alphabet)
    assert bool(re.fullmatch(rule.pattern[1:-1], text)) == (
        text != "" and set(text) <= set(rule.alphabet)
    )


@given(rules())
def test_another_rule_has_another_sha256_and_other_words_have_not(rule: Rule) -> None:
    assert replace(rule, summary="other words").sha256 == rule.sha256
    assert replace(rule, max_length=rule.max_length + 1).sha256 != rule.sha256
    first, *others = rule.alphabet
    fewer = {**rule.answers, first: others[0]}
    if fewer != rule.answers:
        assert replace(rule, answers=fewer, example_response=others[0]).sha256 != rule.sha256


def test_the_default_rule_is_the_books() -> None:
    assert RULE.query_in_words == "1 to 5 letters (a-z, A-Z)"
    assert RULE.pattern == "^[A-Za-z]+$"
    assert (RULE.num_queries, RULE.num_multisets) == (387_659_012, 4_187_105)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"alphabet": "a"}, "the alphabet has 1 letters: it takes 2 to 127"),
    ({"alphabet": "abca"}, "'a' is in the alphabet twice"),
    ({"alphabet": "ab c"}, "' ' can't be in the alphabet"),
    ({"alphabet": "a-bc"}, "'-' can't be in the alphabet"),
    ({"alphabet": "ab\u0000c"}, r"'\\x00' can't be in the alphabet"),
    ({"num_heads": 4}, "6 letters can't be divided among 4 heads: num_heads may be 1, 2, 3"),
    ({"num_heads": 0}, "6 letters can't be divided among 0 heads"),
    ({"max_length": 0}, "max_length is 0: of 6 letters it is 1 to 20"),
    ({"max_length": 21}, "max_length is 21: of 6 letters it is 1 to 20"),
    ({"answers": dict.fromkeys("abcdefg", "a")}, "'g' has answers and is not in the alphabet"),
    ({"answers": dict.fromkeys("abcde", "a")}, "'f' has no answers: each letter needs one"),
    ({"answers": dict.fromkeys("abcdef", "")}, "'a' has no answers: each letter needs one"),
    ({"answers": dict.fromkeys("abcdef", "ax")}, "'a' is answered with 'x', which is not in the"),
    ({"answers": dict.fromkeys("abcdef", "aa")}, "'a' has an answer twice"),
    ({"example": "xyz"}, r"the example 'xyz' is not 1 to 3 letters \(a-f\)"),
    ({"example": "abcd"}, r"the example 'abcd' is not 1 to 3 letters \(a-f\)"),
    ({"example_response": "abf"}, "'abf' is no answer to the example 'abc'"),
    ({"example_response": "ab"}, "'ab' is no answer to the example 'abc'"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_rule_that_cant_be_learnt_says_what_is_wrong_with_it(
    change: dict[str, Any], message: str
) -> None:
    right = Rule("abcdef", 3, dict.fromkeys("abcdef", "ab"), 2, "a or b", "abc", "aab")
    with pytest.raises(RuleError, match=message):
        replace(right, **change)


@pytest.mark.parametrize(
    ("fork", "derived"),
    [
        ("consonants and digits", "uint8 91389 0.7934 0.5185"),
        ("rot13", "uint8 26234 0.0000 1.0000"),
        ("Cyrillic", "uint16 6544 1.7742 0.2205"),
    ],
)
def test_everything_about_data_proof_and_table_follows_from_the_rule(
    fork: str, derived: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", Path(__file__).with_name("derivations.py"), FORKS[fork]],
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == (derived, "")
