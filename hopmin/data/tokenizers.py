"""Tokenizers: text to numbers and back.

- characters, or words between white space [`SymbolTokenizer`]
- bytes of any file [`ByteTokenizer`]
- byte pair encoding, by the library `tokenizers` [`BPETokenizer`]
- a tokenizer from the name of its kind [`fit_tokenizer`], or from its record in a file [`tokenizer_from_record`]

Each tokenizer has `symbols`, the `unit` they are counted in, `encode`, `decode`, and `record`, a dictionary for JSON.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np

from hopmin import _check
from hopmin._extras import needed_by
from hopmin._typing import Integers

# The types of the parts of a byte pair encoding on bytes. Others may hold patterns, on which the library can panic or
# take exponential time.
BYTEWISE = {
    "model": ("BPE",),
    "normalizer": ("NFC", "NFD", "NFKC", "NFKD"),
    "pre_tokenizer": ("ByteLevel", "Digits"),
    "post_processor": ("ByteLevel",),
    "decoder": ("ByteLevel",),
}
MAX_VOCABULARY = 1_000_000  # of a trained BPE: the library allocates memory for the whole vocabulary before it trains
TokenizerName = Literal["characters", "words", "bytes", "bpe"]
TOKENIZERS: tuple[str, ...] = get_args(TokenizerName)


@dataclass(frozen=True)
class SymbolTokenizer:
    """A tokenizer of characters, or of words between white space.

    Parameters
    ----------
    symbols : tuple of str
        Distinct symbols; a symbol's token is its index.
    separator : {"", " "}
        String between decoded symbols: empty for characters, a space for words.

    Raises
    ------
    TypeError
        If a symbol is not a string.
    ValueError
        If there is no symbol, a symbol occurs twice, or the separator is neither of these.

    Examples
    --------
    >>> t = SymbolTokenizer.from_characters(["hello"])
    >>> t.encode("hole").tolist(), t.decode([1, 0])
    ([1, 3, 2, 0], 'he')
    """

    symbols: tuple[str, ...]
    separator: str = ""

    def __post_init__(self) -> None:
        if others := [symbol for symbol in self.symbols if not isinstance(symbol, str)]:
            raise TypeError(f"symbols must be strings; got {others[0]!r}")
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise ValueError(f"symbols must be distinct and at least one; got {len(self.symbols)}")
        _check.choice("separator", self.separator, ("", " "))
        object.__setattr__(self, "_index", {symbol: i for i, symbol in enumerate(self.symbols)})

    @classmethod
    def from_characters(cls, texts: Iterable[str]) -> SymbolTokenizer:
        """Return a tokenizer of all characters of the texts, in code-point order."""
        return cls(tuple(sorted(set(chain.from_iterable(texts)))))

    @classmethod
    def from_words(cls, texts: Iterable[str]) -> SymbolTokenizer:
        """Return a tokenizer of all words of the texts, in code-point order."""
        return cls(tuple(sorted(set(chain.from_iterable(map(str.split, texts))))), " ")

    @property
    def unit(self) -> str:
        """The unit of the tokens: "characters" or "words"."""
        return "words" if self.separator else "characters"

    @property
    def record(self) -> dict[str, Any]:
        """A dictionary for JSON, from which `tokenizer_from_record` makes the tokenizer again."""
        return {"symbols": self.symbols, "separator": self.separator}

    def encode(self, text: str) -> Integers:
        """Return the tokens of a text; raise ValueError for a symbol that is not in the vocabulary."""
        pieces = text.split() if self.separator else list(text)
        index: Mapping[str, int] = self._index  # type: ignore[attr-defined]
        if unknown := next((piece for piece in pieces if piece not in index), None):
            raise ValueError(f"text must consist of the tokenizer's {len(self.symbols)} symbols; got {unknown!r}")
        return np.array([index[piece] for piece in pieces], np.int64)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens; negative ones are padding and left out. ValueError if a token has no symbol."""
        return self.separator.join(self.symbols[i] for i in _unpadded(tokens, self.symbols))


class ByteTokenizer:
    """A tokenizer of 256 symbols, one for each byte.

    Text is encoded as UTF-8; decoded bytes that are not UTF-8 become replacement characters.

    Examples
    --------
    >>> ByteTokenizer().encode("é").tolist(), ByteTokenizer().decode([195, 169, 33])
    ([195, 169], 'é!')
    """

    symbols = tuple(f"<{byte:02x}>" for byte in range(256))
    record = {"kind": "bytes"}  # noqa: RUF012
    unit = "bytes"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByteTokenizer)

    __hash__ = None  # type: ignore[assignment]

    def encode(self, text: str | bytes) -> Integers:
        """Return the bytes of a text as tokens; ValueError for a lone surrogate."""
        return np.frombuffer(text if isinstance(text, bytes) else _utf8(text), np.uint8).astype(np.int64)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens; negative ones are padding and left out. ValueError for a token above 255."""
        return bytes(_unpadded(tokens, self.symbols)).decode(errors="replace")


class BPETokenizer:
    """Byte pair encoding (Sennrich et al. 2016), on bytes as in GPT-2 (Radford et al. 2019).

    Parameters
    ----------
    json : str
        The tokenizer as the library `tokenizers` saves it (tokenizer.json).

    Raises
    ------
    ImportError
        If the library `tokenizers` is not installed.
    ValueError
        If `json` is not JSON of that library for such an encoding, or the symbols are not numbered from 0 to V - 1.

    Examples
    --------
    >>> t = BPETokenizer.train(["to be or not to be"], vocabulary=258)
    >>> len(t.symbols), t.decode(t.encode("be or bee"))
    (258, 'be or bee')
    """

    unit = "pieces"

    def __init__(self, json: str) -> None:
        with needed_by("BPETokenizer", "pretrained"):
            from tokenizers import Tokenizer, pre_tokenizers

        _check_bytewise(json)
        with _library_errors("tokenizer must be JSON of the library tokenizers"):
            self._tokenizer = Tokenizer.from_str(json)
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        self.json = json
        numbers = self._tokenizer.get_vocab(with_added_tokens=True)
        self.symbols = tuple(sorted(numbers, key=numbers.__getitem__))
        if len(self.symbols) != len(set(numbers.values())) or max(numbers.values(), default=-1) >= len(self.symbols):
            raise ValueError("tokenizer must number its symbols from 0 on; got gaps")
        self._covers_all_bytes = numbers.keys() >= set(pre_tokenizers.ByteLevel.alphabet())

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int) -> BPETokenizer:
        """Return a tokenizer trained on texts: its pieces are the 256 bytes and merges of the most frequent pairs.

        Parameters
        ----------
        texts : iterable of str
            Read once.
        vocabulary : int
            Number of symbols, from 256 to 1,000,000; there are fewer if no pair is left that occurs twice.
        """
        with needed_by("BPETokenizer", "pretrained"):
            from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=_check.integer("vocabulary", vocabulary, 256, MAX_VOCABULARY),
            min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
            special_tokens=[],
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    @classmethod
    def from_merges(
        cls,
        pieces: Mapping[str, int],
        merges: Iterable[Sequence[str]],
        special: Iterable[str] = (),
        *,
        digits: bool = False,
    ) -> BPETokenizer:
        """Return the tokenizer with this vocabulary and these merges, as stored in files of pretrained models.

        Parameters
        ----------
        pieces : mapping of str to int
            Each piece, in the library's alphabet of bytes, with its token.
        merges : iterable of pairs of str
            Pairs of pieces that are merged, the first with the highest priority.
        special : iterable of str
            Pieces that are always encoded as one token, such as <|endoftext|>.
        digits : bool, default False
            Whether to split numbers into single digits.

        Raises
        ------
        ValueError
            If the tokens are not 0 to V - 1, or the parts or the result of a merge are not pieces.

        Examples
        --------
        >>> t = BPETokenizer.from_merges({"h": 0, "e": 1, "he": 2, "<end>": 3}, [("h", "e")], special=["<end>"])
        >>> t.encode("hehe<end>").tolist()
        [2, 2, 3]
        """
        with needed_by("BPETokenizer", "pretrained"):
            from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

        if sorted(pieces.values()) != list(range(len(pieces))):
            raise ValueError(f"pieces must be numbered from 0 to {len(pieces) - 1}; got gaps or duplicates")
        pairs: list[tuple[str, str]] = []
        for merge in merges:  # the library panics on some invalid merges
            if len(merge) != 2 or not pieces.keys() >= {*merge, "".join(merge)}:
                raise ValueError(f"merges must be pairs of pieces that form a piece; got {tuple(merge)}")
            pairs.append((merge[0], merge[1]))
        tokenizer = Tokenizer(models.BPE(dict(pieces), pairs))
        bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False)
        single_digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([single_digits, bytewise]) if digits else bytewise
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(piece, normalized=False) for piece in special])
        return cls(tokenizer.to_str())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BPETokenizer) and json.loads(self.json) == json.loads(other.json)

    __hash__ = None  # type: ignore[assignment]

    @property
    def record(self) -> dict[str, Any]:
        """A dictionary for JSON, from which `tokenizer_from_record` makes the tokenizer again."""
        return {"kind": "bpe", "json": self.json}

    def encode(self, text: str) -> Integers:
        """Return the tokens of a text; ValueError if one of its bytes is not in the vocabulary."""
        _utf8(text)
        with _library_errors("text must consist of pieces in the vocabulary"):
            tokens = np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int64)
        if not self._covers_all_bytes and self.decode(tokens) != text:  # the library drops unknown bytes
            raise ValueError(f"text must consist of bytes in the vocabulary; got {text!r:.60}")
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens; negative ones are padding and left out. ValueError if a token has no piece."""
        kept = _unpadded(tokens, self.symbols)
        with _library_errors("tokens must be pieces of a text"):
            text: str = self._tokenizer.decode(kept, skip_special_tokens=False)
        return text


Tokenizer = SymbolTokenizer | ByteTokenizer | BPETokenizer


def fit_tokenizer(kind: TokenizerName | Tokenizer, texts: Iterable[str], vocabulary: int = 1000) -> Tokenizer:
    """Return a tokenizer of the given kind for texts.

    Parameters
    ----------
    kind : {"characters", "words", "bytes", "bpe"} or tokenizer
        A tokenizer is returned as it is.
    texts : iterable of str
        Read once, and not at all for bytes.
    vocabulary : int, default 1000
        Number of symbols of a "bpe".

    Returns
    -------
    Tokenizer

    Raises
    ------
    ValueError
        If the kind is none of these, or there is no symbol.

    Examples
    --------
    >>> fit_tokenizer("words", ["to be", "or not"]).symbols
    ('be', 'not', 'or', 'to')
    """
    if not isinstance(kind, str):
        return kind
    match _check.choice("tokenizer", kind, TOKENIZERS):
        case "characters":
            return SymbolTokenizer.from_characters(texts)
        case "words":
            return SymbolTokenizer.from_words(texts)
        case "bytes":
            return ByteTokenizer()
    return BPETokenizer.train(texts, vocabulary)


def tokenizer_from_record(record: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer of a `record`; KeyError, TypeError or ValueError if it is not one."""
    match dict(record).get("kind", "symbols"):
        case "bytes":
            return ByteTokenizer()
        case "bpe":
            return BPETokenizer(record["json"])
    return SymbolTokenizer(tuple(record["symbols"]), record["separator"])


@contextlib.contextmanager
def _library_errors(message: str) -> Iterator[None]:
    """Turn what the library raises into a ValueError with this message: an Exception, or a panic, which is not one."""
    try:
        yield
    except MemoryError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{message}; got {_check.printable(error):.200}") from None


def _check_bytewise(text: str) -> None:
    """Raise ValueError unless the JSON of a tokenizer has the parts of a byte pair encoding on bytes, and no others."""
    try:
        parts = json.loads(text)
        found = {part: parts[part] for part in BYTEWISE if parts.get(part) is not None}
        if isinstance(of := found.get("pre_tokenizer"), dict) and of["type"] == "Sequence":
            del found["pre_tokenizer"]
            others = [each["type"] for each in of["pretokenizers"] if each["type"] not in BYTEWISE["pre_tokenizer"]]
        else:
            others = []
        others += [of["type"] for part, of in found.items() if of["type"] not in BYTEWISE[part]]
        others += [name for name in ("continuing_subword_prefix", "end_of_word_suffix") if parts["model"].get(name)]
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise ValueError("tokenizer must be JSON of the library tokenizers; got other text") from None
    if others:
        raise ValueError(f"tokenizer must be a byte pair encoding on bytes; got {_check.printable(others[0]):.60}")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"text must be valid Unicode; got {error.object[error.start]!r}") from None


def _unpadded(tokens: Iterable[int], symbols: tuple[str, ...]) -> list[int]:
    """Return the tokens that are not negative; ValueError if one has no symbol."""
    kept = [int(i) for i in tokens if i >= 0]
    if kept and max(kept) >= len(symbols):
        raise ValueError(f"tokens must be below {len(symbols)}; got {max(kept)}")
    return kept
