"""Label texts from a few examples: an update averages the labels by weight, and the best weight says when to ask.

The labels are one-hot values, so the update is the probability of each label. A text with no clear label is added with
the answer of a person, and the next one like it is labelled. Run: python examples/store_labels.py
"""

import tempfile
import zlib
from pathlib import Path

import numpy as np

import hopmin

D, LABELS = 1024, ["billing", "delivery", "account"]
EXAMPLES = [
    ("I was charged twice this month", 0),
    ("Please refund the invoice", 0),
    ("My parcel has not arrived", 1),
    ("The delivery is late again", 1),
    ("I cannot log in to my account", 2),
    ("How do I change my password?", 2),
]
QUESTIONS = [
    ("Why was my card charged two times this month?", 0),
    ("The parcel has not arrived yet", 1),
    ("I forgot the password of my account", 2),
    ("Where can I download an app?", 2),
    ("Where do I download the app again?", 2),
]


def embed(text):
    """Return the counts (D,) of the hashes of triples of adjacent characters, scaled to length one."""
    text = f"  {text.lower()}  "
    triples = [zlib.crc32(text[i : i + 3].encode()) % D for i in range(len(text) - 2)]
    counts = np.bincount(triples, minlength=D).astype(np.float32)
    return counts / np.linalg.norm(counts)


with (
    tempfile.TemporaryDirectory() as folder,
    hopmin.Store(Path(folder) / "labels.hopmin", d=D, energy=hopmin.DistanceEnergy(8.0)) as store,
):
    texts, labels = zip(*EXAMPLES, strict=True)
    store.put(texts, np.stack([embed(text) for text in texts]), np.eye(len(LABELS))[list(labels)])
    for text, truth in QUESTIONS:
        shares = store.update(embed(text))
        best = int(shares.argmax())
        if shares[best] > 0.7:
            print(f"{text:48}{LABELS[best]:10}{shares[best]:.2f}")
        else:  # ask a person
            print(f"{text:48}{'?':10}{shares[best]:.2f}  a person says {LABELS[truth]}")
            store.put(text, embed(text), np.eye(len(LABELS))[truth])
