"""Store three patterns and retrieve one of them from a query: each step is attention over the patterns.

Run: python examples/ten_lines_of_memory.py
"""

import numpy as np

import hopmin

patterns = np.array([[-2.0, -0.5], [0.2, -0.3], [1.5, 1.5]])
energy = hopmin.DistanceEnergy(beta=4.0)
x = np.array([0.9, 0.4])

print("step      state        energy   weights")
for step in range(4):
    weights = energy.weights(x, patterns)  # softmax(-beta |x - p|^2): the attention weights of this query
    print(f"{step}    {x.round(3)!s:16} {energy.value(x, patterns):z6.3f}   {weights.round(3)}")
    x = weights @ patterns  # the update, which never raises the energy

found = hopmin.retrieve([0.9, 0.4], patterns, energy)
distances, indices = hopmin.nearest([0.9, 0.4], patterns)
print(f"\nretrieve: pattern {found.nearest}, {found.reason} after {found.steps} steps")
print(f"nearest:  pattern {indices[0]}, at distance {distances[0]:.3f}")
