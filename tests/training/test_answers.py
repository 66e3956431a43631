"""The answer table: ranks, codes, what is refused, and what each of two checks shows."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from training.commands.table import ask_again, check_table_of
from training.errors import ProofError, WeightsError
from training.proof.answers import (
    NUM_MULTISETS,
    AnswerTable,
    check_table,
    encode_answers,
    load_table,
    ranks,
    save_table,
    table_path,
)
from training.proof.queries import Plan, random_queries
from training.vocabulary import ALPHABET, decode_batch, encode_batch
from training.weights import SHIPPED_WEIGHTS, load_weights

SHA256 = "ab" * 32


@pytest.fixture(scope="module")
def random_table() -> AnswerTable:
    """Allowed answers, drawn at random: equal letters of a multiset may differ."""
    rng = np.random.default_rng(0)
    sizes = [52, 1378, 24804, 341055, 3819816]
    codes = [rng.integers(5**length, size=size) for length, size in enumerate(sizes, start=1)]
    return AnswerTable(np.concatenate(codes).astype(np.uint16), SHA256)


def test_every_multiset_has_its_place() -> None:
    queries = Plan().workload().queries
    assert len(queries) == NUM_MULTISETS
    assert (ranks(np.sort(queries, axis=1).T) == np.arange(NUM_MULTISETS)).all()


@pytest.mark.default_rule
def test_what_is_encoded_is_looked_up_in_any_order_of_the_letters() -> None:
    queries = Plan(max_length=3).workload().queries
    rng = np.random.default_rng(1)
    vowels = {
        letter: rng.choice(list("AEIOU" if letter.islower() else "aeiou")) for letter in ALPHABET
    }
    texts = ["".join(vowels[letter] for letter in text) for text in decode_batch(queries)]
    answers = encode_batch(texts)
    codes = np.zeros(NUM_MULTISETS, dtype=np.uint16)
    found = encode_answers(queries, answers)
    assert found is not None
    codes[: len(found)] = found
    table = AnswerTable(codes, SHA256)
    for text in ("a", "Z", "ba", "MeM", "MMe", "zZa", "aaa"):
        expected = "".join(vowels[letter] for letter in text)
        assert table.answer(text) == expected
        assert table.answers([text] * 100) == [expected] * 100


@pytest.mark.default_rule
def test_a_forbidden_answer_has_no_code() -> None:
    assert encode_answers(encode_batch(["ab"]), encode_batch(["AE"])) is not None
    assert encode_answers(encode_batch(["ab"]), encode_batch(["Ae"])) is None


def test_one_query_and_many_at_once_are_looked_up_alike(random_table: AnswerTable) -> None:
    texts = decode_batch(random_queries(3_000, np.random.default_rng(2)))
    assert random_table.answers(texts) == [random_table.answer(text) for text in texts]


@pytest.mark.default_rule
def test_equal_letters_are_answered_alike_whatever_a_table_has_for_them(
    random_table: AnswerTable,
) -> None:
    for text in ("aa", "ZZZ", "aBBa", "BaBaB"):
        for response in (random_table.answer(text), random_table.answers([text] * 100)[7]):
            assert len(set(zip(text, response, strict=True))) == len(set(text))


@pytest.mark.default_rule
def test_a_table_reads_back_as_it_was_written(random_table: AnswerTable, tmp_path: Path) -> None:
    path = tmp_path / "menny_answers.npz"
    save_table(path, random_table)
    table = load_table(path, SHA256)
    assert (table.codes == random_table.codes).all()
    with pytest.raises(WeightsError, match="two equal letters of 2 differently"):
        check_table(table)


def test_the_table_is_named_after_its_weights() -> None:
    assert table_path(Path("a/menny_model_weights.npz")) == Path("a/menny_model_answers.npz")
    assert table_path(Path("a/other.npz")) == Path("a/other_answers.npz")


def write(path: Path, **changes: object) -> None:
    save_table(path, AnswerTable(np.zeros(NUM_MULTISETS, dtype=np.uint16), SHA256))
    with np.load(path) as arrays:
        content = dict(arrays) | changes
    np.savez_compressed(
        path, **{name: value for name, value in content.items() if value is not None}
    )


ZEROS = np.zeros(NUM_MULTISETS, dtype=np.uint16)
OUT_OF_RANGE = ZEROS.copy()
OUT_OF_RANGE[51] = 5


@pytest.mark.default_rule
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": np.array([2], dtype=np.uint16)}, "has format 2; this Menny knows 1"),
        ({"rule": np.zeros(32, dtype=np.uint8)}, "another rule"),
        ({"weights": np.zeros(32, dtype=np.uint8)}, "answer table of weights 000000000000, not of"),
        ({"codes": OUT_OF_RANGE}, "stands for no answer to 1 letters"),
        ({"codes": ZEROS[:-1]}, "shape"),
        ({"codes": ZEROS.astype(np.int16)}, "dtype int16"),
        ({"codes": None}, "array codes is missing"),
        ({"more": ZEROS[:1]}, "none of Menny's"),
    ],
    ids=["format", "rule", "weights", "code", "short", "dtype", "missing", "more"],
)
def test_a_table_that_is_not_right_is_refused_with_what_is_wrong(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    path = tmp_path / "menny_answers.npz"
    write(path, **changes)
    with pytest.raises(WeightsError, match=reason) as caught:
        load_table(path, SHA256)
    assert str(path) in str(caught.value)


def test_a_truncated_or_missing_table_or_one_that_is_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "menny_answers.npz"
    with pytest.raises(WeightsError, match="there is no such file"):
        load_table(path, SHA256)
    write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="or is damaged"):
        load_table(path, SHA256)
    path.unlink()
    path.mkdir()
    with pytest.raises(WeightsError, match="not a regular file"):
        load_table(path, SHA256)


@pytest.mark.default_rule
def test_a_table_of_nothing_but_zeros_keeps_the_rule_and_is_not_the_models(tmp_path: Path) -> None:
    """Two checks that show two things, never mixed up."""
    shipped = replace(load_weights(SHIPPED_WEIGHTS), card=None)
    path = tmp_path / "menny_weights.npz"
    save_table(table_path(path), AnswerTable(ZEROS, shipped.sha256))
    assert "Whether the model answers so was not asked" in check_table_of(path, shipped)
    with pytest.raises(ProofError, match="it is not the model's"):
        ask_again(path, shipped, 100)


@pytest.mark.default_rule
def test_random_queries_are_mostly_long_for_most_queries_are() -> None:
    queries = random_queries(2_000, np.random.default_rng(3))
    assert 0.96 < (queries[:, 4] != -1).mean() < 1


@pytest.mark.default_rule
def test_the_shipped_table_is_the_shipped_models_and_keeps_the_rule() -> None:
    weights = load_weights(SHIPPED_WEIGHTS)
    path = table_path(SHIPPED_WEIGHTS)
    assert weights.card is not None
    assert weights.card.answers == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_size < 2**20
    assert "4,187,105 codes" in check_table_of(SHIPPED_WEIGHTS, weights)
    assert "at most 0.003 of all queries differ" in ask_again(SHIPPED_WEIGHTS, weights, 1_000)
    assert load_table(path, weights.sha256).answer("MeM") == "aIa"


AS_ANYONE = """
import sys
sys.modules["mlx"] = None  # as if it were not installed
sys.argv = ["menny", "verify", "--table"]
from app.cli import main
main()
"""


@pytest.mark.default_rule
def test_every_answer_that_a_table_can_give_keeps_the_rule_and_anyone_can_check_that_in_a_second(
    random_table: AnswerTable,
) -> None:
    """Whatever its codes are: query by query here, and all of them by a command without MLX."""
    every = ["".join(text) for n in (1, 2) for text in product(ALPHABET, repeat=n)]
    queries = every + decode_batch(random_queries(20_000, np.random.default_rng(4)))
    for query, response in zip(queries, random_table.answers(queries), strict=True):
        for letter, answer in zip(query, response, strict=True):
            assert answer in ("AEIOU" if letter.islower() else "aeiou"), (query, response)
    done = subprocess.run(
        [sys.executable, "-c", AS_ANYONE], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "answer all 387,659,012 queries with allowed letters" in words
