"""Search notes by meaning and by metadata: the nearest notes among those that a condition in SQL selects.

The condition may come from a user: it can only read the metadata columns. Embeddings are counts of hashed triples of
letters. Run: python examples/store_notes.py
"""

import tempfile
import zlib
from pathlib import Path

import numpy as np

import hopmin

D = 512
NOTES = [  # title, language, year, text
    ("bread", "en", 2021, "Sourdough bread: feed the starter, knead, let it rise overnight, bake at 250 degrees."),
    ("brot", "de", 2023, "Brot backen: Sauerteig ansetzen, kneten, ruhen lassen, bei 250 Grad backen."),
    ("pizza", "en", 2024, "Pizza dough: flour, water, yeast; let it rise, bake very hot."),
    ("bike", "en", 2024, "Bike repair: replace the chain, oil it, adjust the brakes."),
    ("rad", "de", 2020, "Fahrrad reparieren: Kette wechseln, Bremsen einstellen."),
    ("trip", "en", 2019, "Train trip to Trieste: book the night train, bring a warm coat."),
]


def embed(text):
    """Return the counts (D,) of the hashes of triples of adjacent characters."""
    text = f"  {text.lower()}  "
    triples = [zlib.crc32(text[i : i + 3].encode()) % D for i in range(len(text) - 2)]
    return np.bincount(triples, minlength=D).astype(np.float32)


def search(store, query, where=None, parameters=()):
    found = store.nearest(embed(query), 2, metric="cosine", where=where, parameters=parameters)
    hits = [f"{key} ({distance:.2f})" for key, distance in zip(found.keys, found.distances, strict=True) if key]
    print(f"{query!r:28}{where or 'everywhere':28}{', '.join(hits)}")


with tempfile.TemporaryDirectory() as folder:
    columns = {"lang": "text", "year": "integer"}
    with hopmin.Store(Path(folder) / "notes.hopmin", d=D, columns=columns, indexes=["year"]) as store:
        titles, langs, years, texts = zip(*NOTES, strict=True)
        patterns = np.stack([embed(text) for text in texts])
        store.put(titles, patterns, texts, {"lang": langs, "year": years})
        search(store, "how to bake bread")
        search(store, "how to bake bread", "year >= ?", [2022])
        search(store, "kette wechseln", "lang = ?", ["de"])
        try:
            search(store, "bread", "1); DROP TABLE entries; --")
        except ValueError as error:
            print(error)
