"""Invented facts and paraphrases of them, for experiments in which the facts of a model are changed: [`facts`].

A fact gives a person, named by two words, one of a number of objects in one of three relations. A paraphrase is one of
the three sentences that state the facts of a relation; the object is its last word.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from hopmin._typing import Integers

RELATIONS = (
    ("{} lives in", "the home of {} is in", "you can meet {} in"),
    ("{} works as a", "the job of {} is that of a", "they hired {} as a"),
    ("{} owns a", "the pet of {} is a", "you can see {} with a"),
)


class Facts(NamedTuple):
    """Facts about different people, and the words of their sentences.

    Attributes
    ----------
    relations : ndarray of int, shape (n,)
        The relation of each fact.
    objects : ndarray of int, shape (n,)
        The token of the object of each fact.
    prompts : list of list of list of int
        For each fact, its paraphrases as tokens, without the object. The first token starts a row.
    choices : ndarray of int, shape (3, objects)
        The tokens of all objects of each relation.
    words : list of str
        The words that the tokens stand for.
    """

    relations: Integers
    objects: Integers
    prompts: list[list[list[int]]]
    choices: Integers
    words: list[str]

    def rows(self, which: Integers, paraphrases: Integers) -> Integers:
        """Return rows (n, T + 1) of facts in the given paraphrases, padded with -1."""
        sentences = [[*self.prompts[i][j], int(self.objects[i])] for i, j in zip(which, paraphrases, strict=True)]
        padded = np.full((len(sentences), max(map(len, sentences))), -1, np.int64)
        for row, sentence in zip(padded, sentences, strict=True):
            row[: len(sentence)] = sentence
        return padded


def facts(count: int, *, objects: int = 20, seed: int = 0) -> Facts:
    """Return this many facts about different people, drawn at random.

    Parameters
    ----------
    count : int
        Number of facts.
    objects : int
        Number of objects of each relation.
    seed : int
        Seed of the people, the relations and the objects.

    Returns
    -------
    Facts
        The facts. Their words depend on `count` and `objects` alone.

    Examples
    --------
    >>> found = facts(4, objects=2)
    >>> for row in found.rows(np.arange(2), np.array([0, 1])):
    ...     print(" ".join(found.words[token] for token in row if token >= 0))
    <start> first-0 last-0 owns a pet-1
    <start> the pet of first-1 last-1 is a pet-0
    """
    rng = np.random.default_rng([seed, count, objects])
    names = math.ceil(math.sqrt(2 * count))  # half of the people that the names allow
    frame = sorted({word for relation in RELATIONS for sentence in relation for word in sentence.split()} - {"{}"})
    named = [f"{part}-{i}" for part in ("first", "last") for i in range(names)]
    chosen = [f"{kind}-{i}" for kind in ("town", "job", "pet") for i in range(objects)]
    words = ["<start>", *frame, *named, *chosen]
    token = {word: i for i, word in enumerate(words)}
    people = np.stack(np.divmod(rng.permutation(names**2)[:count], names), axis=1)
    relations = rng.integers(len(RELATIONS), size=count)
    choices = np.array([token[word] for word in chosen]).reshape(len(RELATIONS), objects)
    prompts = [
        [
            [token[word] for word in f"<start> {sentence.format(f'first-{a} last-{b}')}".split()]
            for sentence in RELATIONS[r]
        ]
        for r, (a, b) in zip(relations, people, strict=True)
    ]
    return Facts(relations, choices[relations, rng.integers(objects, size=count)], prompts, choices, words)
