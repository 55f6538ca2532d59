"""Laws that judge any implementation, ours or yours (needs hypothesis).

A law takes the implementation as its argument, draws instances until one fails or it has seen enough, and raises
AssertionError with the numbers of the smallest failing one:

    from hopmin import testing
    testing.law_descent(MyEnergy)                    # MyEnergy(beta) has value, update and guaranteed_decrease
    testing.law_nearest(my_nearest)                  # my_nearest(queries, patterns, k) gives (distances, indices)
    testing.law_softmax(my_logsumexp, my_softmax)

`examples=1000` looks harder; `law.statement(implementation, ...)` tries the one instance you give. A law knows NumPy,
`math` and what it is given, and nothing else of hopmin.

- what is drawn: `strategies.py`
- numerics: [`law_softmax`], [`law_logsumexp`], [`law_digits`], [`law_softmax_derivative`],
  [`law_entmax`]
- any energy: [`law_descent`], [`law_gradient`], [`law_hessian`], [`law_downhill`], [`law_weights`],
  [`law_permutation`], [`law_rotation`]
- some energies: [`law_bounds`], [`law_residual`], [`law_equal_norms`], [`law_duplication`], [`law_translation`],
  [`law_cold_limit`], [`law_cold_match`], [`law_hot_limit`]
- search: [`law_nearest`], [`law_nearest_reals`]
- anything of queries and patterns: [`law_layout`], [`law_rows`]
- transformers: [`law_backward`], [`law_model_gradient`], [`law_causal`], [`law_attention_is_update`]
"""

from hopmin.testing.laws import (
    law_attention_is_update,
    law_backward,
    law_bounds,
    law_causal,
    law_cold_limit,
    law_cold_match,
    law_descent,
    law_digits,
    law_downhill,
    law_duplication,
    law_entmax,
    law_equal_norms,
    law_gradient,
    law_hessian,
    law_hot_limit,
    law_layout,
    law_logsumexp,
    law_model_gradient,
    law_nearest,
    law_nearest_reals,
    law_permutation,
    law_residual,
    law_rotation,
    law_rows,
    law_softmax,
    law_softmax_derivative,
    law_translation,
    law_weights,
)
from hopmin.testing.strategies import Problem, betas, lattice_problems, problems, scores

__all__ = [
    "Problem",
    "betas",
    "lattice_problems",
    "law_attention_is_update",
    "law_backward",
    "law_bounds",
    "law_causal",
    "law_cold_limit",
    "law_cold_match",
    "law_descent",
    "law_digits",
    "law_downhill",
    "law_duplication",
    "law_entmax",
    "law_equal_norms",
    "law_gradient",
    "law_hessian",
    "law_hot_limit",
    "law_layout",
    "law_logsumexp",
    "law_model_gradient",
    "law_nearest",
    "law_nearest_reals",
    "law_permutation",
    "law_residual",
    "law_rotation",
    "law_rows",
    "law_softmax",
    "law_softmax_derivative",
    "law_translation",
    "law_weights",
    "problems",
    "scores",
]
