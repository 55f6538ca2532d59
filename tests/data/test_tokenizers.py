"""Round trips of every kind of tokenizer, before and after saving it as JSON, and every error."""

import json
from types import SimpleNamespace

import pytest
from helpers import MERGES, bpe_pieces, error_message
from hypothesis import given, settings
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


@pytest.fixture(scope="module", params=[*TOKENIZERS, "merges"])
def tokenizer(request):
    if request.param == "merges":
        return from_merges()
    if request.param == "bpe":
        pytest.importorskip("tokenizers")
    return fit_tokenizer(request.param, [TEXT, "be bee"], 270)


def from_merges(**options):
    pieces = bpe_pieces()
    return BPETokenizer.from_merges(
        {piece: i for i, piece in enumerate(pieces)}, [merge.split() for merge in MERGES], pieces[-2:], **options
    )


# Every kind


def test_decoding_inverts_encoding(tokenizer):
    found = tokenizer.decode(tokenizer.encode(TEXT))
    assert found == (" ".join(TEXT.split()) if tokenizer.unit == "words" else TEXT)


def test_a_record_restores_the_tokenizer(tokenizer):
    again = tokenizer_from_record(json.loads(json.dumps(tokenizer.record)))
    assert again == tokenizer
    assert again.symbols == tokenizer.symbols
    assert again.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()


def test_tokens_are_indices_of_symbols_and_padding_is_ignored(tokenizer):
    tokens, V = tokenizer.encode(TEXT), len(tokenizer.symbols)
    assert 0 <= tokens.min() <= tokens.max() < V == len(set(tokenizer.symbols))
    assert tokens.dtype == "int64"
    assert tokenizer.decode([-1, *tokens, -1]) == tokenizer.decode(tokens)
    assert error_message(ValueError, tokenizer.decode, [V]) == f"tokens must be below {V}; got {V}"


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe", "merges"], indirect=True)
def test_a_lone_surrogate_is_refused(tokenizer):
    assert error_message(ValueError, tokenizer.encode, "\ud83d") == r"text must be valid Unicode; got '\ud83d'"


def test_an_unknown_kind_is_refused():
    expected = "tokenizer must be one of 'characters', 'words', 'bytes', 'bpe'; got 'letters'"
    assert error_message(ValueError, fit_tokenizer, "letters", [TEXT]) == expected


# Symbols and bytes


def test_symbols_are_collected_from_all_texts():
    assert fit_tokenizer("characters", ["ab", "bc"]) == SymbolTokenizer(("a", "b", "c"))
    assert fit_tokenizer("words", ["a bc", "bc d\n"]) == SymbolTokenizer(("a", "bc", "d"), " ")
    assert fit_tokenizer(ByteTokenizer(), []) == ByteTokenizer()


@given(TEXTS)
def test_any_text_is_encoded_as_its_utf8_bytes(text):
    assert ByteTokenizer().encode(text).tolist() == list(text.encode())
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text


@given(st.binary())
def test_any_bytes_are_their_numbers(data):
    assert bytes(ByteTokenizer().encode(data).tolist()) == data


# Byte pair encoding

try:
    TRAINED = BPETokenizer.train([TEXT] * 3, 300)
except ImportError:
    TRAINED = None


@settings(max_examples=50)
@given(text=TEXTS)
def test_any_text_survives_byte_pair_encoding(text):
    pytest.importorskip("tokenizers")
    assert TRAINED.decode(TRAINED.encode(text)) == text
    assert from_merges().decode(from_merges().encode(text)) == text


def test_training_reaches_the_vocabulary_and_saves_tokens():
    pytest.importorskip("tokenizers")
    t = BPETokenizer.train(["to be or not to be " * 3], 262)
    assert len(t.symbols) == 262
    assert len(t.encode("to be or not to be ")) < 19


@pytest.mark.parametrize("size", [255, 1_000_001, 2**64])  # the library aborts or panics if memory runs out
def test_a_vocabulary_size_out_of_range_is_refused(size):
    pytest.importorskip("tokenizers")
    expected = f"vocabulary must be an integer from 256 to 1000000; got {size}"
    assert error_message(ValueError, BPETokenizer.train, [TEXT], size) == expected


def test_pairs_are_merged_in_order_of_priority():
    t, pieces = from_merges(), bpe_pieces()
    assert [pieces[i] for i in t.encode("hello hell 12")] == ["hello", "Ġ", "hell", "Ġ", "12"]
    assert [pieces[i] for i in from_merges(digits=True).encode("hell 12")] == ["hell", "Ġ", "1", "2"]
    assert t.encode("").shape == (0,)


def test_special_pieces_are_single_tokens():
    t, pieces = from_merges(), bpe_pieces()
    o, end = pieces.index("o"), pieces.index("<|endoftext|>")
    assert t.encode("o<|endoftext|>o").tolist() == [o, end, o]
    assert t.decode([-1, end, pieces.index("Ġhello"), -1]) == "<|endoftext|> hello"


def test_bytes_outside_the_vocabulary_are_refused():
    pytest.importorskip("tokenizers")
    few = BPETokenizer.from_merges({"h": 0, "e": 1}, [])
    for t in (few, tokenizer_from_record(few.record)):
        assert t.encode("hehe").tolist() == [0, 1, 0, 1]
        assert (
            error_message(ValueError, t.encode, "he ho") == "text must consist of bytes in the vocabulary; got 'he ho'"
        )


def test_pieces_and_merges_that_do_not_fit_are_refused():
    pytest.importorskip("tokenizers")
    for pieces in ({"h": 1, "e": 2}, {"h": 0, "e": 0}):
        expected = "pieces must be numbered from 0 to 1; got gaps or duplicates"
        assert error_message(ValueError, BPETokenizer.from_merges, pieces, []) == expected
    for merge in (("h", "ü"), ("h", "e"), ("h",)):
        expected = f"merges must be pairs of pieces that form a piece; got {merge}"
        assert error_message(ValueError, BPETokenizer.from_merges, {"h": 0, "e": 1}, [merge]) == expected


def test_truncation_and_padding_in_the_json_are_ignored():
    pytest.importorskip("tokenizers")
    plain = BPETokenizer.train([TEXT], 300)
    truncation = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    padding = {
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 7, "pad_type_id": 0, "pad_token": "x",
    }  # fmt: skip
    other = BPETokenizer(json.dumps({**json.loads(plain.json), "truncation": truncation, "padding": padding}))
    for text in ("", "to", TEXT):
        assert other.encode(text).tolist() == plain.encode(text).tolist()


BYTEWISE = "tokenizer must be a byte pair encoding on bytes; got "


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "b"}}, "WordLevel"),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": ""}, "content": "x"}}, "Replace"),  # panics in encode
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}}, "Split"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "Metaspace"}]}}, "Metaspace"),
        ({"decoder": {"type": "\x1b[2J"}}, r"\x1b[2J"),
        ({"post_processor": {"type": "TemplateProcessing"}}, "TemplateProcessing"),
    ],
)  # fmt: skip
def test_tokenizers_with_other_parts_are_refused(changes, found):
    pytest.importorskip("tokenizers")
    plain = json.loads(BPETokenizer.train([TEXT], 300).json)
    assert error_message(ValueError, BPETokenizer, json.dumps({**plain, **changes})) == BYTEWISE + found


@pytest.mark.parametrize("name", ["continuing_subword_prefix", "end_of_word_suffix"])
def test_a_prefix_on_which_the_library_panics_is_refused(name, capfd):
    """The panic is no Exception, and prints a trace of the stack."""
    pytest.importorskip("tokenizers")
    plain = json.loads(BPETokenizer.train([TEXT], 300).json)
    changed = json.dumps({**plain, "model": {**plain["model"], name: "##"}})
    assert error_message(ValueError, BPETokenizer, changed) == BYTEWISE + name
    record = {"kind": "bpe", "json": changed}
    assert error_message(ValueError, tokenizer_from_record, record) == BYTEWISE + name
    assert capfd.readouterr() == ("", "")


class PanicException(BaseException):
    """A panic of a library in Rust, as Python sees it."""


@pytest.mark.parametrize("error", [PanicException("index out\nof bounds"), OverflowError("\x1b[2J")])
def test_whatever_the_library_raises_becomes_a_value_error(monkeypatch, error):
    pytest.importorskip("tokenizers")

    def fail(*arguments, **options):
        raise error

    t = BPETokenizer.train([TEXT], 300)
    monkeypatch.setattr(t, "_tokenizer", SimpleNamespace(encode=fail, decode=fail))
    found = str(error).replace("\n", r"\n").replace("\x1b", r"\x1b")
    assert error_message(ValueError, t.encode, "to") == f"text must consist of pieces in the vocabulary; got {found}"
    assert error_message(ValueError, t.decode, [1]) == f"tokens must be pieces of a text; got {found}"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupts_and_a_lack_of_memory_pass(monkeypatch, error):
    pytest.importorskip("tokenizers")

    def fail(*arguments, **options):
        raise error

    t = BPETokenizer.train([TEXT], 300)
    monkeypatch.setattr(t, "_tokenizer", SimpleNamespace(encode=fail))
    with pytest.raises(error):
        t.encode("to")


@pytest.mark.parametrize("text", ["", "{}", "{", '{"model": 1}', "[" * 10**5, "null", '{"model": {"type": "BPE"}}'])
def test_json_of_no_tokenizer_is_refused(text):
    pytest.importorskip("tokenizers")
    assert error_message(ValueError, BPETokenizer, text).startswith(
        "tokenizer must be JSON of the library tokenizers; got "
    )
