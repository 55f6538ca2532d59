"""Complete handwritten digits from their upper halves, with the 8 x 8 images of scikit-learn as the stored patterns.

Needs the extra "sklearn". Run: python examples/digits.py
"""

import numpy as np
from sklearn.datasets import load_digits

import hopmin

STORED = 100
images = load_digits().data[:STORED] / 16
known = np.arange(64) < 32  # the upper four rows of pixels


def drawn(image):
    """Return an image as eight lines of characters; darker pixels get denser characters."""
    return ["".join(" .:*#"[min(int(5 * pixel), 4)] * 2 for pixel in row) for row in image.reshape(8, 8)]


# The lower half is unknown: start from the mean image there, and keep the known pixels fixed while retrieving.
queries = np.where(known, images, images.mean(axis=0))
energy = hopmin.DistanceEnergy(beta=100.0)
completed = hopmin.retrieve(queries, images, energy, clamp=known).states
right = np.abs(completed - images).max(axis=1) < 0.05

print(f"{'stored':18}{'given':18}{'completed':18}")
for i in (3, 5):
    given = drawn(np.where(known, images[i], 0))
    for columns in zip(drawn(images[i]), given, drawn(completed[i]), strict=True):
        print("  ".join(columns))
    print()
print(f"{right.sum()} of {STORED} digits are completed exactly from their upper half.")
