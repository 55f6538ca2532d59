"""What is encoded comes back, from any kind of tokenizer, also one that was kept as JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopmin.data.tokenizers import (
    TOKENIZERS,
    BPETokenizer,
    ByteTokenizer,
    SymbolTokenizer,
    fit_tokenizer,
    tokenizer_from_record,
)

TEXT = "to be or not to be, that is the question. naïve\r\n\n  Zoë 🙂"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    if request.param == "bpe":
        pytest.importorskip("tokenizers")
    return fit_tokenizer(request.param, [TEXT, "be bee"], 270)


def test_a_text_comes_back(tokenizer):
    found = tokenizer.decode(tokenizer.encode(TEXT))
    assert found == (" ".join(TEXT.split()) if tokenizer.unit == "words" else TEXT)


@given(TEXTS)
def test_any_text_has_bytes_and_comes_back(text):
    assert ByteTokenizer().encode(text).tolist() == list(text.encode())
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text


@given(TEXTS)
def test_any_text_has_pieces_and_comes_back(text):
    pytest.importorskip("tokenizers")
    assert PIECES.decode(PIECES.encode(text)) == text


try:
    PIECES = BPETokenizer.train([TEXT] * 3, 300)
except ImportError:
    PIECES = None


@given(st.binary())
def test_any_bytes_are_their_numbers(data):
    assert bytes(ByteTokenizer().encode(data).tolist()) == data


def test_a_kept_tokenizer_is_the_same(tokenizer):
    again = tokenizer_from_record(json.loads(json.dumps(tokenizer.record)))
    assert again == tokenizer
    assert again.symbols == tokenizer.symbols
    assert again.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()


def test_numbers_are_below_the_number_of_symbols_and_padding_is_left_out(tokenizer):
    numbers = tokenizer.encode(TEXT)
    assert 0 <= numbers.min() <= numbers.max() < len(tokenizer.symbols) == len(set(tokenizer.symbols))
    assert numbers.dtype == "int64"
    assert tokenizer.decode([-1, *numbers, -1]) == tokenizer.decode(numbers)
    with pytest.raises(ValueError, match=rf"^tokens must be below {len(tokenizer.symbols)}; got {len(tokenizer.symbols)}$"):
        tokenizer.decode([len(tokenizer.symbols)])


def test_a_bpe_that_says_it_cuts_and_pads_encodes_a_text_whole_and_alone():
    pytest.importorskip("tokenizers")
    plain = BPETokenizer.train([TEXT], 300)
    cut = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    pad = {
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 7, "pad_type_id": 0, "pad_token": "x",
    }  # fmt: skip
    other = BPETokenizer(json.dumps({**json.loads(plain.json), "truncation": cut, "padding": pad}))
    for text in ("", "to", TEXT):
        assert other.encode(text).tolist() == plain.encode(text).tolist()


def test_a_bpe_has_as_many_symbols_as_asked_for_and_fewer_pieces_than_bytes():
    pytest.importorskip("tokenizers")
    t = BPETokenizer.train(["to be or not to be " * 3], 262)
    assert len(t.symbols) == 262
    assert len(t.encode("to be or not to be ")) < 19
    for size in (255, 1_000_001, 2**64):  # the library would end the process, or panic, where memory does not suffice
        with pytest.raises(ValueError, match=rf"^vocabulary must be an integer from 256 to 1000000; got {size}$"):
            BPETokenizer.train([TEXT], size)


@pytest.mark.parametrize("text", ["", "{}", "{", '{"model": 1}'])
def test_what_is_no_tokenizer_is_refused(text):
    pytest.importorskip("tokenizers")
    with pytest.raises(ValueError, match=r"^tokenizer must be JSON of the library tokenizers; got ") as caught:
        BPETokenizer(text)
    assert "\n" not in str(caught.value)


def test_characters_and_words_are_those_of_all_texts():
    assert fit_tokenizer("characters", ["ab", "bc"]) == SymbolTokenizer(("a", "b", "c"))
    assert fit_tokenizer("words", ["a bc", "bc d\n"]) == SymbolTokenizer(("a", "bc", "d"), " ")
    assert fit_tokenizer(ByteTokenizer(), []) == ByteTokenizer()


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"], indirect=True)
def test_half_a_character_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"^text must be valid Unicode; got '\\ud83d'$"):
        tokenizer.encode("\ud83d")


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"^tokenizer must be one of 'characters', 'words', 'bytes', 'bpe'; got 'letters'$"):
        fit_tokenizer("letters", [TEXT])
