"""A semantic cache in a file: answer a question from the store if a similar one was asked, otherwise compute it.

The gate is `min_similarity`: what resembles nothing that is stored has index -1. Embeddings are counts of hashed
triples of letters; in practice they would be sentence embeddings. Run: python examples/store_cache.py
"""

import tempfile
import zlib
from pathlib import Path

import numpy as np

import hopmin

D = 512


def embed(text):
    """Return the counts (D,) of the hashes of triples of adjacent characters."""
    text = f"  {text.lower().strip('?!. ')}  "
    triples = [zlib.crc32(text[i : i + 3].encode()) % D for i in range(len(text) - 2)]
    return np.bincount(triples, minlength=D).astype(np.float32)


def answer(question):
    """Stand in for something slow and expensive."""
    return f"a long answer to {question!r}"


def ask(store, question, gate=0.8):
    """Return an answer and where it comes from."""
    found = store.lookup(embed(question), min_similarity=gate)
    if found.indices >= 0:
        return str(found.values), f"cached, similarity {found.similarities:.2f}"
    computed = answer(question)
    store.put(question, embed(question), computed)
    return computed, "computed"


with tempfile.TemporaryDirectory() as folder:
    for _ in range(2):  # the second time, everything is in the file
        with hopmin.Store(Path(folder) / "cache.hopmin", d=D) as store:
            for question in (
                "What is the capital of France?",
                "what is the capital of france",
                "What is the capital city of France?",
                "Who wrote Hamlet?",
            ):
                text, source = ask(store, question)
                print(f"{question:38}{source:26}{text}")
            print(f"{len(store)} answers are stored\n")
