"""Property-based tests, called laws, for any implementation of the same functions (needs hypothesis).

A law takes the implementation as its argument, draws up to a given number of examples, and raises AssertionError with
the numbers of the smallest failing example:

    from hopmin import testing
    testing.law_descent(MyEnergy)                    # MyEnergy(beta) has value, update and guaranteed_decrease
    testing.law_nearest(my_nearest)                  # my_nearest(queries, patterns, k) returns (distances, indices)
    testing.law_softmax(my_logsumexp, my_softmax)

`examples=1000` draws more examples; `law.statement(implementation, ...)` checks a single instance. The laws use only
NumPy, `math` and their arguments, no other module of hopmin.

- the examples drawn: `strategies.py`
- numerics: [`law_softmax`], [`law_logsumexp`], [`law_accuracy`], [`law_softmax_derivative`], [`law_entmax`]
- any energy: [`law_descent`], [`law_gradient`], [`law_hessian`], [`law_descent_direction`], [`law_weights`],
  [`law_permutation`], [`law_rotation`]
- some energies: [`law_bounds`], [`law_gradient_step`], [`law_equal_norms`], [`law_duplication`], [`law_translation`],
  [`law_large_beta_nearest`], [`law_large_beta_match`], [`law_small_beta_mean`]
- search: [`law_nearest`], [`law_nearest_accuracy`]
- functions of queries and patterns: [`law_memory_layout`], [`law_batching`]
- transformers: [`law_backward`], [`law_model_gradient`], [`law_causal`], [`law_attention_is_update`]
"""

from hopmin.testing.laws import (
    law_accuracy,
    law_attention_is_update,
    law_backward,
    law_batching,
    law_bounds,
    law_causal,
    law_descent,
    law_descent_direction,
    law_duplication,
    law_entmax,
    law_equal_norms,
    law_gradient,
    law_gradient_step,
    law_hessian,
    law_large_beta_match,
    law_large_beta_nearest,
    law_logsumexp,
    law_memory_layout,
    law_model_gradient,
    law_nearest,
    law_nearest_accuracy,
    law_permutation,
    law_rotation,
    law_small_beta_mean,
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
    "law_accuracy",
    "law_attention_is_update",
    "law_backward",
    "law_batching",
    "law_bounds",
    "law_causal",
    "law_descent",
    "law_descent_direction",
    "law_duplication",
    "law_entmax",
    "law_equal_norms",
    "law_gradient",
    "law_gradient_step",
    "law_hessian",
    "law_large_beta_match",
    "law_large_beta_nearest",
    "law_logsumexp",
    "law_memory_layout",
    "law_model_gradient",
    "law_nearest",
    "law_nearest_accuracy",
    "law_permutation",
    "law_rotation",
    "law_small_beta_mean",
    "law_softmax",
    "law_softmax_derivative",
    "law_translation",
    "law_weights",
    "problems",
    "scores",
]
