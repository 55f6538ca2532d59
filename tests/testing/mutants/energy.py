"""Energies that are right in several styles, or wrong by a line or two."""

from functools import partial

import numpy as np

import hopmin

from . import Mutant

OF_DISTANCES = ("distance", "step", "rotation", "translation", "duplication", "nearest", "mean")
OF_PRODUCTS = ("dot", "step", "rotation", "duplication", "match", "mean")
OURS = ("values", "dtype", "single")
BITS = ("bits",) if hopmin.BACKEND == "compiled" else ()  # on the NumPy twin, updates are equal up to rounding


def softmax(a, axis=1):
    e = np.exp(a - a.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def logsumexp(a, axis=1):
    top = a.max(axis=axis, keepdims=True)
    return np.squeeze(top + np.log(np.exp(a - top).sum(axis=axis, keepdims=True)), axis)


def squared_norms(a):
    return np.square(a).sum(axis=-1)


class Plain:
    """The distance energy as NumPy formulas, in the dtype of the patterns."""

    c = 2

    def __init__(self, beta):
        self.beta = beta

    def scores(self, x, p):
        return -self.beta * squared_norms(x[:, None] - p)

    def value(self, x, p):
        return -logsumexp(self.scores(x, p)) / self.beta

    def weights(self, x, p):
        return softmax(self.scores(x, p))

    def update(self, x, p, values=None):
        return self.weights(x, p) @ (p if values is None else values)

    def gradient(self, x, p):
        return self.c * (x - self.update(x, p))

    def hessian(self, x, p):
        w, c = self.weights(x, p), self.c
        centred = p - (w @ p)[:, None]
        return c * np.eye(p.shape[1]) - c**2 * self.beta * np.einsum("mn,mnc,mne->mce", w, centred, centred)

    def guaranteed_decrease(self, x, y):
        return self.c / 2 * squared_norms(x - y)


class PlainDot(Plain):
    """The dot energy as NumPy formulas, with products of matrices."""

    c = 1

    def scores(self, x, p):
        return self.beta * x @ p.T

    def value(self, x, p):
        constant = np.log(len(p)) / self.beta + squared_norms(p).max() / 2
        return squared_norms(x) / 2 - logsumexp(self.scores(x, p)) / self.beta + constant


class PlainEuclidean(Plain):
    """The Euclidean energy; at a pattern, its gradient is one of the subgradients."""

    def scores(self, x, p):
        return -self.beta * np.sqrt(squared_norms(x[:, None] - p))

    def gradient(self, x, p):
        apart = x[:, None] - p
        lengths = np.sqrt(squared_norms(apart))[:, :, None]
        units = np.divide(apart, lengths, out=np.zeros_like(apart), where=lengths > 0)
        return np.einsum("mn,mnd->md", softmax(self.scores(x, p)), units)

    update = weights = hessian = guaranteed_decrease = property()  # none of them


class AutogradDistance(Plain):
    """The distance energy with the gradient that automatic differentiation takes: a sum of differences."""

    def gradient(self, x, p):
        return np.einsum("mn,mnd->md", self.weights(x, p), 2 * (x[:, None] - p))


class AutogradDot(PlainDot):
    """The dot energy with the gradient of each term by itself."""

    def gradient(self, x, p):
        pull = self.weights(x, p) / x.dtype.type(self.beta) @ (x.dtype.type(self.beta) * p)
        return x - pull


class ByBlocks(Plain):
    """A few patterns at a time, with a running maximum, as in FlashAttention."""

    def value(self, x, p):
        top, total = np.full(len(x), -np.inf, x.dtype), np.zeros(len(x), x.dtype)
        for i in range(0, len(p), 100):
            scores = self.scores(x, p[i : i + 100])
            higher = np.maximum(top, scores.max(axis=1))
            total, top = total * np.exp(top - higher) + np.exp(scores - higher[:, None]).sum(axis=1), higher
        return -(top + np.log(total)) / self.beta


class Unlike:
    """An energy in float64, with the results cast back."""

    def __init__(self, energy):
        self.energy = energy

    def __getattr__(self, name):
        found = getattr(self.energy, name)

        def method(x, p):
            return np.asarray(found(x.astype(float), p.astype(float)), np.result_type(x, p))

        return method


def in_double(energy):
    return lambda beta: Unlike(energy(beta))


class ValueOnly:
    def __init__(self, beta):
        self.value = Plain(beta).value


SPARSE = {f"hopmin, alpha = {alpha}": partial(hopmin.SparseEnergy, alpha) for alpha in (1.2, 1.5, 2, 3)}
RIGHT = {
    "hopmin, distance": hopmin.DistanceEnergy,
    "hopmin, dot": hopmin.DotEnergy,
    "hopmin, Euclidean": hopmin.EuclideanEnergy,
    "hopmin, Epanechnikov": hopmin.EpanechnikovEnergy,
    "hopmin, alpha = 1": partial(hopmin.SparseEnergy, 1),
    **SPARSE,
    "distance": Plain,
    "distance in float64": in_double(Plain),
    "distance by autograd": AutogradDistance,
    "distance by blocks": ByBlocks,
    "dot": PlainDot,
    "dot in float64": in_double(PlainDot),
    "dot by autograd": AutogradDot,
    "Euclidean": PlainEuclidean,
    "value only": ValueOnly,
}
PROMISES = {
    "hopmin, distance": (*OF_DISTANCES, *OURS, *BITS),
    "hopmin, dot": (*OF_PRODUCTS, *OURS),
    "hopmin, Euclidean": ("rotation", "translation", "duplication", "nearest", *OURS),
    "hopmin, Epanechnikov": ("rotation", "translation", "duplication", "mean", *OURS),
    "hopmin, alpha = 1": (*OF_PRODUCTS, *OURS),
    **dict.fromkeys(SPARSE, ("step", "rotation", "match", "mean", *OURS)),
    "distance": (*OF_DISTANCES, "values"),
    "distance in float64": (*OF_DISTANCES, "dtype"),
    "distance by autograd": (*OF_DISTANCES, "values"),
    "distance by blocks": (*OF_DISTANCES, "values"),
    "dot": (*OF_PRODUCTS, "values"),
    "dot in float64": (*OF_PRODUCTS, "dtype"),
    "dot by autograd": (*OF_PRODUCTS, "values"),
    "value only": ("distance",),
}


def mutant(base=Plain, **methods):
    """Return an energy with some methods replaced."""
    return type("Mutant", (base,), methods)


def wrong(base, **methods):
    """Return an energy of hopmin with some methods replaced by functions of (energy, *arguments)."""

    class Wrong:
        def __init__(self, beta):
            self.right = base(beta)

        def __getattr__(self, name):
            return partial(methods[name], self.right) if name in methods else getattr(self.right, name)

    return Wrong


def undivided(e, x, p):
    """The softmax weights of EuclideanEnergy, not divided by the distances."""
    return softmax(-e.beta * np.linalg.norm(x[:, None].astype(float) - p, axis=2))


def radius(e):
    """EpanechnikovEnergy with twice the radius."""
    return hopmin.EpanechnikovEnergy(e.beta / 4)


def overwrites(s, x, p):
    x -= x.mean()
    return Plain.value(s, x, p)


def storage_order(a):
    return np.ascontiguousarray(a).ravel() if a.flags.c_contiguous else a.ravel(order="K")


Sparse = partial(hopmin.SparseEnergy, 1.5)
IDENTITY = {"hessian": lambda e, x, p: np.broadcast_to(np.eye(x.shape[1]), (len(x), *[x.shape[1]] * 2))}
ONE, NATURAL = Plain(1.0), "natural"


def of_distances(law, origin=NATURAL, base=Plain, **methods):
    return Mutant(mutant(base, **methods), law, origin)


def of_products(law, origin=NATURAL, **methods):
    return Mutant(mutant(PlainDot, **methods), law, origin)


def of_ours(law, base, origin=NATURAL, **methods):
    return Mutant(wrong(base, **methods), law, origin)


def changed(law, name, change, origin=NATURAL):
    """Return the distance energy with the result of one method changed by a function of it and the queries."""
    method = getattr(hopmin.DistanceEnergy, name)
    return of_ours(law, hopmin.DistanceEnergy, origin, **{name: lambda e, x, p, *values: change(method(e, x, p, *values), x)})


def nudged_in_a_batch(result, x):
    return np.nextafter(result, np.inf) if len(x) > 1 else result


def nudged_by_strides(result, x):
    return result if x.flags.c_contiguous else np.nextafter(result, np.inf)


def with_axis(result, x):
    return result[None] if x.ndim == 1 else result


def off_for_one(result, x):
    return result * (1 + 1e-3 * (x.ndim == 1))


METHODS = ("value", "gradient", "weights", "update")
MUTANTS = {
    # the value
    "half the squared distance": of_distances("law_bounds", scores=lambda s, x, p: Plain.scores(s, x, p) / 2),
    "a mean instead of a sum": of_distances("law_bounds", value=lambda s, x, p: Plain.value(s, x, p) + np.log(len(p)) / s.beta),
    "beta ignored": of_distances("law_bounds", value=lambda s, x, p: ONE.value(x, p)),
    "not divided by beta": of_distances("law_distance_energy", value=lambda s, x, p: s.beta * Plain.value(s, x, p)),
    "the last pattern dropped": of_distances("law_bounds", value=lambda s, x, p: Plain.value(s, x, p[: max(1, len(p) - 1)])),
    "no shift": of_distances("law_distance_energy", value=lambda s, x, p: -np.log(np.exp(s.scores(x, p)).sum(axis=1)) / s.beta),
    "the square expanded": of_distances(
        "law_distance_energy", "faiss #297, scikit-learn #9354",
        scores=lambda s, x, p: -s.beta * (squared_norms(x)[:, None] - 2 * x @ p.T + squared_norms(p)),
    ),
    "the first six dimensions": of_distances("law_distance_energy", scores=lambda s, x, p: Plain.scores(s, x[:, :6], p[:, :6])),
    "the first 200 patterns": of_distances("law_permutation", value=lambda s, x, p: Plain.value(s, x, p[:200])),
    "the first block": of_distances("law_energy_blocks", value=lambda s, x, p: Plain.value(s, x, p[:8192])),
    "the last block alone": of_distances("law_energy_blocks", value=lambda s, x, p: Plain.value(s, x, p[(len(p) - 1) // 8192 * 8192 :])),
    "an update from the first 8192": of_distances(
        "law_energy_blocks", update=lambda s, x, p: Plain.update(s, x, p[:8192]), gradient=lambda s, x, p: 2 * (x - Plain.update(s, x, p[:8192])),
    ),
    "infinite far away": of_distances("law_weights", value=lambda s, x, p: -np.log(np.exp(s.scores(x, p)).sum(axis=1)) / s.beta),
    "the hard minimum": of_distances("law_distance_energy", value=lambda s, x, p: squared_norms(x[:, None] - p).min(axis=1)),
    "beta twice": of_distances(
        "law_distance_energy", "EpanechnikovDenseAM epa_or_lse_energy", scores=lambda s, x, p: -(s.beta**2) * squared_norms(x[:, None] - p)
    ),
    "R^T R for its half": of_products("law_dot_energy", "ml-jku/hopfield-layers #14", value=lambda s, x, p: PlainDot.value(s, x, p) + squared_norms(x) / 2),
    "|x|^2 doubled and its gradient": of_products(
        "law_dot_energy", "ml-jku/hopfield-layers #14", value=lambda s, x, p: PlainDot.value(s, x, p) + squared_norms(x) / 2,
        gradient=lambda s, x, p: 2 * x - PlainDot.update(s, x, p),
    ),
    "|x|^2 / 2 missing": of_products("law_descent", value=lambda s, x, p: PlainDot.value(s, x, p) - squared_norms(x) / 2),
    "log n missing": of_products("law_dot_energy", value=lambda s, x, p: PlainDot.value(s, x, p) - np.log(len(p)) / s.beta),
    "the mean of |p|^2": of_products(
        "law_dot_energy", value=lambda s, x, p: PlainDot.value(s, x, p) - squared_norms(p).max() / 2 + squared_norms(p).mean() / 2
    ),
    "scaled by the root of d": of_products("law_dot_energy", scores=lambda s, x, p: s.beta * x @ p.T / np.sqrt(x.shape[1])),
    # the update and its weights
    "the update of another energy": of_products("law_descent", update=lambda s, *a: Plain(s.beta).update(*a)),
    "the update of products": of_distances("law_descent", update=lambda s, *a: PlainDot(s.beta).update(*a)),
    "beta doubled in the update": of_distances("law_descent", update=lambda s, *a: Plain(s.beta * 2).update(*a)),
    "a guarantee twice as large": of_distances("law_descent", guaranteed_decrease=lambda s, x, y: 2 * squared_norms(x - y)),
    "an overshooting step": of_distances("law_weights", update=lambda s, x, p: x + 2.5 * (Plain.update(s, x, p) - x)),
    "the update of attention": of_ours("law_descent", hopmin.EuclideanEnergy, update=lambda e, x, p: (undivided(e, x, p) @ p).astype(x.dtype)),
    "another radius": of_ours("law_weights", hopmin.EpanechnikovEnergy, update=lambda e, x, p: radius(e).update(x, p)),
    "softmax over the queries": of_distances("law_weights", weights=lambda s, x, p: softmax(s.scores(x, p), axis=0)),
    "beta doubled in the weights": of_distances(
        "law_weights", weights=lambda s, x, p: Plain(2 * s.beta).weights(x, p), update=lambda s, x, p: softmax(s.scores(x, p)) @ p
    ),
    "weights not divided by the distances": of_ours("law_weights", hopmin.EuclideanEnergy, weights=undivided),
    "weights not normalised": of_ours("law_weights", hopmin.EpanechnikovEnergy, weights=lambda e, x, p: (e.weights(x, p) > 0).astype(p.dtype)),
    "zero within the radius": of_ours("law_weights", hopmin.EpanechnikovEnergy, weights=lambda e, x, p: 0 * e.weights(x, p)),
    "weights with another radius": of_ours("law_weights", hopmin.EpanechnikovEnergy, weights=lambda e, x, p: radius(e).weights(x, p)),
    "a sum, not a mean": of_distances("law_weights", update=lambda s, x, p: Plain.update(s, x, p) * (1 + 1 / len(p))),
    "values ignored": of_distances("law_values", update=lambda s, x, p, values=None: Plain.update(s, x, p)),
    "the values of one pattern": of_distances(
        "law_values", update=lambda s, x, p, values=None: Plain.update(s, x, p) if values is None else values[s.scores(x, p).argmax(axis=1)]
    ),
    # the gradient and the Hessian
    "gradient without the 2": of_distances("law_gradient", gradient=lambda s, x, p: Plain.gradient(s, x, p) / 2),
    "gradient with its sign flipped": of_distances("law_gradient", gradient=lambda s, x, p: -Plain.gradient(s, x, p)),
    "ascent": of_distances("law_descent_direction", gradient=lambda s, x, p: -Plain.gradient(s, x, p)),
    "gradient times beta": of_distances("law_gradient", gradient=lambda s, x, p: s.beta * Plain.gradient(s, x, p)),
    "gradient at beta doubled": of_distances("law_gradient", gradient=lambda s, x, p: Plain(2 * s.beta).gradient(x, p)),
    "gradient of one pattern": of_distances("law_gradient", gradient=lambda s, x, p: 2 * (x - p[s.scores(x, p).argmax(axis=1)])),
    "gradient off by 0.1%": of_distances("law_gradient", gradient=lambda s, x, p: 1.001 * Plain.gradient(s, x, p)),
    "softmax instead of entmax": of_ours("law_gradient", Sparse, gradient=lambda e, x, p: PlainDot(e.beta).gradient(x, p)),
    "Euclidean, with the weights of the update": of_ours("law_gradient", hopmin.EuclideanEnergy, gradient=lambda e, x, p: x - e.update(x, p)),
    "Epanechnikov, without its scale": of_ours("law_gradient", hopmin.EpanechnikovEnergy, gradient=lambda e, x, p: x - e.update(x, p)),
    "Epanechnikov, beta doubled": of_ours(
        "law_gradient", hopmin.EpanechnikovEnergy, gradient=lambda e, x, p: hopmin.EpanechnikovEnergy(2 * e.beta).gradient(x, p)
    ),
    "twice the gradient": of_distances("law_gradient_step", gradient=lambda s, x, p: 2 * Plain.gradient(s, x, p)),
    "a step at beta doubled": of_distances("law_gradient_step", gradient=lambda s, x, p: Plain(2 * s.beta).gradient(x, p)),
    "half the gradient": of_distances("law_descent_direction", gradient=lambda s, x, p: Plain.gradient(s, x, p) / 2),
    "direction at beta doubled": of_distances("law_descent_direction", gradient=lambda s, x, p: Plain(2 * s.beta).gradient(x, p)),
    "softmax update of the sparse energy": of_ours("law_descent_direction", Sparse, update=lambda e, x, p: PlainDot(e.beta).update(x, p)),
    "Hessian without the 2": of_distances("law_hessian", hessian=lambda s, x, p: Plain.hessian(s, x, p) / 2),
    "Hessian without beta": of_distances(
        "law_hessian", hessian=lambda s, x, p: 2 * np.eye(p.shape[1]) + (Plain.hessian(s, x, p) - 2 * np.eye(p.shape[1])) / s.beta
    ),
    "Hessian at beta doubled": of_distances("law_hessian", hessian=lambda s, x, p: Plain(2 * s.beta).hessian(x, p)),
    "plus the covariance": of_distances("law_hessian", hessian=lambda s, x, p: 4 * np.eye(p.shape[1]) - Plain.hessian(s, x, p)),
    "the second moment, not centred": of_distances(
        "law_hessian", hessian=lambda s, x, p: 2 * np.eye(p.shape[1]) - 4 * s.beta * np.einsum("mn,nc,ne->mce", s.weights(x, p), p, p)
    ),
    "Hessian not symmetric": of_distances(
        "law_hessian", hessian=lambda s, x, p: Plain.hessian(s, x, p) + 1e-3 * np.abs(p).max() * np.triu(np.ones((p.shape[1],) * 2), 1)
    ),
    "Euclidean, identity for the Hessian": of_ours("law_hessian", hopmin.EuclideanEnergy, **IDENTITY),
    "Epanechnikov, identity for the Hessian": of_ours("law_hessian", hopmin.EpanechnikovEnergy, **IDENTITY),
    "sparse, the covariance of softmax": of_ours("law_hessian", Sparse, hessian=lambda e, x, p: PlainDot(e.beta).hessian(x, p)),
    # symmetries and limits
    "the sum of absolute differences": of_distances("law_rotation", scores=lambda s, x, p: -s.beta * np.abs(x[:, None] - p).sum(axis=2)),
    "a larger weight for the first axis": of_distances("law_rotation", scores=lambda s, x, p: Plain.scores(s, x, p) - s.beta * (x[:, :1] - p[:, 0]) ** 2),
    "gradient with reversed axes": of_distances("law_rotation", gradient=lambda s, x, p: Plain.gradient(s, x, p)[:, ::-1]),
    "the first pattern counts twice": of_distances("law_permutation", scores=lambda s, x, p: Plain.scores(s, x, p) + np.log(2) * (np.arange(len(p)) == 0)),
    "weights sorted": of_distances("law_permutation", weights=lambda s, x, p: np.sort(Plain.weights(s, x, p), axis=1)),
    "the first half of the patterns": of_distances("law_duplication", update=lambda s, x, p: Plain.update(s, x, p[: len(p) // 2 + 1])),
    "duplicates removed": of_distances("law_duplication", weights=lambda s, x, p: np.pad(Plain.weights(s, x, u := np.unique(p, axis=0)), ((0, 0), (0, len(p) - len(u))))),
    "products far from the origin": of_distances("law_translation", scores=lambda s, x, p: PlainDot(s.beta).scores(x, p)),
    "the square expanded, far from the origin": of_distances(
        "law_translation", "faiss #3245", scores=lambda s, x, p: -s.beta * (squared_norms(x)[:, None] - 2 * x @ p.T + squared_norms(p))
    ),
    "the best match": of_distances("law_large_beta_nearest", scores=lambda s, x, p: PlainDot(s.beta).scores(x, p)),
    "beta has no effect": of_distances("law_large_beta_nearest", scores=lambda s, x, p: ONE.scores(x, p)),
    "the last of ties": of_distances("law_large_beta_nearest", update=lambda s, x, p: p[len(p) - 1 - s.scores(x, p)[:, ::-1].argmax(axis=1)]),
    "the nearest": of_products("law_large_beta_match", scores=lambda s, x, p: Plain(s.beta).scores(x, p)),
    "beta has no effect on products": of_products("law_large_beta_match", scores=lambda s, x, p: x @ p.T),
    "the first of ties": of_products("law_large_beta_match", update=lambda s, x, p: p[(x @ p.T).argmax(axis=1)]),
    "beta has no lower limit": of_distances("law_small_beta_mean", scores=lambda s, x, p: Plain(max(s.beta, 1.0)).scores(x, p)),
    "a sum of patterns": of_distances("law_small_beta_mean", update=lambda s, x, p: len(p) * Plain.update(s, x, p)),
    # arrays
    "queries changed": of_distances("law_energy_array", value=overwrites),
    "storage order": of_distances("law_energy_array", value=lambda s, x, p: Plain.value(s, storage_order(x).reshape(x.shape), p)),
    "a column of values": of_distances("law_energy_array", value=lambda s, x, p: Plain.value(s, x, p)[:, None]),
    "a single query squeezed": of_distances("law_energy_array", value=lambda s, x, p: np.squeeze(Plain.value(s, x, p))),
    "one value for all queries": of_distances("law_energy_batch", value=lambda s, x, p: Plain.value(s, x, p)[:1] + 0 * x[:, 0]),
    "one maximum for the batch": of_distances(
        "law_energy_batch", value=lambda s, x, p: -(s.scores(x, p).max() + np.log(np.exp(s.scores(x, p) - s.scores(x, p).max()).sum(axis=1))) / s.beta
    ),
    "centred on the queries": of_distances("law_energy_batch", scores=lambda s, x, p: Plain.scores(s, x - x.mean(axis=0), p)),
    "the mean over the batch": of_distances("law_energy_batch", value=lambda s, x, p: np.full(len(x), Plain.value(s, x, p).mean())),
    "gradient of the mean": of_distances("law_energy_batch", "natural", gradient=lambda s, x, p: Plain.gradient(s, x, p) / len(x)),
    "float64 for float32": of_distances("law_energy_dtype", value=lambda s, x, p: Plain.value(s, x.astype(float), p)),
    "float32 for float64": of_distances("law_energy_dtype", update=lambda s, x, p: Plain.update(s, x, p).astype(np.float32)),
    "single precision inside": of_distances("law_distance_energy", value=lambda s, x, p: Plain.value(s, np.float32(x), np.float32(p)).astype(p.dtype)),
}  # fmt: skip
# laws that hold only for some energies, each broken by the others
CLAIMS = {
    "law_gradient_step": ("hopmin, Euclidean", "hopmin, Epanechnikov"),
    "law_duplication": tuple(SPARSE),
    "law_translation": ("hopmin, dot", *SPARSE),
    "law_large_beta_nearest": ("hopmin, dot", "hopmin, Epanechnikov", *SPARSE),
    "law_large_beta_match": ("hopmin, distance", "hopmin, Euclidean", "hopmin, Epanechnikov"),
    "law_small_beta_mean": ("hopmin, Euclidean",),
    "law_bounds": ("hopmin, dot", "hopmin, Euclidean", "hopmin, Epanechnikov", *SPARSE),
}
MUTANTS |= {
    f"{name.removeprefix('hopmin, ')}, {law.removeprefix('law_').replace('_', ' ')}": Mutant(RIGHT[name], law, NATURAL)
    for law, names in CLAIMS.items()
    for name in names
}
MUTANTS |= {
    f"{name}, {change.__name__.replace('_', ' ')}": changed(law, name, change, origin)
    for law, changes, origin in [
        ("law_energy_bits", (nudged_in_a_batch, nudged_by_strides), "batch_invariant_ops #4"),
        ("law_energy_single", (with_axis, off_for_one), NATURAL),
    ]
    for change in changes
    for name in METHODS
    if (law, name) != ("law_energy_single", "gradient")
}
