"""Question Formation (McCoy, Frank & Linzen 2020): a language whose entropy is known exactly.

- a grammar and its entropy [`Grammar`]
- the grammar of Question Formation [`question_grammar`], and a corpus drawn from it [`question_formation`]
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from hopmin import _check
from hopmin._typing import Seed
from hopmin.data.corpus import Corpus, pad
from hopmin.data.tokenizers import SymbolTokenizer

END = "<end>"  # the first and the last token of every row of Question Formation

Mix = Literal["published", "released"]


class Grammar:
    """A probabilistic context-free grammar without recursion.

    If every string has one derivation, the entropy of the language is that of the derivation, and the chain rule gives
    it symbol by symbol: H(A) = sum_r p_r (-log p_r + sum_{B in r} H(B)).

    Parameters
    ----------
    rules : mapping of str to mapping of str to float
        For each symbol, its right-hand sides (symbols separated by spaces) and their weights, relative to each other.
        A symbol without a rule is a word.

    Attributes
    ----------
    rules : dict
        For each symbol, its right-hand sides as (probability, symbols).
    entropy : callable
        The entropy of what is derived from a symbol, in nats.
    length : callable
        The expected number of words derived from a symbol.

    Raises
    ------
    ValueError
        If the rules are recursive.

    Examples
    --------
    >>> coin = Grammar({"S": {"Coin": 1, "Coin Coin": 1}, "Coin": {"heads": 1, "tails": 1}})
    >>> round(coin.entropy("S") / math.log(2), 12), coin.length("S")     # in bits: 1 for the rule, 1 or 2 for the coins
    (2.5, 1.5)
    """

    def __init__(self, rules: Mapping[str, Mapping[str, float]]) -> None:
        self.rules = {
            symbol: [(weight / sum(sides.values()), side.split()) for side, weight in sides.items() if weight > 0]
            for symbol, sides in rules.items()
        }
        self._cumulative = {s: list(itertools.accumulate(p for p, _ in sides)) for s, sides in self.rules.items()}
        self.entropy = cache(self._entropy)
        self.length = cache(self._length)
        try:
            for symbol in self.rules:
                self.length(symbol)
        except RecursionError:
            raise ValueError("rules must not lead from a symbol back to itself; got a recursive grammar") from None

    def _entropy(self, symbol: str) -> float:
        """Return the entropy of the derivations of `symbol`, in nats."""
        return sum(p * (sum(map(self.entropy, side)) - math.log(p)) for p, side in self.rules.get(symbol, ()))

    def _length(self, symbol: str) -> float:
        """Return the expected number of words derived from `symbol`."""
        if symbol not in self.rules:
            return 1.0
        return sum(p * sum(map(self.length, side)) for p, side in self.rules[symbol])

    def sample(self, symbol: str, rng: np.random.Generator) -> tuple[list[str], float]:
        """Draw words from `symbol`; return them and the negative logarithm of their probability, in nats."""
        if symbol not in self.rules:
            return [symbol], 0.0
        sides = self.rules[symbol]
        choice = min(bisect.bisect(self._cumulative[symbol], rng.random()), len(sides) - 1)
        p, side = sides[choice]
        words, nats = [], -math.log(p)
        for part in side:
            more, cost = self.sample(part, rng)
            words += more
            nats += cost
        return words, nats


# Question Formation

NOUNS = "newt orangutan peacock quail raven salamander tyrannosaurus unicorn vulture walrus xylophone yak zebra".split()
INTRANSITIVE = ["giggle", "smile", "sleep", "swim", "wait", "move", "change", "read", "eat"]
TRANSITIVE = ["entertain", "amuse", "high_five", "applaud", "confuse", "admire", "accept", "remember", "comfort"]
AUXILIARIES = {"S": ("does", "doesn't"), "P": ("do", "don't")}
LEXICON = {
    "Det": ["the", "some", "my", "your", "our", "her"],
    "Prep": ["around", "near", "with", "upon", "by", "behind", "above", "below"],
    "Rel": ["who", "that"],
}


class Frequencies(NamedTuple):
    """Relative frequencies of the structures of a sentence.

    subject, object : of a bare noun phrase, of one with a prepositional phrase, and of one with a relative clause
    subject_clause, object_clause : of relative clauses whose subject is extracted, with an intransitive verb; whose
        object is extracted; and whose subject is extracted, with a transitive verb
    intransitive : probability that a main verb is intransitive
    """

    subject: tuple[int, int, int]
    object: tuple[int, int, int]
    subject_clause: tuple[int, int, int]
    object_clause: tuple[int, int, int]
    intransitive: float


# The weights of McCoy's grammar, and the frequencies in the first 20,000 training rows of his files.
MIXES: dict[str, Frequencies] = {
    "published": Frequencies((1, 1, 1), (1, 1, 1), (2, 2, 2), (2, 2, 2), 0.5),
    "released": Frequencies((50, 21, 29), (30, 30, 40), (25, 51, 24), (52, 24, 24), 0.22),
}


def question_grammar(mix: Mix = "published", *, nouns: int = 13, verbs: int = 9) -> Grammar:
    """Return the grammar of Question Formation, whose start symbols are ROW and GENERALIZATION.

    A row is a sentence and its task: `decl` (repeat the sentence) or `quest` (move its main auxiliary, marked ^ here,
    to the front). Under ROW, the subject of a question never has a relative clause, so its first auxiliary is the main
    one. Under GENERALIZATION it always has one, and the two auxiliaries differ but agree in number.

    Parameters
    ----------
    mix : {"published", "released"}
        Frequencies of the structures: those of McCoy's grammar, or those counted in his files.
    nouns : int
        Number of nouns. A smaller or larger lexicon makes a language of the same form and of lower or higher entropy;
        beyond McCoy's 13 nouns the words are numbered ("newt2").
    verbs : int
        Number of intransitive and of transitive verbs; beyond McCoy's 9 of each the words are numbered.

    Returns
    -------
    Grammar
        The grammar.
    """
    weights = MIXES[_check.choice("mix", mix, MIXES)]
    singular = _lexicon(NOUNS, _check.integer("nouns", nouns))
    verbs = _check.integer("verbs", verbs)
    plain, phrase, clause = weights.subject
    rules: dict[str, dict[str, float]] = {
        "ROW": {"DECL . decl": 1, "QUEST . quest": (plain + phrase) / (plain + phrase + clause)},
        "DECL": {"Subject_S VP_S": 1, "Subject_P VP_P": 1},
        "QUEST": {"Plain_S VP_S": 1, "Plain_P VP_P": 1},
        "N": {"N_S": 1, "N_P": 1},
        "N_S": dict.fromkeys(singular, 1),
        "N_P": {noun + ("es" if noun.endswith("us") else "s"): 1 for noun in singular},
        "V_intrans": dict.fromkeys(_lexicon(INTRANSITIVE, verbs), 1),
        "V_trans": dict.fromkeys(_lexicon(TRANSITIVE, verbs), 1),
        **{symbol: dict.fromkeys(words, 1) for symbol, words in LEXICON.items()},
        "Object": {"Object_S": 1, "Object_P": 1},
        "GENERALIZATION": {},
        "Predicate": {"V_intrans": weights.intransitive, "V_trans Bare": 1 - weights.intransitive},
        "Bare": {"Det N": weights.object[0], "Det N Prep Det N": weights.object[1]},
    }
    for x, auxiliaries in AUXILIARIES.items():
        rules[f"Aux_{x}"] = dict.fromkeys(auxiliaries, 1)
        rules[f"Main_{x}"] = {f"^{auxiliary}": 1 for auxiliary in auxiliaries}
        rules[f"Plain_{x}"] = {f"Det N_{x}": plain, f"Det N_{x} Prep Det N": phrase}
        rules[f"Subject_{x}"] = {f"Plain_{x}": plain + phrase, f"Det N_{x} Subject_clause_{x}": clause}
        rules[f"VP_{x}"] = {
            f"Main_{x} V_intrans": weights.intransitive, f"Main_{x} V_trans Object": 1 - weights.intransitive
        }  # fmt: skip
        bare, modified, relative = weights.object
        rules[f"Object_{x}"] = {
            f"Det N_{x}": bare, f"Det N_{x} Prep Det N": modified, f"Det N_{x} Object_clause_{x}": relative
        }  # fmt: skip
        for role, frequencies in (("Subject", weights.subject_clause), ("Object", weights.object_clause)):
            intransitive, by_object, transitive = frequencies
            rules[f"{role}_clause_{x}"] = {
                f"Rel Aux_{x} V_intrans": intransitive,
                "Rel Det N_S Aux_S V_trans": by_object / 2,
                "Rel Det N_P Aux_P V_trans": by_object / 2,
                f"Rel Aux_{x} V_trans Det N": transitive,
            }
        for main, other in itertools.permutations(auxiliaries):
            for side in (f"{other} V_intrans", f"Det N_{x} {other} V_trans", f"{other} V_trans Det N"):
                rules["GENERALIZATION"][f"Det N_{x} Rel {side} ^{main} Predicate . quest"] = 1
    return Grammar(rules)


def _lexicon(words: list[str], count: int) -> list[str]:
    """Return `count` words: the given ones, and numbered copies of them if there are not enough."""
    copies = (word if i == 1 else f"{word}{i}" for i in itertools.count(1) for word in words)
    return list(itertools.islice(copies, count))


def _answer(words: list[str]) -> list[str]:
    """Return the row of an input and its task: both, followed by the output."""
    *sentence, stop, task = words
    main = next(i for i, word in enumerate(sentence) if word.startswith("^"))
    sentence[main] = sentence[main][1:]
    if task == "decl":
        return [*sentence, stop, task, *sentence, stop]
    return [*sentence, stop, task, sentence[main], *sentence[:main], *sentence[main + 1 :], "?"]


def question_formation(
    rows: int = 100_000,
    *,
    mix: Mix = "published",
    seed: Seed = 0,
    dev: int = 1_000,
    test: int = 10_000,
    generalization: int = 10_000,
    nouns: int = 13,
    verbs: int = 9,
) -> Corpus:
    """Return a Question Formation corpus: 68 words and <end>, up to 37 tokens per row, and a known entropy.

    Rows are drawn from `question_grammar`, each is kept once, and they are divided into train, dev and test in this
    order; the generalization rows are drawn separately. `held_out` is the test split.

    `entropy` is exactly that of the language, in nats per token, <end> included: the input half of a row has two nats
    per token, and the output half is determined by it. Because each row is kept once, likely rows are missing from the
    later splits; the cross-entropy of the rows of a split, in `floors`, is slightly higher than the entropy.

    Parameters
    ----------
    rows : int
        Number of training rows.
    mix : {"published", "released"}
        Frequencies of the structures; see `question_grammar`.
    seed : Generator or int
        Seed of the rows.
    dev, test, generalization : int
        Number of rows of these splits.
    nouns, verbs : int
        Size of the lexicon; see `question_grammar`.

    Returns
    -------
    Corpus
        The corpus, with its entropy, splits and floors.

    Raises
    ------
    ValueError
        If a number of rows is below 1, the mix is unknown, or the lexicon is too small for that many rows (detected
        when a thousand consecutive draws give no new row).

    Examples
    --------
    >>> corpus = question_formation(100, dev=10, test=10, generalization=10)
    >>> corpus.tokenizer.decode(corpus.train[24])
    "<end> some zebra doesn't smile . quest doesn't some zebra smile ? <end>"
    >>> round(corpus.entropy, 3)
    0.987
    """
    sizes = {"train": rows, "dev": dev, "test": test, "generalization": generalization}
    sizes = {name: _check.integer("rows" if name == "train" else name, size) for name, size in sizes.items()}
    rng = _check.generator("seed", seed)
    grammar = question_grammar(mix, nouns=nouns, verbs=verbs)
    trained = _distinct(grammar, "ROW", sizes["train"] + sizes["dev"] + sizes["test"], rng)
    drawn = [*trained, *_distinct(grammar, "GENERALIZATION", sizes["generalization"], rng)]
    words = sorted(
        {word.lstrip("^") for sides in grammar.rules.values() for _, side in sides for word in side}
        - set(grammar.rules)
    )
    tokenizer = SymbolTokenizer((END, *words, "?"), " ")
    drawn_rows = pad([tokenizer.encode(f"{END} {' '.join(_answer(list(words)))} {END}") for words, _ in drawn])
    cuts = list(itertools.accumulate(sizes.values()))[:-1]
    splits = dict(zip(sizes, np.split(drawn_rows, cuts), strict=True))
    nats = dict(zip(sizes, np.split(np.array([cost for _, cost in drawn]), cuts), strict=True))
    return Corpus(
        name="question-formation" if mix == "published" else f"question-formation, {mix} mix",
        tokenizer=tokenizer,
        train=splits["train"],
        held_out=splits["test"],
        entropy=grammar.entropy("ROW") / (2 * grammar.length("ROW")),  # input and output are equally long
        floors={name: float(nats[name].sum() / (split[:, 1:] >= 0).sum()) for name, split in splits.items()},
        splits=splits,
    )


def _distinct(
    grammar: Grammar, start: str, count: int, rng: np.random.Generator
) -> list[tuple[tuple[str, ...], float]]:
    """Draw `count` different strings; return them and their negative log-probabilities, in nats."""
    found: dict[tuple[str, ...], float] = {}
    failures = 0
    while len(found) < count:
        words, nats = grammar.sample(start, rng)
        failures = failures + 1 if tuple(words) in found else 0
        found[tuple(words)] = nats
        if failures == 1000:
            raise ValueError(f"rows must be fewer than the lexicon allows; got {count}, and found {len(found)}")
    return list(found.items())
