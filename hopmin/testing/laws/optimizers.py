"""Laws of AdamW, gradient clipping and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import at_most, close, same
from hopmin.testing.registry import law
from hopmin.testing.strategies import Array, dtypes

with needed_by("hopmin.testing", "testing"):
    import mpmath
    from hypothesis import strategies as st

_context = mpmath.MPContext()
_context.dps = 50
_exact = np.vectorize(_context.mpf, otypes=[object])
Factory = Callable[..., Any]


class Training(NamedTuple):
    """Parameters by name, the gradients of each step, and the options of the optimizer."""

    parameters: dict[str, Array]
    gradients: list[dict[str, Array]]
    options: dict[str, Any]


@st.composite
def trainings(draw: st.DrawFn, *shapes: tuple[int, ...]) -> Training:
    """Draw one or two parameters of one of the shapes, one to six steps or twelve, and options.

    Gradients of one parameter are 1e-4 to 1e3 times those of another, and some are 0. Options include no decay, no
    momentum, and an epsilon as large as the gradients.
    """
    dtype, rng = np.dtype(draw(dtypes())), np.random.default_rng(draw(st.integers(0, 2**32)))
    names, least = ("a", "b")[: draw(st.integers(1, 2))], -1 if dtype.itemsize < 4 else -4
    options = {
        "lr": draw(st.sampled_from([0.1, 1e-3])),
        "betas": (draw(st.sampled_from([0.9, 0.0, 0.5])), draw(st.sampled_from([0.999, 0.9, 0.99]))),
        "eps": draw(st.sampled_from([1e-8, 1e-3, 0.1])),
        "weight_decay": draw(st.sampled_from([0.1, 0.0, 0.5])),
    }
    shape = draw(st.sampled_from(shapes))
    parameters = {name: rng.normal(size=shape).astype(dtype) for name in names}
    sizes = {name: 10.0 ** draw(st.integers(least, 3)) for name in names}
    gradients = [
        {name: (rng.normal(size=shape) * sizes[name]).astype(dtype) for name in names}
        for _ in range(int(rng.choice([1, 2, 3, 4, 5, 6, 12])))
    ]
    if draw(st.booleans()):
        gradients[0][names[0]][...] = 0
    return Training(parameters, gradients, options)


def _steps(training: Training, decay: float) -> dict[str, tuple[Array, Array]]:
    """Return each parameter after all steps, computed to 50 digits, and a bound on rounding in its dtype.

    With machine epsilon e, after t steps m is off by at most 4 t e mean|g| (its own recursion, of |g|), v by a relative
    4 t e. Corrections by 1 - b^t are off by t e / (1 - b) if b is rounded to the dtype. So a step of
    lr m / (sqrt(v) + eps) is off by lr mean|g| / (sqrt(v) + eps) times e (8 + 8 t + t / (1 - b1) + t / (1 - b2)). The
    parameter itself is rounded three times in each step.
    """
    options, found = training.options, {}
    lr, eps, wd = (_context.mpf(x) for x in (options["lr"], options["eps"], decay))
    b1, b2 = map(_context.mpf, options["betas"])
    for name, start in training.parameters.items():
        p, e = _exact(start), float(np.finfo(start.dtype).eps)
        m, v, size, slack = p * 0, p * 0, p * 0, np.zeros(start.shape)
        for t, gradients in enumerate(training.gradients, 1):
            g = _exact(gradients[name])
            m, size, v = b1 * m + (1 - b1) * g, b1 * size + (1 - b1) * abs(g), b2 * v + (1 - b2) * g * g
            scale = lr / (1 - b1**t) / (np.vectorize(_context.sqrt, otypes=[object])(v / (1 - b2**t)) + eps)
            p = p - lr * wd * p - m * scale
            relative = 8 + 8 * t + t / (1 - float(b1)) + t / (1 - float(b2))
            slack += e * (3 * np.abs(p.astype(float)) + relative * (size * scale).astype(float))
        # a result that loses the smallest normal numbers in m, v or p is right
        found[name] = p.astype(float), slack + float(np.finfo(start.dtype).tiny)
    return found


def _run(optimizer: Factory, training: Training) -> dict[str, Array]:
    parameters = {name: p.copy() for name, p in training.parameters.items()}
    made = optimizer(parameters, **training.options)
    for gradients in training.gradients:
        made.step({name: g.copy() for name, g in gradients.items()})
    return parameters


@law("optimizer", source="Loshchilov & Hutter 2019, algorithm 2", training=trainings((1, 2), (2, 2)))
def law_adamw(optimizer: Factory, /, training: Training) -> None:
    """Matrices after t steps follow AdamW, computed to 50 digits:

        m <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
        p <- p - lr wd p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Decay does not pass through m and v, epsilon is outside of the root, and each parameter has its own m and v. The
    slack follows the rounding of m, v, both corrections and each step, in the dtype of the parameters.
    """  # fmt: skip
    expected = _steps(training, training.options["weight_decay"])
    for name, p in _run(optimizer, training).items():
        close(p, *expected[name], f"parameter {name} after {len(training.gradients)} steps")


@law("optimizer", training=trainings((3,)))
def law_adamw_gains(optimizer: Factory, /, training: Training) -> None:
    """Vectors, such as gains and biases, follow AdamW, with decay or without; see law_adamw."""
    ways = [_steps(training, decay) for decay in (training.options["weight_decay"], 0.0)]
    for name, p in _run(optimizer, training).items():
        (with_decay, _), (without, _) = (way[name] for way in ways)
        way = ways[int(np.abs(p - without).sum() < np.abs(p - with_decay).sum())]
        close(p, *way[name], f"parameter {name} after {len(training.gradients)} steps")


@law("optimizer", promises=("matrices",), training=trainings((3,)))
def law_adamw_vectors(optimizer: Factory, /, training: Training) -> None:
    """Vectors, such as gains and biases, follow AdamW without decay; see law_adamw."""
    expected = _steps(training, 0.0)
    for name, p in _run(optimizer, training).items():
        close(p, *expected[name], f"parameter {name} after {len(training.gradients)} steps")


@law("optimizer", training=trainings((1, 2), (2, 2)))
def law_step_arrays(optimizer: Factory, /, training: Training) -> None:
    """A step changes parameters in place, keeps their dtype, and does not change the gradients."""
    parameters = {name: p.copy() for name, p in training.parameters.items()}
    arrays, made = dict(parameters), optimizer(parameters, **training.options)
    for gradients in training.gradients:
        given = {name: g.copy() for name, g in gradients.items()}
        made.step(given)
        for name, g in gradients.items():
            same(given[name], g, f"gradient of {name} after the step")
    for name, p in arrays.items():
        if parameters[name] is not p or p.dtype != training.parameters[name].dtype:
            raise AssertionError(f"parameter {name} must be changed in place")


@st.composite
def gradient_dicts(draw: st.DrawFn) -> dict[str, Array]:
    """Draw one to three gradients of different shapes and sizes, of a joint norm of 0 or at least 0.1."""
    dtype, rng = draw(dtypes()), np.random.default_rng(draw(st.integers(0, 2**32)))
    shapes = draw(st.lists(st.sampled_from([(1,), (3,), (2, 2), (40,)]), min_size=1, max_size=3))
    gradients = {
        name: rng.normal(size=shape) * 10.0 ** draw(st.integers(-2, 2))
        for name, shape in zip("abc", shapes, strict=False)
    }
    gradients["a"].flat[0] += math.copysign(0.1, gradients["a"].flat[0])
    scale = draw(st.sampled_from([1, 1, 1, 0]))
    return {name: (g * scale).astype(dtype) for name, g in gradients.items()}


@law("optimizer", gradients=gradient_dicts(), max_norm=st.sampled_from([1.0, 0.1, 5.0, 100.0]))
def law_clipping(
    clip: Callable[[Mapping[str, Array], float], Any], /, gradients: dict[str, Array], max_norm: float
) -> None:
    """clip(gradients, max_norm) scales all by min(1, max_norm / norm) in place, and returns norm, their joint one.

    A sum of n squares is off by n eps, its root by half of that; products by two more. PyTorch divides by
    norm + 1e-6, which is allowed. Below max_norm, gradients keep their bits.
    """
    exact = math.sqrt(math.fsum(float(x) ** 2 for g in gradients.values() for x in g.flat))
    eps = float(np.finfo(gradients["a"].dtype).eps)
    relative = eps * (sum(g.size for g in gradients.values()) + 8)
    given = {name: g.copy() for name, g in gradients.items()}
    close(float(clip(dict(given), max_norm)), exact, relative * exact, "norm")
    for name, g in gradients.items():
        if exact < max_norm * (1 - relative):
            same(given[name], g, f"gradient of {name}, which is not clipped")
        else:
            expected = g.astype(np.float64) * min(1.0, max_norm / exact)
            close(
                given[name], expected, (2 * relative + 1e-6 / exact) * np.abs(expected), f"clipped gradient of {name}"
            )


@law(
    "optimizer", peak=st.sampled_from([1.0, 3e-4]), part=st.sampled_from([0.1, 0.0, 0.5]), warmup=st.integers(0, 12),
    decay=st.integers(4, 60),
)  # fmt: skip
def law_schedule(schedule: Callable[..., float], /, peak: float, part: float, warmup: int, decay: int) -> None:
    """A linear warm-up, if any, to exactly peak, then half a cosine to exactly the floor, which later steps keep.

    Steps are counted from 0. Whether the first rate is 0 or one part of the peak, and whether the cosine starts at the
    last step of the warm-up or after it, is left open: the rates of the warm-up have equal differences, the peak is
    reached at step warmup - 1 or warmup, the floor at step steps - 1 or steps, and between them neighbours satisfy
    r_- + r_+ = 2 cos(pi / n) r about the middle of peak and floor, for an n within 1 of steps - warmup, from at most
    one such step below the peak. The slack is 16 ulp of the peak.
    """
    floor, steps = part * peak, warmup + decay
    rates = np.array(
        [float(schedule(i, peak=peak, floor=floor, steps=steps, warmup_steps=warmup)) for i in range(steps + 4)]
    )
    slack = 16 * np.finfo(np.float64).eps * peak
    if warmup:
        close(rates[warmup - 1 : warmup + 1].max(), peak, slack, "peak")
        at_most(rates[0], peak / warmup, slack, "first rate")
    at_most(rates, peak, slack, "rates")
    close(min(abs(rates[steps - 1] - floor), abs(rates[steps] - floor)), 0.0, slack, "last rate minus the floor")
    close(rates[steps:], np.full(len(rates) - steps, floor), slack, "rates after the end")
    if warmup > 1:
        differences = np.diff(rates[:warmup])
        close(differences, np.full(warmup - 1, differences.mean()), slack, "differences of the warm-up")
        at_most(0.0, differences, 0, "differences of the warm-up")
    middle, half = (peak + floor) / 2, (peak - floor) / 2
    at_most(middle + half * math.cos(math.pi / (decay - 1)), rates[warmup], slack, "first rate after the warm-up")
    wave = rates[warmup:steps] - middle
    turns = [2 * math.cos(math.pi / n) for n in (decay - 1, decay, decay + 1)]
    errors = [np.abs(wave[:-2] + wave[2:] - turn * wave[1:-1]).max() for turn in turns]
    at_most(min(errors), 0.0, slack, "deviation from a cosine")
