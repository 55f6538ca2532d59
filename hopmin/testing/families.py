"""The families: how an implementation of each kind is called, and the smallest call that shows whether it can be."""

from __future__ import annotations

from typing import Any

import numpy as np

from hopmin.testing.registry import family

_ROW = np.array([0.0, 1.0])
_ROWS = np.array([[0.0, 1.0], [1.0, 0.0]])
_EYE = np.eye(2)


def _call(name: str, *arguments: Any) -> Any:
    """Return a probe that calls the implementation, or its attribute of that name, and returns the implementation."""

    def probe(implementation: Any) -> Any:
        subject(implementation, name)(*(a.copy() if isinstance(a, np.ndarray) else a for a in arguments))
        return implementation

    return probe


def subject(implementation: Any, name: str) -> Any:
    """Return the attribute of that name, if there is one, and else the implementation itself."""
    return getattr(implementation, name, implementation)


# A family of functions takes the function itself, or a module or object that has it as an attribute of that name.
family(
    "logsumexp", "logsumexp(a, axis=None) -> array",
    "The logarithm of the sum of exponentials, over all elements or along an axis.",
    probe=_call("logsumexp", _ROW),
)  # fmt: skip
family(
    "softmax", "softmax(a, axis=None) -> array",
    "exp(a) over its sum, over all elements or along an axis. With .logsumexp and .softmax_derivative, these too.",
    probe=_call("softmax", _ROW),
)  # fmt: skip
family(
    "log_softmax", "log_softmax(a, axis=None) -> array",
    "The logarithm of softmax.", probe=_call("log_softmax", _ROW),
)  # fmt: skip
family(
    "entmax", "entmax(a, alpha) -> array",
    "The distribution that maximizes <p, a> plus the Tsallis entropy of order alpha, of a vector.",
    probe=_call("entmax", _ROW, 1.5),
)  # fmt: skip
family(
    "energy", "energy(beta) -> object with value(queries, patterns) -> (m,)",
    "An energy of patterns (n, d). Judged if there: gradient, hessian, weights, update, each of (queries, patterns), "
    "and guaranteed_decrease(queries, updated), by which the update lowers the energy at least.",
    probe=lambda energy: _probe_energy(energy),
)  # fmt: skip
family(
    "binary_energy", "memory(patterns) -> object with value(states) -> (m,) and update(states) -> (m, d)",
    "A memory of patterns (n, d) of -1 and 1, whose energy is a function of the products with the patterns. The "
    "update visits each neuron once, one at a time, and gives it the sign that lowers the energy, the others fixed. "
    "`memory.kind`, a key of `retrieval.KINDS`, names the function that energies are held to.",
    subject="binary", probe=lambda binary: _probe_binary(binary),
)  # fmt: skip
family(
    "retrieval",
    "retrieve(queries, patterns, beta, *, tolerance, max_steps) -> object with states (m, d), steps (m,), reason (m,)",
    "Replaces each query by the mean of the patterns with weights softmax(beta s), s_i = -|x - p_i|^2 or x.p_i, until "
    "a step is no longer than the tolerance (reason 'converged'), or max_steps times ('max_steps'). Judged if there: "
    "energies (max(steps) + 1, m) of the result, before the first step and after each.",
    subject="retrieve", probe=lambda retrieve: _probe_retrieval(retrieve),
)  # fmt: skip
family(
    "nearest", "nearest(queries, patterns, k) -> (distances, indices), each (m, k)",
    "The k nearest patterns by Euclidean distance. Judged if there: .cosine(queries, patterns, k), by 1 - cos; "
    ".dot(queries, patterns, k), by largest product; .within(queries, patterns, radius) -> lists of m arrays "
    "(distances, indices), or (distances, indices, offsets) as in a sparse matrix by rows.",
    probe=_call("nearest", _ROWS, _EYE, 1),
)  # fmt: skip
family(
    "attention", "attention(q, k, v) -> y, all of shape (T, E)",
    "Causal attention of one head, scores scaled by 1 / sqrt(E), without dropout. Judged if there: "
    "masked(q, k, v, mask), not causal, where mask (T, T) is True at the keys that a query sees; "
    "padded(q, k, v, real) on (B, T, E), causal, where real (B, T) is False at padding, left or right; "
    "heads(q, k, v, H) on (T, H E), causal; grouped(q, k, v, H, G), q (T, H E), k and v (T, G E); cached() -> step, "
    "where step(q, k, v) takes the next rows and returns theirs; and energy(beta), an object with "
    "update(queries, patterns, values) that attention is held to.",
    probe=_call("attention", _ROWS, _ROWS, _ROWS),
)  # fmt: skip
family(
    "layer", "layer(*inputs) -> (y, backward), and backward(dy) -> gradients",
    "A layer with its backward pass, which returns one gradient per floating input, in their order. `layer.inputs` is "
    "a tuple of example inputs, or a strategy that draws them. `layer.kind`, a key of `layers.KINDS`, names the "
    "definition that its forward pass is held to. `layer.dropout(x, rate, rng)` drops nothing if rng is None.",
    probe=lambda layer: layer,
)  # fmt: skip
family(
    "language_model",
    "model.logits(tokens) -> (B, T, V) of tokens (B, T), with config.vocabulary and config.positions",
    "A causal language model in evaluation. Judged if there: loss_and_gradients(tokens, targets, rng) -> (loss, dict), "
    "the mean over targets that are not -1, without dropout if rng is None, and the gradients of the arrays in "
    "`parameters`, a dict; and cached() -> step, where step(tokens) takes the next tokens (B, t) and returns the last "
    "logits (B, V).",
    subject="model", probe=lambda model: _probe_model(model),
)  # fmt: skip
family(
    "optimizer", "optimizer(parameters, *, lr, betas, eps, weight_decay) -> object with step(gradients)",
    "AdamW on a dict of arrays, which step changes in place; gradients is a dict of the same names. Judged if there: "
    "clip(gradients, max_norm) -> norm, in place; and schedule(step, *, peak, floor, steps, warmup_steps) -> rate.",
    probe=lambda optimizer: _probe_optimizer(optimizer),
)  # fmt: skip
family(
    "sampler", "sampler(logits, rng, *, temperature=1.0, top_k=None, top_p=None) -> token",
    "Draws a token from logits (V,) with a NumPy generator. A top_k above V keeps all tokens.",
    probe=_call("sampler", _ROW, np.random.default_rng(0)),
)  # fmt: skip
family(
    "memory", "memory(patterns) -> object with nearest(queries, k) -> (distances, indices), each (m, k), and len()",
    "A memory that changes; indices are positions in the order of insertion, which removing shifts. Judged if there: "
    "add(patterns), remove(indices), replace(indices, patterns), save(path) and load(path) -> memory, where path is a "
    "str that ends in .npz.",
    probe=lambda memory: _probe_memory(memory),
)  # fmt: skip


def _probe_energy(energy: Any) -> Any:
    made = energy(1.0)
    made.value(_ROWS, _EYE)
    return made


def _probe_model(model: Any) -> Any:
    model.logits(np.zeros((1, 1), dtype=np.int64))
    return model


def _probe_optimizer(optimizer: Any) -> Any:
    made = subject(optimizer, "optimizer")(
        {"w": np.ones((2, 2))}, lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0
    )
    made.step({"w": np.ones((2, 2))})
    return made


def _probe_binary(binary: Any) -> Any:
    made = subject(binary, "binary")(np.array([[1.0, -1.0], [1.0, 1.0]]))
    made.value(np.array([[1.0, -1.0]]))
    made.update(np.array([[1.0, -1.0]]))
    return made


def _probe_retrieval(retrieve: Any) -> Any:
    return subject(retrieve, "retrieve")(_ROWS.copy(), _EYE.copy(), 4.0, tolerance=1e-3, max_steps=10)


def _probe_memory(memory: Any) -> Any:
    made = subject(memory, "memory")(_EYE.copy())
    made.nearest(_ROWS.copy(), 1)
    return made
