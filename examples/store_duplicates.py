"""Find near duplicates: groups of texts that are linked by pairs within a radius of each other.

`within` returns all pairs, exactly, so no pair is missed; keys name them. Embeddings are counts of hashed triples of
letters, scaled to length one. Run: python examples/store_duplicates.py
"""

import tempfile
import zlib
from pathlib import Path

import numpy as np

import hopmin

D, RADIUS = 512, 0.7
TEXTS = {
    "mail-1": "Dear customer, your parcel will arrive on Monday between 9 and 12.",
    "mail-2": "Dear customer, your parcel will arrive on Friday between 8 and 11.",
    "mail-3": "Reminder: the meeting about the budget is moved to room 204.",
    "mail-4": "Congratulations! You have won a prize. Click here to claim it.",
    "mail-5": "Congratulations!! You have won a big prize - click here to claim it!",
    "mail-6": "The minutes of the last assembly are attached.",
    "mail-7": "dear customer, your parcel will arrive on monday between 9 and 1",
}


def embed(text):
    """Return the counts (D,) of the hashes of triples of adjacent characters, scaled to length one."""
    triples = [zlib.crc32(text.lower()[i : i + 3].encode()) % D for i in range(len(text) - 2)]
    counts = np.bincount(triples, minlength=D).astype(np.float32)
    return counts / np.linalg.norm(counts)


def groups(store):
    """Return the sets of keys that pairs within RADIUS connect, and that have more than one member."""
    keys = store.keys().tolist()
    leader = {key: key for key in keys}

    def find(key):
        while leader[key] != key:
            key = leader[key]
        return key

    for key, near in zip(keys, store.within(store.patterns, RADIUS)[1], strict=True):
        for other in near:
            leader[find(other)] = find(key)
    found = [[key for key in keys if find(key) == first] for first in dict.fromkeys(map(find, keys))]
    return [group for group in found if len(group) > 1]


with tempfile.TemporaryDirectory() as folder, hopmin.Store(Path(folder) / "mails.hopmin", d=D) as store:
    store.put(list(TEXTS), np.stack([embed(text) for text in TEXTS.values()]))
    for group in groups(store):
        print(f"{' = '.join(group)}: {TEXTS[group[0]]}")
