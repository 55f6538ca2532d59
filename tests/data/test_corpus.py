"""Text as rows of tokens, rows as inputs and targets, and the symbols of a SymbolTokenizer."""

import math
import string

import numpy as np
import pytest
from helpers import error_message
from hypothesis import example, given
from hypothesis import strategies as st

from hopmin.data.corpus import from_file, from_text, inputs_and_targets, python_topics
from hopmin.data.tokenizers import TOKENIZERS, ByteTokenizer, SymbolTokenizer

# Plain text

TEXT = "".join(chr(0x4E00 + i) for i in range(1000))  # no symbol twice, so no two rows are equal


@given(st.integers(1, 99), st.floats(0, 0.99), st.integers(0, 2**32))
@example(99, 0.0, 0)
@example(99, 0.99, 0)
def test_every_row_of_a_text_is_in_one_split(positions, fraction, seed):
    corpus = from_text(TEXT, positions=positions, held_out=fraction, seed=seed)
    count = 999 // positions
    tokens = corpus.tokenizer.encode(TEXT)
    expected = {tuple(tokens[i * positions : (i + 1) * positions + 1]) for i in range(count)}
    train, held_out = ({tuple(row) for row in rows} for rows in (corpus.train, corpus.held_out))
    assert train | held_out == expected
    assert not train & held_out
    assert train
    assert len(held_out) == min(count - 1, max(1, round(fraction * count)))


def test_a_seed_determines_the_split():
    first, again, other = (from_text(TEXT, positions=5, seed=seed).held_out for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_first_rows_come_from_the_whole_text():
    starts = from_text(TEXT, positions=5).train[:50, 0]
    assert abs(starts.mean() - 500) < 4 * math.sqrt(1000**2 / 12 / 50)  # four standard errors of a uniform distribution


def test_the_tokens_of_a_text_can_be_words():
    corpus = from_text("to be or not to be " * 20, positions=3, tokenizer="words")
    assert corpus.tokenizer.symbols == ("be", "not", "or", "to")
    assert {corpus.tokenizer.decode(row) for row in corpus.train} <= {"to be or not", "not to be to"}


def test_a_text_has_neither_entropy_nor_floors():
    corpus = from_text(TEXT)
    assert corpus.entropy is None
    assert not corpus.floors


@pytest.mark.parametrize(("length", "enough"), [(80, False), (81, True)])
def test_a_text_must_have_ten_rows(length, enough):
    if enough:
        assert len(from_text(TEXT[:length], positions=8).train) == 9
    else:
        assert (
            error_message(ValueError, from_text, TEXT[:length], positions=8)
            == "corpus must have more than 80 characters; got 80"
        )


def test_a_text_that_is_too_short_is_measured_in_its_tokens():
    assert (
        error_message(ValueError, from_text, "to be", positions=4, tokenizer="words")
        == "corpus must have more than 40 words; got 2"
    )


def test_a_file_gives_the_corpus_of_its_text(tmp_path):
    path = tmp_path / "naïve.txt"
    path.write_text(TEXT, encoding="utf-8")
    corpus = from_file(path, positions=7)
    assert corpus.name == "naïve.txt"
    np.testing.assert_array_equal(corpus.train, from_text(TEXT, positions=7).train)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"caf\xe9 " * 99, "corpus must be UTF-8 text; {} has byte 0xe9 at 3"),
        (b"", "corpus must not be empty; {} holds no text"),
        (b" \n\t ", "corpus must not be empty; {} holds no text"),
        (b"short", "corpus must have more than 640 characters; got 5"),
    ],
)
def test_an_unusable_text_file_is_refused(tmp_path, content, sentence):
    path = tmp_path / "text"
    path.write_bytes(content)
    assert error_message(ValueError, from_file, path) == sentence.format(path)


def test_a_missing_file_is_refused(tmp_path):
    path = tmp_path / "none"
    assert (
        error_message(ValueError, from_file, path)
        == f"corpus must be a readable text file; {path}: No such file or directory"
    )


def test_a_folder_is_refused(tmp_path):
    assert (
        error_message(ValueError, from_file, tmp_path)
        == f"corpus must be a readable text file; {tmp_path}: Is a directory"
    )


def test_python_topics_has_ten_thousand_rows():
    corpus = python_topics(positions=32)
    assert len(corpus.train) > 10_000
    assert corpus.train.shape[1] == 33
    assert "assert" in corpus.tokenizer.decode(corpus.train.ravel())


# Wrong arguments


@pytest.mark.parametrize("tokenizer", [*TOKENIZERS, ByteTokenizer()])
def test_an_empty_text_is_refused(tokenizer):
    assert error_message(ValueError, from_text, "", tokenizer=tokenizer) == "text must not be empty; got ''"
    if tokenizer in ("bytes", ByteTokenizer()):
        assert error_message(ValueError, from_text, b"", tokenizer=tokenizer) == "text must not be empty; got b''"


@pytest.mark.parametrize("text", [b"", b"bytes", 3, None, ["to be"]])
def test_only_text_is_text(text):
    expected = f"text must be a string, or bytes for the tokenizer 'bytes'; got {text!r}"
    assert error_message(TypeError, from_text, text) == expected
    if not isinstance(text, bytes):
        assert error_message(TypeError, from_text, text, tokenizer="bytes") == expected


@pytest.mark.parametrize("path", [True, 0, None, b"text"])
def test_only_a_path_is_the_path_of_a_text(path):
    for options in ({}, {"tokenizer": "bytes"}):
        assert (
            error_message(TypeError, from_file, path, **options)
            == f"path must be a string or a path object; got {path!r}"
        )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"positions": 0}, "positions must be an integer >= 1; got 0"),
        ({"held_out": 1.0}, "held_out must be a number in [0, 1); got 1.0"),
    ],
    ids=str,
)
def test_wrong_options_of_a_text_are_refused(options, sentence):
    assert error_message(ValueError, from_text, TEXT, **options) == sentence


def test_a_negative_seed_is_refused():
    assert (
        error_message(ValueError, from_text, TEXT, seed=-1)
        == "seed must be a numpy Generator or a seed, an integer >= 0; got -1"
    )


# Inputs and targets


@given(st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=7), min_size=1, max_size=5), st.integers(0, 3))
def test_the_target_of_a_token_is_the_next_one(rows, more):
    width = max(map(len, rows))
    padded = np.array([row + [-1] * (width + more - len(row)) for row in rows])
    before = padded.copy()
    tokens, targets = inputs_and_targets(padded)
    assert tokens.shape == targets.shape == (len(rows), width - 1)  # columns that hold only padding are dropped
    for row, seen, wanted in zip(rows, tokens, targets, strict=True):
        n = len(row) - 1
        assert seen[:n].tolist() == row[:-1]
        assert wanted.tolist() == row[1:] + [-1] * (width - 1 - n)
    assert tokens.min() >= 0  # padding becomes a valid token
    np.testing.assert_array_equal(padded, before)


# Symbols


@given(st.text(min_size=1))
def test_characters_are_encoded_and_decoded(text):
    tokenizer = SymbolTokenizer.from_characters([text])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert list(tokenizer.symbols) == sorted(set(text))


@given(st.lists(st.text(string.ascii_letters + "<>'?.", min_size=1), min_size=1))
def test_words_are_decoded_with_single_spaces(words):
    tokenizer = SymbolTokenizer.from_words(["  ".join(words)])
    assert tokenizer.decode(tokenizer.encode("\n".join(words))) == " ".join(words)


@given(st.lists(st.text("abc", min_size=1), min_size=1, unique=True), st.data())
def test_numbers_are_decoded_and_encoded(symbols, data):
    tokenizer = SymbolTokenizer(tuple(symbols), " ")
    numbers = data.draw(st.lists(st.integers(0, len(symbols) - 1)))
    assert tokenizer.encode(tokenizer.decode(numbers)).tolist() == numbers


def test_padding_is_not_decoded():
    assert SymbolTokenizer(("a", "b"), " ").decode([1, 0, -1, -1]) == "b a"


def test_an_unknown_symbol_is_refused():
    assert (
        error_message(ValueError, SymbolTokenizer.from_characters(["abc"]).encode, "abxc")
        == "text must consist of the tokenizer's 3 symbols; got 'x'"
    )
    assert (
        error_message(ValueError, SymbolTokenizer.from_words(["to be"]).encode, "to not be")
        == "text must consist of the tokenizer's 2 symbols; got 'not'"
    )


@pytest.mark.parametrize("symbols", [(), ("a", "a")])
def test_symbols_must_be_distinct_and_not_empty(symbols):
    assert (
        error_message(ValueError, SymbolTokenizer, symbols)
        == f"symbols must be distinct and at least one; got {len(symbols)}"
    )


def test_a_separator_is_a_space_or_empty():
    assert error_message(ValueError, SymbolTokenizer, ("a", "b"), ",") == "separator must be one of '', ' '; got ','"


def test_a_number_without_a_symbol_is_refused():
    assert error_message(ValueError, SymbolTokenizer(("a", "b")).decode, [0, 2]) == "tokens must be below 2; got 2"
