"""A semantic cache: return the value of the most similar key if it is similar enough, otherwise report "not stored".

A nearest-neighbour cache always returns something. `Memory.lookup` with `min_similarity` returns index -1 instead of
a wrong answer. Keys here are counts of letter pairs; in practice they would be sentence embeddings.
Run: python examples/gated_cache.py
"""

from itertools import pairwise

import numpy as np

import hopmin

ANSWERS = {
    "What is the capital of France?": "Paris",
    "What is the capital of Italy?": "Rome",
    "Who wrote Hamlet?": "Shakespeare",
    "How many legs does a spider have?": "eight",
}
QUESTIONS = ["what is the capital of france", "Who wrote 'Hamlet'?", "How many eggs does a hen lay?", "Is it raining?"]


def embed(text):
    """Return the counts (729,) of adjacent pairs of the letters a to z and the space."""
    letters = [max(0, ord(c) - 96) for c in text.lower() if c == " " or "a" <= c <= "z"]
    return np.bincount([27 * a + b for a, b in pairwise(letters)], minlength=729).astype(float)


cache = hopmin.Memory(np.stack([embed(question) for question in ANSWERS]), values=list(ANSWERS.values()))
queries = np.stack([embed(question) for question in QUESTIONS])

for least in (None, 0.8):
    print(f"min_similarity = {least}")
    found = cache.lookup(queries, min_similarity=least)
    for question, answer, index, similarity in zip(QUESTIONS, *found, strict=True):
        print(f"  {question:32}{answer if index >= 0 else '(not stored)':14}similarity {similarity:.2f}")

cache.add(embed("Is it raining?"), "no")
print(f"after adding it: {cache.lookup(embed('Is it raining'), min_similarity=0.8).values}")
