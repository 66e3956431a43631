import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import VocabularyError
from training.vocabulary import (
    ALPHABET,
    MAX_QUERY_LENGTH,
    PADDING,
    check_query,
    decode,
    decode_batch,
    encode,
    encode_batch,
    one_hot,
)

queries = st.text(ALPHABET, min_size=1, max_size=MAX_QUERY_LENGTH)
LOOK_ALIKES = ["é", "Ａ", "а", "ß", "ı", "1", " ", "-", "\n", "\0", "🙂", "\ud800"]


@pytest.mark.default_rule
def test_letters_are_numbered_as_in_the_book() -> None:
    assert encode("azAZ") == [0, 25, 26, 51]


@given(st.text(ALPHABET))
def test_decode_undoes_encode(text: str) -> None:
    assert decode(encode(text)) == text


@given(st.lists(queries))
def test_decode_batch_undoes_encode_batch(texts: list[str]) -> None:
    assert decode_batch(encode_batch(texts)) == texts


@given(st.lists(queries, min_size=1))
def test_a_batch_is_its_texts_encoded_and_padded(texts: list[str]) -> None:
    for row, text in zip(encode_batch(texts), texts, strict=True):
        assert row[: len(text)].tolist() == encode(text)
        assert (row[len(text) :] == PADDING).all()


@given(queries)
def test_one_hot_rows_are_one_at_the_letter_and_all_zero_after_the_end(query: str) -> None:
    (rows,) = one_hot(encode_batch([query]))
    expected = np.zeros((MAX_QUERY_LENGTH, len(ALPHABET)), dtype=np.float32)
    for position, letter in enumerate(query):
        expected[position, ALPHABET.index(letter)] = 1
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.default_rule
@given(st.text())
def test_check_query_takes_1_to_5_ascii_letters_and_nothing_else(text: str) -> None:
    is_right = 1 <= len(text) <= 5 and all(c.isascii() and c.isalpha() for c in text)
    if is_right:
        assert check_query(text) == text
    else:
        with pytest.raises(VocabularyError, match=r'such as "MeM"'):
            check_query(text)


@pytest.mark.default_rule
@pytest.mark.parametrize("character", LOOK_ALIKES)
@pytest.mark.parametrize("refuse", [encode, check_query, lambda text: encode_batch(["ok", text])])
def test_a_character_that_is_no_letter_is_named_by_its_code_point(refuse, character) -> None:
    with pytest.raises(VocabularyError, match=rf"U\+{ord(character):04X}"):
        refuse(f"a{character}b")


@pytest.mark.default_rule
def test_a_batch_refuses_a_text_that_is_too_long() -> None:
    with pytest.raises(VocabularyError, match="'abcdef' has more than 5 letters"):
        encode_batch(["abc", "abcdef"])


@pytest.mark.parametrize("index", [-1, 52])
def test_a_number_that_is_no_letters_is_refused(index: int) -> None:
    with pytest.raises(VocabularyError, match=rf"{index} is not a letter's number"):
        decode([0, index])
