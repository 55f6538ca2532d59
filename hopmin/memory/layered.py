"""Layers of patterns: an energy for each layer, a global energy, and two kinds of steps [`LayeredMemory`].

Niu et al. 2024, section 4.2: each layer of a transformer stores its own patterns and has an energy over them. The
global energy is a soft minimum of the layers' energies, so it is low where the energy of any layer is low. A forward
pass takes one step in each layer's energy in turn. Each step lowers the energy of its own layer, but may raise the
global energy, by at most -log(w) / beta, where w is the responsibility of the layer [`LayeredMemory.sequential_pass`].
The step that weights all layers by their responsibilities never raises it: this is majorization-minimization
[`LayeredMemory.weighted_step`].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _check
from hopmin._typing import Energy, Floats
from hopmin.memory.energy import DistanceEnergy
from hopmin.memory.retrieval import shortened
from hopmin.numerics import logsumexp, softmax


class Pass(NamedTuple):
    """The states and energies of m queries in L layers. For a single query all arrays lack the axis of length m.

    Attributes
    ----------
    states : ndarray, shape (L + 1, m, d)
        The states before the first layer and after each layer.
    layer_energies : ndarray, shape (L + 1, L, m)
        The energies of these states in every layer.
    global_energies : ndarray, shape (L + 1, m)
        The global energies of these states.
    bounds : ndarray, shape (L, m)
        Upper bounds on the increase of the global energy in each step.
    """

    states: Floats
    layer_energies: Floats
    global_energies: Floats
    bounds: Floats


@_arithmetic.standard_methods
class LayeredMemory:
    """Layers of patterns with an energy for each layer and a global energy.

    Parameters
    ----------
    layers : sequence of array_like, shapes (n_t, d)
        The patterns of each of the L layers, in the order of a forward pass.
    energy : Energy, default DistanceEnergy()
        An object with `value`, `update` and `weights`, used for all layers. Its `beta` is used for the global energy
        too (1 if it has none).

    Raises
    ------
    ValueError or TypeError
        If there is no layer or shapes do not fit, and as the energies do.

    Notes
    -----
    ::

        layer energies     E_t(x)
        global energy      E(x) = -1/beta log sum_t exp(-beta E_t(x))                 (equation 7)
        responsibilities   w_t(x) = softmax_t(-beta E_t(x))
        layer step         the point nearest to T_t(x) within the trust region        (equation 6)
        weighted step      sum_t w_t(x) T_t(x)

    min_t E_t - log(L) / beta <= E <= min_t E_t (equation 8). With DistanceEnergy, E is the energy of all patterns in a
    single memory, and the weighted step is the update of that memory. Where all E_t are infinite, as outside the reach
    of EpanechnikovEnergy, all layers have the same responsibility.

    Examples
    --------
    >>> layers = LayeredMemory([[[0.0]], [[5.0]]])
    >>> layers.layer_energies([0.5]), layers.global_energy([0.5]), layers.responsibilities([0.5]).round(3)
    (array([ 0.25, 20.25]), np.float64(0.2499999979388464), array([1., 0.]))
    >>> layers.sequential_pass([0.5]).states.ravel(), layers.weighted_step([0.5]).round(3)
    (array([0.5, 0. , 5. ]), array([0.]))
    """

    def __init__(self, layers: Sequence[ArrayLike], energy: Energy = DistanceEnergy()) -> None:  # noqa: B008
        if isinstance(layers, str) or not isinstance(layers, (Sequence, np.ndarray)):
            raise TypeError(f"layers must be a sequence of arrays of patterns; got {layers!r}")
        if len(layers) == 0:
            raise ValueError("layers must hold at least one array of patterns; got none")
        d = _check.floats("layers[0]", layers[0], "n d").shape[1]
        self.layers: tuple[Floats, ...] = tuple(
            _check.floats(f"layers[{t}]", patterns, "n d", d=d).copy() for t, patterns in enumerate(layers)
        )
        self.energy: Energy = _check.energy(energy)
        self.beta = float(getattr(energy, "beta", 1.0))

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        sizes = [len(patterns) for patterns in self.layers]
        least, most = min(sizes), max(sizes)
        number = f"{least} to {most}" if least < most else f"{least}"
        patterns = "pattern" if most == 1 else "patterns"
        d, energy = self.layers[0].shape[1], shortened(self.energy)
        return f"LayeredMemory({_check.counted(len(self), 'layer')} of {number} {patterns}, d = {d}, {energy})"

    def layer_energies(self, queries: ArrayLike) -> Floats:
        """Return E_t(x) (L, m), or (L,) for a single query."""
        return np.stack([self.energy.value(queries, patterns) for patterns in self.layers])

    def global_energy(self, queries: ArrayLike) -> Floats:
        """Return E(x) (m,), the soft minimum of the layer energies; a scalar for a single query."""
        energy: Floats = 0.0 - logsumexp(-self.beta * self.layer_energies(queries), axis=0) / self.beta
        return energy

    def responsibilities(self, queries: ArrayLike) -> Floats:
        """Return w_t(x) (L, m), the weight of each layer in the gradient of the global energy."""
        weights: Floats = softmax(self._scores(queries), axis=0)
        return weights

    def layer_step(self, queries: ArrayLike, layer: int, *, trust: float | None = None) -> Floats:
        """Return the update in one layer, or the nearest point to it within the trust region.

        E_t does not increase: the parabola that majorizes it decreases on the whole segment from x to T_t(x). (For an
        energy without such a parabola, this is guaranteed only for the full step.)

        Parameters
        ----------
        queries : array_like, shape (m, d) or (d,)
            The states before the step.
        layer : int
            The index of the layer, from 0.
        trust : float, optional
            The squared Euclidean radius of the trust region. Default: infinite.

        Returns
        -------
        ndarray, shape (m, d) or (d,)
            The states after the step.

        Raises
        ------
        ValueError or TypeError
            If there is no such layer, trust is not a finite number >= 0, or queries are invalid.
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
        """Take a step in each layer in turn and return the trace of states and energies (equation 6).

        The bound on the increase of the global energy in step t is -log(w_t) / beta, with w_t before the step: after
        it E <= E_t, before it E = E_t + log(w_t) / beta, and E_t does not increase. For the layer of lowest energy the
        bound is at most log(L) / beta. `trust` is that of `layer_step`.
        """
        x, _, shape = _check.pair(queries, self.layers[0])
        states, bounds = [x], []
        for t in range(len(self)):
            bounds.append(self._negative_log_responsibilities(states[-1])[t] / self.beta)
            states.append(self.layer_step(states[-1], t, trust=trust))
        layer_energies = np.stack([self.layer_energies(state) for state in states])
        global_energies = np.stack([self.global_energy(state) for state in states])
        trace = Pass(np.stack(states), layer_energies, global_energies, np.stack(bounds))
        if shape:
            return trace
        return Pass(trace.states[:, 0], layer_energies[:, :, 0], global_energies[:, 0], trace.bounds[:, 0])

    def weighted_step(self, queries: ArrayLike) -> Floats:
        """Return sum_t w_t(x) T_t(x) (m, d), the minimum of the surrogate if a parabola majorizes each E_t.

        The global energy then decreases by at least c/2 |x - y|^2: for DistanceEnergy (c = 2), DotEnergy and
        SparseEnergy (c = 1). For other energies nothing is guaranteed.
        """
        x, _, shape = _check.pair(queries, self.layers[0])
        updates = np.stack([self.energy.update(x, patterns) for patterns in self.layers])
        step: Floats = np.einsum("tm,tmd->md", self.responsibilities(x), updates)
        return step.astype(x.dtype).reshape(*shape, x.shape[1])

    def surrogate(self, queries: ArrayLike, anchors: ArrayLike) -> Floats:
        """Return sum_t w_t(a) (E_t(x) + log(w_t(a)) / beta) (m,), which majorizes the global energy.

        It is at least the global energy everywhere, and equal to it at x = a, the anchor. Layers whose responsibility
        underflows to 0 are left out.
        """
        energies = self.layer_energies(queries)
        queries, anchors = _check.real("queries", queries), _check.real("anchors", anchors)
        if anchors.shape not in (queries.shape, queries.shape[-1:]):
            expected = f"the shape of queries, {queries.shape}, or {queries.shape[-1:]}"
            raise ValueError(f"anchors must have {expected}; got {anchors.shape}")
        anchors = np.broadcast_to(anchors, queries.shape)
        surprise = self._negative_log_responsibilities(anchors)
        w = np.exp(-surprise)
        with np.errstate(invalid="ignore"):
            surrogate: Floats = np.sum(np.where(w > 0, w * (energies - surprise / self.beta), 0), axis=0)
        return surrogate

    def _scores(self, queries: ArrayLike) -> Floats:
        """Return -beta E_t(x) (L, m); 0 where all energies are infinite, so that responsibilities are equal."""
        scores: Floats = -self.beta * self.layer_energies(queries)
        return np.where(np.isneginf(scores).all(axis=0), 0, scores)

    def _negative_log_responsibilities(self, queries: ArrayLike) -> Floats:
        """Return -log w_t(x) (L, m), without loss of digits where w_t underflows or energies are large."""
        scores = self._scores(queries)
        depth = scores.max(axis=0) - scores  # first, so that exp of the results sums to 1 whatever the size of scores
        surprise: Floats = depth + logsumexp(-depth, axis=0)
        return surprise
