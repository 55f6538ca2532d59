"""A memory of facts that can be corrected: a new fact under an old key replaces it, for every process that reads it.

A question retrieves the value of the most similar key, if it is similar enough (the lookup of NeuralDB, arXiv
2507.18028). Facts have a source and a year, and can be forgotten. Run: python examples/store_facts.py
"""

import tempfile
import zlib
from pathlib import Path

import numpy as np

import hopmin

D = 512
FACTS = [  # subject, fact, source, year
    ("capital of Kazakhstan", "Astana", "atlas", 2018),
    ("tallest building", "Taipei 101", "almanac", 2008),
    ("number of planets", "nine", "school", 1990),
]


def embed(text):
    """Return the counts (D,) of the hashes of triples of adjacent characters."""
    text = f"  {text.lower()}  "
    triples = [zlib.crc32(text[i : i + 3].encode()) % D for i in range(len(text) - 2)]
    return np.bincount(triples, minlength=D).astype(np.float32)


def learn(store, subject, fact, source, year):
    store.put(subject, embed(subject), fact, {"source": source, "year": year})


def ask(store, question, **conditions):
    found = store.lookup(embed(question), min_similarity=0.55, **conditions)
    return f"{found.values} ({store.get(found.keys).metadata['year']})" if found.indices >= 0 else "I do not know"


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "facts.hopmin"
    columns = {"source": "text", "year": "integer"}
    with hopmin.Store(path, d=D, columns=columns) as writer, hopmin.Store(path, read_only=True) as reader:
        for fact in FACTS:
            learn(writer, *fact)
        print("planets:    ", ask(reader, "the number of planets"))
        learn(writer, "number of planets", "eight", "IAU", 2006)  # a correction
        learn(writer, "tallest building", "Burj Khalifa", "almanac", 2010)
        print("corrected:  ", ask(reader, "the number of planets"))
        print("building:   ", ask(reader, "the tallest building?"))
        print("recent only:", ask(reader, "the number of planets", where="year > ?", parameters=[2009]))
        print("unknown:    ", ask(reader, "price of tea in China"))
        writer.remove("capital of Kazakhstan")
        print("forgotten:  ", ask(reader, "capital of Kazakhstan"))
