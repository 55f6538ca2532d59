"""Layers put together: energies of layers, one energy of all, and two ways to go down [`LayeredMemory`].

Niu et al. 2024, section 4.2: each layer of a transformer stores patterns of its own, and has an energy over them; the
global energy is a soft minimum of the layers', so that a state is well placed if it is so for one of them. A forward
pass takes a step in each layer's energy, one after another. Each step lowers the energy of its layer, but may raise
that of all, by at most -log(w) / beta, if w is the layer's share in it [`LayeredMemory.sequential_pass`]. The step that
takes every layer by its share never raises it: that is majorization-minimization [`LayeredMemory.weighted_step`].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _check
from hopmin._typing import Array
from hopmin.memory.energy import DistanceEnergy
from hopmin.numerics import logsumexp, softmax


class Pass(NamedTuple):
    """What a pass through L layers did to m queries. Without the m for a single one.

    states : (L + 1, m, d) before the first layer and after each
    layer_energies : (L + 1, L, m) of each of these states, in every layer
    global_energies : (L + 1, m)
    bounds : (L, m) what each step can have added to the global energy at most
    """

    states: Array
    layer_energies: Array
    global_energies: Array
    bounds: Array


class LayeredMemory:
    """Layers of patterns, with an energy each and one for all.

    Parameters
    ----------
    layers : L arrays of patterns (n_t, d), in the order in which a forward pass meets them
    energy : anything with `value` and `update`, the same for all layers, with its `beta` (1 if it has none);
        DistanceEnergy() by default

        layer energies     E_t(x)
        global energy      E(x) = -1/beta log sum_t exp(-beta E_t(x))                 (equation 7)
        responsibilities   w_t(x) = softmax_t(-beta E_t(x))
        layer step         the point nearest to T_t(x) within the trust region        (equation 6)
        weighted step      sum_t w_t(x) T_t(x)

    min_t E_t - log(L) / beta <= E <= min_t E_t (equation 8). With DistanceEnergy E is the energy of all patterns in one
    memory, and the weighted step is that memory's update. Where all E_t are infinite, as EpanechnikovEnergy's outside
    every reach, all layers count alike.

    Raises ValueError if there is no layer or shapes do not fit, and as the energies do.

    >>> layers = LayeredMemory([[[0.0]], [[5.0]]])
    >>> layers.layer_energies([0.5]), layers.global_energy([0.5]), layers.responsibilities([0.5]).round(3)
    (array([ 0.25, 20.25]), np.float64(0.2499999979388464), array([1., 0.]))
    >>> layers.sequential_pass([0.5]).states.ravel(), layers.weighted_step([0.5]).round(3)
    (array([0.5, 0. , 5. ]), array([0.]))
    """

    def __init__(self, layers: Sequence[ArrayLike], energy: Any = DistanceEnergy()) -> None:  # noqa: B008
        if len(layers) == 0:
            raise ValueError("layers must hold at least one array of patterns; got none")
        first = _check.floats("layers[0]", layers[0], "n d")
        self.layers = tuple(
            _check.floats(f"layers[{t}]", patterns, "n d", d=first.shape[1]).copy() for t, patterns in enumerate(layers)
        )
        self.energy = _check.energy(energy)
        self.beta = float(getattr(energy, "beta", 1.0))

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        sizes = ", ".join(str(len(patterns)) for patterns in self.layers)
        return f"LayeredMemory({sizes} patterns, d = {self.layers[0].shape[1]}, {self.energy})"

    def layer_energies(self, queries: ArrayLike) -> Array:
        """E_t(x) (L, m), or (L,) for a single query."""
        return np.stack([self.energy.value(queries, patterns) for patterns in self.layers])

    def global_energy(self, queries: ArrayLike) -> Any:
        """E(x) (m,), a soft minimum of the layers'."""
        return 0.0 - logsumexp(-self.beta * self.layer_energies(queries), axis=0) / self.beta

    def responsibilities(self, queries: ArrayLike) -> Array:
        """w_t(x) (L, m): the share of each layer in the global energy."""
        return softmax(self._scores(queries), axis=0)

    def layer_step(self, queries: ArrayLike, layer: int, *, trust: float | None = None) -> Array:
        """The update (m, d) in one layer, or the nearest point to it within the squared Euclidean distance `trust`.

        E_t does not rise: on the way to T_t(x) the parabola above it falls all along. (An energy whose update has no
        such parabola promises that for the whole step only.)
        """
        patterns = self.layers[_check.integer("layer", layer, 0, len(self) - 1)]
        x, _, shape = _check.pair(queries, patterns)
        y = self.energy.update(x, patterns)
        if trust is not None:
            radius = np.sqrt(_check.number("trust", trust, "[0, inf)"))
            length = np.linalg.norm(y - x, axis=1, keepdims=True)
            y = np.where(length <= radius, y, x + (y - x) * radius / np.where(length > 0, length, 1))
        return y.astype(x.dtype).reshape(*shape, x.shape[1])

    def sequential_pass(self, queries: ArrayLike, *, trust: float | None = None) -> Pass:
        """A step in each layer, one after another, with the trace of all energies (equation 6).

        The bound on what step t adds to the global energy is -log(w_t) / beta, with w_t before the step: E is at most
        E_t, which does not rise, and was E_t + log(w_t) / beta. If the layer is the one of lowest energy it is at most
        log(L) / beta.
        """
        x, _, shape = _check.pair(queries, self.layers[0])
        states, bounds = [x], []
        for t in range(len(self)):
            bounds.append(self._surprise(states[-1])[t] / self.beta)
            states.append(self.layer_step(states[-1], t, trust=trust))
        energies = np.stack([self.layer_energies(state) for state in states])
        everywhere = np.stack([self.global_energy(state) for state in states])
        trace = Pass(np.stack(states), energies, everywhere, np.stack(bounds))
        return trace if shape else Pass(trace.states[:, 0], energies[:, :, 0], everywhere[:, 0], trace.bounds[:, 0])

    def weighted_step(self, queries: ArrayLike) -> Array:
        """sum_t w_t(x) T_t(x) (m, d): the lowest point of the surrogate, if each E_t lies under a parabola at its T_t.

        So the global energy falls, by c/2 |x - y|^2 at least, for DistanceEnergy (c = 2), DotEnergy and SparseEnergy
        (c = 1); of other energies nothing is promised.
        """
        x, _, shape = _check.pair(queries, self.layers[0])
        updates = np.stack([self.energy.update(x, patterns) for patterns in self.layers])
        step = np.einsum("tm,tmd->md", self.responsibilities(x), updates)
        return step.astype(x.dtype).reshape(*shape, x.shape[1])

    def surrogate(self, queries: ArrayLike, anchors: ArrayLike) -> Any:
        """sum_t w_t(a) (E_t(x) + log(w_t(a)) / beta) (m,): nowhere below the global energy, and equal to it at x = a.

        A layer whose share underflows to 0 is left out.
        """
        energies = self.layer_energies(queries)
        surprise = self._surprise(np.broadcast_to(_check.real("anchors", anchors), np.shape(queries)))
        w = np.exp(-surprise)
        with np.errstate(invalid="ignore"):
            return np.sum(np.where(w > 0, w * (energies - surprise / self.beta), 0), axis=0)

    def _scores(self, queries: ArrayLike) -> Array:
        """-beta E_t(x) (L, m); where all energies are infinite, 0: then all layers count alike."""
        scores = -self.beta * self.layer_energies(queries)
        return np.where(np.isneginf(scores).all(axis=0), 0, scores)

    def _surprise(self, queries: ArrayLike) -> Array:
        """-log w_t(x) (L, m), of which no digit is lost where w_t underflows."""
        scores = self._scores(queries)
        return logsumexp(scores, axis=0) - scores
