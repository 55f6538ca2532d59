"""The strategies draw the difficult cases that they promise."""

import numpy as np
from hypothesis import given, settings

from hopmin import testing


def test_problems_cover_difficult_cases():
    """Duplicates, single patterns and dimensions, queries that are patterns, more than a block of patterns."""
    seen = set()

    @settings(max_examples=300, database=None)
    @given(testing.problems())
    def record(problem):
        x, p, beta = problem
        seen.update(
            name
            for name, present in {
                "one pattern": len(p) == 1,
                "one dimension": p.shape[1] == 1,
                "duplicates": len(np.unique(p, axis=0)) < len(p),
                "a query that is a pattern": (x[:1] == p).all(axis=1).any(),
                "more than two blocks": len(p) > 128,
                "float32": p.dtype == np.float32,
                "float64": p.dtype == np.float64,
                "far from the origin": np.abs(p).min() > 1e5,
                "sharp": beta == 1e3,
                "soft": beta == 1e-3,
            }.items()
            if present
        )

    record()
    assert len(seen) == 10, seen
