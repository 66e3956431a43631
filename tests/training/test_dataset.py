import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.dataset import (
    ANSWERS,
    IS_ALLOWED,
    Pair,
    generate_dataset,
    generate_queries,
    query_codes,
    read_dataset,
    split_dataset,
    write_dataset,
)
from training.errors import DatasetError
from training.vocabulary import ALPHABET, PADDING, decode


@pytest.mark.default_rule
@given(st.integers(0, 2**32))
def test_every_label_is_a_vowel_of_the_opposite_case_as_long_as_its_query(seed: int) -> None:
    for query, label in generate_dataset(50, np.random.default_rng(seed)).pairs():
        assert 1 <= len(query) <= 5
        assert len(label) == len(query)
        for letter, answer in zip(query, label, strict=True):
            assert answer in ("AEIOU" if letter.islower() else "aeiou")


def test_the_same_seed_gives_the_same_pairs_and_another_seed_others() -> None:
    first, again, other = (
        list(generate_dataset(100, np.random.default_rng(seed)).pairs()) for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.default_rule
def test_seed_0_draws_what_it_drew_for_the_shipped_weights() -> None:
    drawn = generate_dataset(1000, np.random.default_rng(0))
    digest = hashlib.sha256(drawn.queries.tobytes() + drawn.labels.tobytes()).hexdigest()
    assert digest == "b024dc08cdd075c7b26175b94f2f8e9553b707f1ba93eb290e2b8baf9e94d532"


@pytest.mark.default_rule
def test_lengths_letters_and_vowels_are_uniform() -> None:
    dataset = generate_dataset(50_000, np.random.default_rng(0))
    lengths = (dataset.queries != PADDING).sum(axis=1)
    letters = dataset.queries[dataset.queries != PADDING]
    vowels = dataset.labels[dataset.labels != PADDING]
    for values, num_kinds in [(lengths, 5), (letters, 52), (vowels, 10)]:
        counts = np.array(list(Counter(values.tolist()).values()))
        expected = len(values) / num_kinds
        assert len(counts) == num_kinds
        assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()  # 5 sigma


@pytest.mark.default_rule
def test_the_rule_as_tables() -> None:
    assert decode(ANSWERS[ALPHABET.index("m")]) == "AEIOU"
    assert decode(ANSWERS[ALPHABET.index("M")]) == "aeiou"
    assert IS_ALLOWED.sum(axis=1).tolist() == [5] * 52


def test_500_samples_are_split_300_100_100_without_overlap() -> None:
    dataset = generate_dataset(500, np.random.default_rng(0))
    parts = split_dataset(dataset)
    assert [len(part) for part in parts] == [300, 100, 100]
    assert [pair for part in parts for pair in part.pairs()] == list(dataset.pairs())


def test_codes_are_equal_just_where_queries_are() -> None:
    queries = generate_queries(5_000, np.random.default_rng(0))
    assert len(np.unique(query_codes(queries))) == len(np.unique(queries, axis=0))


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_dataset_file_reads_back_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    dataset = generate_dataset(200, np.random.default_rng(3))
    path = tmp_path / f"pairs.{suffix}"
    write_dataset(dataset, path)
    assert list(read_dataset(path).pairs()) == list(dataset.pairs())


GOOD = {"jsonl": '{"query": "MeM", "label": "uIu"}\n', "csv": "query,label\nMeM,uIu\n"}


@pytest.mark.default_rule
@pytest.mark.parametrize("suffix", GOOD)
@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (("MeM", "uI"), "'uI' is not as long as its query 'MeM'"),
        (("MeM", "uiu"), "'e' is answered with one of AEIOU, not 'i'"),
        (("MeM", "uXu"), "not 'X'"),
        (("MeMeMe", "uIuIuI"), "6 characters"),
        (("M3M", "uIu"), "'3'"),
        (("", ""), "empty"),
    ],
)
def test_a_row_that_breaks_the_rule_is_named(tmp_path: Path, suffix, pair, reason) -> None:
    path = tmp_path / f"pairs.{suffix}"
    bad = ",".join(pair) if suffix == "csv" else Pair(*pair)._asdict()
    path.write_text(GOOD[suffix] + str(bad).replace("'", '"') + "\n")
    line = GOOD[suffix].count("\n") + 1
    with pytest.raises(DatasetError) as caught:
        read_dataset(path)
    assert f"line {line}:" in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("pairs.jsonl", b'{"query": "a"', "line 1: not JSON"),
        ("pairs.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("pairs.jsonl", b'["a", "E"]', "line 1: not an object"),
        ("pairs.jsonl", b'{"query": "a", "label": "E", "more": 1}', "line 1: not an object"),
        ("pairs.jsonl", b'{"query": 1, "label": "E"}', "line 1: a row has"),
        ("pairs.jsonl", b"\xff\xfe", "not UTF-8"),
        ("pairs.jsonl", b"\n\n", "has no rows"),
        ("pairs.csv", b"a,E\n", "line 1: not the header"),
        ("pairs.csv", b"query,label\na,E,x\n", "line 2: 3 columns"),
        ("pairs.csv", b'query,label\n"a,E\n', "not CSV"),
        ("pairs.csv", b"", "line 1: not the header"),
        ("pairs.txt", b"", r"ends in .jsonl or .csv"),
    ],
)
def test_a_file_that_is_no_dataset_is_refused(tmp_path: Path, name, content, reason) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=reason):
        read_dataset(path)


def test_a_file_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No such file"):
        read_dataset(tmp_path / "none.csv")
    with pytest.raises(DatasetError, match="can't write"):
        write_dataset(generate_dataset(1, np.random.default_rng(0)), tmp_path / "no" / "a.csv")
