"""The paper's relation between model size and data size, N = O(D^2), with its assumptions written out.

Niu et al. 2024, equation 2: a transformer of l layers, width w and T positions has about N = A l w^2 parameters, and a
state of n = T w dimensions; T tokens make one pattern, so D tokens make D / T patterns. Equation 14: if patterns fill
disjoint balls of the paper's radius, Z <= (D / T) V_n, and V_n is about 1 / sqrt(pi n). So Z = 1, where the paper's
bound on the cross-entropy is least, requires

    n <= (D / T)^2 / pi,    N = A l w n / T <= A l w D^2 / (pi T^3)    [`parameter_bound`]

The condition is necessary, not sufficient: it uses an upper bound on Z, which exceeds Z by a factor exp(Theta(n)). The
bound grows as D^2 if w / T is fixed. With T and l fixed, w = n / T grows as well, and the same argument gives D^4
[`parameter_bound_any_width`]. The paper's measurements are [`measured_ratios`] and [`measured_exponent`].
"""

from __future__ import annotations

import math
from typing import NamedTuple

from hopmin import _check

PER_LAYER = 10.0  # A: 3 for queries, keys, values, 1 for the output, 6 for a hidden layer three times as wide
TABLE_3 = ((39.95e6, 214.18e6), (60.26e6, 261.78e6), (80.20e6, 309.37e6))  # parameters N, tokens D*


class ModelShape(NamedTuple):
    """The size of a transformer.

    Parameters
    ----------
    layers : int
        l, the number of layers.
    width : int
        w, the dimension of an activation.
    positions : int
        T, the number of tokens in a sequence.
    """

    layers: int
    width: int
    positions: int


def parameter_count(shape: ModelShape, *, per_layer: float = PER_LAYER) -> float:
    """Return N = A l w^2, the number of parameters without embeddings (equation 2); A is `per_layer`.

    >>> parameter_count(ModelShape(24, 1024, 1024))    # GPT-2 medium with hidden layers of 3072, appendix E
    251658240.0
    """
    shape = _check.instance("shape", shape, ModelShape)
    return _check.number("per_layer", per_layer, "(0, inf)") * shape.layers * shape.width**2


def state_dimension(shape: ModelShape) -> int:
    """Return n = T w, the dimension of the paper's state, which is all activations of a layer at once.

    >>> state_dimension(ModelShape(24, 1024, 256))
    262144
    """
    shape = _check.instance("shape", shape, ModelShape)
    return shape.positions * shape.width


def parameter_bound(tokens: float, shape: ModelShape, *, per_layer: float = PER_LAYER) -> float:
    """Return A l w D^2 / (pi T^3), the largest number of parameters for which Z can be 1, given D tokens.

    Parameters
    ----------
    tokens : float
        D, the number of tokens of training data.
    shape : ModelShape
        Layers l, width w and positions T.
    per_layer : float, default 10.0
        A, the number of parameters of a layer over the squared width.

    Returns
    -------
    float
        The bound.

    Raises
    ------
    ValueError
        If `tokens` is not finite and > 0.

    Examples
    --------
    >>> shape = ModelShape(8, 1280, 1024)
    >>> f"{parameter_bound(214.18e6, shape):.3g}", f"{parameter_bound(1.0, shape):.2g}"
    ('1.39e+12', '3e-05')
    """
    tokens, shape = _check.number("tokens", tokens, "(0, inf)"), _check.instance("shape", shape, ModelShape)
    per_layer = _check.number("per_layer", per_layer, "(0, inf)")
    return per_layer * shape.layers * shape.width * tokens**2 / (math.pi * shape.positions**3)


def parameter_bound_any_width(tokens: float, *, layers: int, positions: int, per_layer: float = PER_LAYER) -> float:
    """Return A l D^4 / (pi^2 T^6), the same bound over models of any width with l layers and T positions.

    Parameters
    ----------
    tokens : float
        D, the number of tokens of training data.
    layers, positions : int
        l and T.
    per_layer : float, default 10.0
        A, the number of parameters of a layer over the squared width.

    Returns
    -------
    float
        The bound.

    Raises
    ------
    ValueError
        If `tokens` is not finite and > 0.

    Examples
    --------
    >>> shape = {"layers": 8, "positions": 1024}
    >>> parameter_bound_any_width(2e6, **shape) / parameter_bound_any_width(1e6, **shape)
    16.0
    """
    tokens, per_layer = _check.number("tokens", tokens, "(0, inf)"), _check.number("per_layer", per_layer, "(0, inf)")
    layers, positions = _check.integer("layers", layers), _check.integer("positions", positions)
    width = (tokens / positions) ** 2 / (math.pi * positions)
    return per_layer * layers * width**2


def measured_ratios() -> list[float]:
    """Return N / D*^2 for the models of the paper's table 3, in parameters per squared token.

    >>> [f"{ratio:.2e}" for ratio in measured_ratios()]
    ['8.71e-10', '8.79e-10', '8.38e-10']
    """
    return [n / d**2 for n, d in TABLE_3]


def measured_exponent() -> float:
    """Return the slope of log N against log D* in table 3, by least squares through its three points.

    >>> round(measured_exponent(), 2)
    1.9
    """
    x, y = ([math.log(row[i]) for row in TABLE_3] for i in (1, 0))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
