"""Judge an index that finds nearest neighbours: an exact one, and one that expands the square.

The file xfails.txt lists the laws that the second is known to break. On the command line, from this folder:

    hopmin conformance judge_an_index:expanded --family nearest --xfails xfails.txt

Needs hypothesis (the extra "testing"). Run: python examples/judge_an_index.py
"""

from pathlib import Path

import numpy as np

from hopmin.cli import read_xfails
from hopmin.testing import conformance


def exact(queries, patterns, k):
    """Take differences first, in float64."""
    squares = np.square(queries[:, None].astype(float) - patterns).sum(axis=2)
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(squares, order, axis=1)).astype(patterns.dtype), order


def expanded(queries, patterns, k):
    """Compute |x|^2 - 2 x p + |p|^2, which is fast, and wrong far from the origin."""
    squares = np.square(queries).sum(axis=1)[:, None] - 2 * queries @ patterns.T + np.square(patterns).sum(axis=1)
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.maximum(np.take_along_axis(squares, order, axis=1), 0)), order


if __name__ == "__main__":
    known = read_xfails(Path(__file__).with_name("xfails.txt"))
    for index, expected in ((exact, {}), (expanded, known)):
        report = conformance(index, "nearest", expected_failures=expected, seed=0, examples=50)
        print(f"{index.__name__}: {'as expected' if report.passed else 'not as expected'}, {report.summary()}")
        for row in report.rows:
            if row.status != "skipped":
                print(f"    {row.law}: {row.status} {row.reason}".rstrip())
