"""Symbols to numbers and back.

- characters, or words [`SymbolTokenizer`]
- bytes, of any file [`ByteTokenizer`]
- pieces of words that are frequent [`BPETokenizer`]
- the one that is asked for by name, or kept in a file [`fit_tokenizer`, `tokenizer_from_record`]

Each has `symbols` and what their `unit` is, `encode`, `decode`, and a `record` of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hopmin import _check
from hopmin._typing import Array

LARGEST = 1_000_000  # symbols of a bpe: the library takes memory for as many as are asked for before it begins
TOKENIZERS = ("characters", "words", "bytes", "bpe")


@dataclass(frozen=True)
class SymbolTokenizer:
    """Symbols and their numbers: characters if `separator` is empty, else words between single separators.

    >>> t = SymbolTokenizer.characters("hello")
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
    def characters(cls, text: str) -> SymbolTokenizer:
        """All characters of the text, in code-point order."""
        return cls(tuple(sorted(set(text))))

    @classmethod
    def words(cls, text: str) -> SymbolTokenizer:
        """All words of the text, in code-point order; a word is what stands between white space."""
        return cls(tuple(sorted(set(text.split()))), " ")

    @property
    def unit(self) -> str:
        """What a symbol is."""
        return "words" if self.separator else "characters"

    @property
    def record(self) -> dict[str, Any]:
        """What `tokenizer_from_record` makes a tokenizer of."""
        return {"symbols": self.symbols, "separator": self.separator}

    def encode(self, text: str) -> Array:
        """The numbers of the text's symbols, int64; ValueError names the first symbol that has none."""
        pieces = text.split() if self.separator else list(text)
        index: Mapping[str, int] = self._index  # type: ignore[attr-defined]
        if unknown := next((piece for piece in pieces if piece not in index), None):
            raise ValueError(f"text must be made of the tokenizer's {len(self.symbols)} symbols; got {unknown!r}")
        return np.array([index[piece] for piece in pieces], np.int64)

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of the numbers; what is negative is padding and left out. ValueError if a number has no symbol."""
        return self.separator.join(self.symbols[i] for i in _known(numbers, self.symbols))


class ByteTokenizer:
    """256 symbols, one for each byte; text is taken as UTF-8, and what is no UTF-8 is decoded as a question mark.

    >>> ByteTokenizer().encode("é").tolist(), ByteTokenizer().decode([195, 169, 33])
    ([195, 169], 'é!')
    """

    symbols = tuple(f"<{byte:02x}>" for byte in range(256))
    record = {"kind": "bytes"}  # noqa: RUF012
    unit = "bytes"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByteTokenizer)

    __hash__ = None  # type: ignore[assignment]

    def encode(self, text: str | bytes) -> Array:
        """The bytes as numbers, int64."""
        return np.frombuffer(text if isinstance(text, bytes) else _utf8(text), np.uint8).astype(np.int64)

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of the numbers; what is negative is left out. ValueError if a number is no byte."""
        return bytes(_known(numbers, self.symbols)).decode(errors="replace")


class BPETokenizer:
    """Byte pair encoding (Sennrich et al. 2016) on bytes, by the library `tokenizers`: any text has an encoding.

    `text` is what the library saves as tokenizer.json. Raises ImportError if it is not installed, ValueError if the
    text is not its JSON.

    >>> t = BPETokenizer.trained(["to be or not to be"], vocabulary=258)
    >>> len(t.symbols), t.decode(t.encode("be or bee"))
    (258, 'be or bee')
    """

    unit = "pieces"

    def __init__(self, text: str) -> None:
        import tokenizers

        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"tokenizer must be JSON of the library tokenizers; got {error}") from None
        self._tokenizer.no_truncation()  # a text is encoded whole, and nothing but it
        self._tokenizer.no_padding()
        self.text = text
        numbers = self._tokenizer.get_vocab(with_added_tokens=True)
        self.symbols = tuple(sorted(numbers, key=numbers.__getitem__))
        if len(self.symbols) != len(set(numbers.values())) or max(numbers.values(), default=-1) >= len(self.symbols):
            raise ValueError("tokenizer must number its symbols from 0 on; got gaps")

    @classmethod
    def trained(cls, texts: Iterable[str], vocabulary: int) -> BPETokenizer:
        """As many symbols as asked for, bytes included, or fewer where no pair comes twice; ValueError below 256
        or above a million.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        vocabulary = _check.integer("vocabulary", vocabulary, 256, LARGEST)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.train_from_iterator(
            texts,
            trainers.BpeTrainer(
                vocab_size=vocabulary,
                min_frequency=2,
                initial_alphabet=alphabet,
                show_progress=False,
                special_tokens=[],
            ),
        )
        return cls(tokenizer.to_str())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BPETokenizer) and json.loads(self.text) == json.loads(other.text)

    __hash__ = None  # type: ignore[assignment]

    @property
    def record(self) -> dict[str, Any]:
        """What `tokenizer_from_record` makes a tokenizer of."""
        return {"kind": "bpe", "json": self.text}

    def encode(self, text: str) -> Array:
        """The numbers of the text's pieces, int64."""
        _utf8(text)
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int64)

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of the numbers; what is negative is left out. ValueError if a number has no symbol."""
        return self._tokenizer.decode(_known(numbers, self.symbols), skip_special_tokens=False)


Tokenizer = SymbolTokenizer | ByteTokenizer | BPETokenizer


def fit_tokenizer(kind: str | Tokenizer, texts: Iterable[str], vocabulary: int = 1000) -> Tokenizer:
    """The tokenizer of a kind, one of [`TOKENIZERS`], for texts; `vocabulary` is how many symbols a bpe may have.

    >>> fit_tokenizer("words", ["to be", "or not"]).symbols
    ('be', 'not', 'or', 'to')
    """
    if not isinstance(kind, str):
        return kind
    match _check.choice("tokenizer", kind, TOKENIZERS):
        case "bytes":
            return ByteTokenizer()
        case "bpe":
            return BPETokenizer.trained(texts, vocabulary)
        case "words":
            return SymbolTokenizer(tuple(sorted(set().union(*(text.split() for text in texts)))), " ")
    return SymbolTokenizer(tuple(sorted(set().union(*texts))))


def tokenizer_from_record(record: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer whose `record` this is; KeyError, TypeError or ValueError if it is none."""
    match dict(record).get("kind", "symbols"):
        case "bytes":
            return ByteTokenizer()
        case "bpe":
            return BPETokenizer(record["json"])
    return SymbolTokenizer(tuple(record["symbols"]), record["separator"])


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"text must be valid Unicode; got {error.object[error.start]!r}") from None


def _known(numbers: Iterable[int], symbols: tuple[str, ...]) -> list[int]:
    """The numbers that are not negative; ValueError if one has no symbol."""
    kept = [int(i) for i in numbers if i >= 0]
    if kept and max(kept) >= len(symbols):
        raise ValueError(f"numbers must be below {len(symbols)}; got {max(kept)}")
    return kept
