"""Property-based tests, called laws, for any implementation of the same functions (needs hypothesis).

A law takes the implementation as its argument, draws up to a given number of examples, and raises AssertionError with
the numbers of the smallest failing example:

    from hopmin import testing
    testing.law_descent(MyEnergy)                    # MyEnergy(beta) has value, update and guaranteed_decrease
    testing.law_nearest(my_nearest)                  # my_nearest(queries, patterns, k) returns (distances, indices)
    testing.law_softmax(my_logsumexp, my_softmax)

`conformance(implementation, family)` judges by all laws of a family and returns a report, `conformance_tests` makes a
pytest item of each. `examples=1000` draws more examples; `law.statement(implementation, ...)` checks a single instance.
The laws use only NumPy, `math` and their arguments, no other module of hopmin.

The families, and the laws of each, are the table in docs/testing.md, which is made from the registry; so are the
names that this module exports: all laws, besides what it imports.

- all laws of a family: `conformance.py`; arrays of other libraries: `adapters.py`
- the examples drawn: `strategies.py`
"""

from typing import TYPE_CHECKING

from hopmin.testing import laws  # noqa: F401  (registers them)
from hopmin.testing.compare import Violation
from hopmin.testing.conformance import Report, conformance, conformance_tests
from hopmin.testing.registry import LAWS, Law
from hopmin.testing.strategies import Problem, betas, lattice_problems, problems, scores

globals().update(LAWS)

__all__ = [
    "Problem",
    "Report",
    "Violation",
    "betas",
    "conformance",
    "conformance_tests",
    "lattice_problems",
    "problems",
    "scores",
    *LAWS,
]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Law:
        """Return a law; type checkers do not see those that the registry holds."""
