"""How many patterns can each memory hold?

Classical energies fill up at a number of patterns that is a power of the number of neurons; those whose score grows
exponentially should hold exponentially many. Recovery falls from all to none at the number that theory gives for each
energy; if it falls earlier, theory's number is not one at which the memory is of use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hopmin._typing import Energy, Floats
from hopmin.memory.binary import ExponentialEnergy, HopfieldEnergy, PolynomialEnergy
from hopmin.memory.energy import DistanceEnergy, DotEnergy, EuclideanEnergy
from hopmin.memory.nearest import nearest
from hopmin.memory.retrieval import retrieve
from hopmin.memory.sparse import EpanechnikovEnergy, SparseEnergy
from hopmin.paper import capacity as theory
from hopmin.study import charts
from hopmin.study.plan import Cell, Cost, Finding, Panel, Progress, Record, Settings
from hopmin.study.statistics import mean, share

NUMBER = 8
TEXT = True  # the corpus does not matter
FLIPPED = 0.1  # fraction of the bits of a query that differ from its pattern
QUERIES = 100
METHOD = (
    "Random patterns of signs are stored; a tenth of the bits of 100 of them are flipped, and each energy retrieves "
    "from there. A pattern is recovered if every bit is right. The linear memory stores random pairs of directions "
    "in one matrix, and a key recovers its value if that value has the largest product with the answer."
)
PAPER = (
    "Table 1 gives the capacities: proportional to d for Hopfield's energy, to a power of d for Krotov's, and "
    "exponential in d for Demircigil's and Ramsauer's."
)
CONTROL = (
    "The nearest stored pattern, found exactly: for flipped bits it is the best guess that any memory can make. "
    "Theory's numbers are for patterns recovered exactly."
)
CAVEATS = (
    "Theory's numbers are for many neurons, and for Hopfield's and Krotov's energies without flipped bits; with the "
    "few dozen neurons here shares fall gradually. Continuous energies have beta = 1, at which they separate random "
    "signs almost as the nearest pattern does."
)

ENERGIES: dict[str, Energy] = {
    "Hopfield": HopfieldEnergy(),
    "cubes": PolynomialEnergy(3),
    "exponential": ExponentialEnergy(),
    "distance": DistanceEnergy(),
    "dot": DotEnergy(),
    "Euclidean": EuclideanEnergy(),
    "sparse": SparseEnergy(1.5),
    "Epanechnikov": EpanechnikovEnergy(1 / 8),  # reaches a squared distance of 16: 4 bits
}
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3)  # p log p / d^2 of the linear memory
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"d": 16, "patterns": 5, "linear": (16,), "seeds": 2},
    "quick": {"d": 20, "patterns": 14, "linear": (32, 64), "seeds": 3},
    "standard": {"d": 24, "patterns": 17, "linear": (32, 64, 128, 256), "seeds": 6},
    "paper": {"d": 28, "patterns": 20, "linear": (32, 64, 128, 256, 512), "seeds": 20},
}


def cells(settings: Settings) -> list[Cell]:
    """Return a cell for every energy, every size of the linear memory, and every seed."""
    sizes = SIZES[settings.preset]
    kinds = [("energy", name, sizes["d"]) for name in (*ENERGIES, "nearest")]
    kinds += [("linear", "linear", d) for d in sizes["linear"]]
    return [
        {"kind": kind, "memory": name, "d": d, "seed": settings.seed + i, "patterns": sizes["patterns"]}
        for kind, name, d in kinds
        for i in range(sizes["seeds"])
    ]


def cost(cell: Cell) -> Cost:
    """Return the time of a cell, which is about proportional to the number of products."""
    return Cost(seconds=2e-6 * cell["d"] ** 2 * 2 ** (cell["patterns"] / 2) if cell["kind"] == "energy" else 0.2)


def run(cell: Cell, progress: Progress) -> Record:
    """Return how many patterns one memory recovers, of each number stored."""
    measure = _linear if cell["kind"] == "linear" else _energy
    return {"recovered": measure(cell, progress)}


def _energy(cell: Cell, progress: Progress) -> list[list[int]]:
    """Return rows of patterns stored, queries, and queries recovered."""
    found = []
    for i in range(1, cell["patterns"] + 1):
        progress(i / cell["patterns"], f"{cell['memory']}, {2**i:,} patterns")
        n, d = 2**i, cell["d"]
        rng = np.random.default_rng([cell["seed"], i])
        patterns = 2.0 * rng.integers(0, 2, (n, d)) - 1
        own = rng.integers(n, size=QUERIES)
        queries = patterns[own]
        for query in queries:
            query[rng.choice(d, round(FLIPPED * d), replace=False)] *= -1
        ends = _ends(cell["memory"], queries, patterns)
        found.append([n, QUERIES, int((ends == patterns[own]).all(axis=1).sum())])
    return found


def _ends(memory: str, queries: Floats, patterns: Floats) -> Floats:
    """Return the signs at which retrieval ends."""
    if memory == "nearest":
        return np.asarray(patterns[nearest(queries, patterns)[1][:, 0]])
    return np.sign(retrieve(queries, patterns, ENERGIES[memory], max_steps=50).states)


def _linear(cell: Cell, progress: Progress) -> list[list[int]]:
    """Return rows of pairs stored and pairs recovered in W = sum_i v_i k_i', by the largest product <v_j, W k_i>."""
    found, d = [], cell["d"]
    for i, load in enumerate(LOADS):
        progress((i + 1) / len(LOADS), f"linear memory, d = {d}")
        pairs = _pairs(load, d)
        rng = np.random.default_rng([cell["seed"], d, i])
        keys, values = rng.normal(size=(2, pairs, d)) / math.sqrt(d)
        keys, values = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (keys, values))
        answers = keys @ (keys.T @ values)
        right = sum(
            int(((block @ values.T).argmax(axis=1) == np.arange(first, first + len(block))).sum())
            for first in range(0, pairs, 1000)
            for block in [answers[first : first + 1000]]
        )
        found.append([pairs, pairs, right])
    return found


def _pairs(load: float, d: int) -> int:
    """Return p such that p log p / d^2 is the load.

    >>> _pairs(0.5, 64)
    350
    """
    p = d * d * load
    for _ in range(50):
        p = load * d * d / math.log(max(p, 2))
    return max(2, round(p))


def half(rows: Sequence[tuple[float, float]]) -> float:
    """Return where the share of recovered patterns falls below one half for good, interpolated on a log scale.

    Parameters
    ----------
    rows : sequence of (float, float)
        Numbers of patterns, ascending, and shares.

    Returns
    -------
    float
        NaN if the share is never below a half after having been above it.

    Examples
    --------
    >>> round(half([(2, 1.0), (8, 1.0), (32, 0.0)]))
    16
    """
    x, share = np.array(rows, float).T
    above = np.flatnonzero(share >= 0.5)
    if len(above) == 0 or above[-1] == len(x) - 1:
        return float("nan")
    i = above[-1]
    part = (share[i] - 0.5) / (share[i] - share[i + 1])
    return float(np.exp(np.log(x[i]) + part * np.log(x[i + 1] / x[i])))


def predicted(memory: str, d: int) -> tuple[float, str] | None:
    """Return the number of patterns that theory gives for an energy, and what it says; None where it gives none."""
    if memory == "Hopfield":
        return theory.exact_capacity(d), "d / (2 log d) (McEliece et al. 1987)"
    if memory == "cubes":
        return theory.exact_capacity(d, power=3), "d² / (6 log d) (Krotov & Hopfield 2016)"
    if memory == "exponential":
        return math.exp(float(theory.exponential_rate(FLIPPED)) * d), "exp(0.184 d) (Demircigil et al. 2017)"
    return None


def _shares(records: Sequence[Record], memory: str, d: int) -> list[tuple[int, int, int]]:
    """Return patterns stored, and tries and successes of all seeds together."""
    rows = [row for r in records if r["memory"] == memory and r["d"] == d for row in r["recovered"]]
    stored = sorted({n for n, _, _ in rows})
    return [(n, sum(t for m, t, _ in rows if m == n), sum(s for m, _, s in rows if m == n)) for n in stored]


def _halves(records: Sequence[Record], memory: str, d: int) -> Floats:
    """Return where each seed's share falls below one half."""
    chosen = [r for r in records if r["memory"] == memory and r["d"] == d]
    return np.array([half([(n, right / tries) for n, tries, right in r["recovered"]]) for r in chosen])


def _memories(records: Sequence[Record], kind: str) -> list[tuple[str, int]]:
    return list(dict.fromkeys((r["memory"], r["d"]) for r in records if r["kind"] == kind))


def findings(records: Sequence[Record]) -> list[Finding]:
    """Return for each memory the number of patterns at which half of them are recovered."""
    found = []
    for memory, d in _memories(records, "energy"):
        at, expected = _halves(records, memory, d), predicted(memory, d)
        text = "" if expected is None else f"about {expected[0]:,.0f} by theory, {expected[1]}"
        reached = at[np.isfinite(at)]
        if len(reached) < len(at) or not len(at):
            most = max(r["recovered"][-1][0] for r in records if r["memory"] == memory and r["d"] == d)
            sentence = f"{memory}: more than half of the patterns are recovered up to {most:,} stored, the most tried."
            found.append(Finding(memory, sentence, float(most), n=len(at), expected=text))
        else:
            estimate = mean(reached)
            sentence = f"{memory}: half of the patterns are recovered with {estimate} stored, for d = {d}."
            found.append(Finding(memory, sentence, *estimate, expected=text))
    for memory, d in _memories(records, "linear"):
        at = _halves(records, memory, d)
        if np.isfinite(at).all():
            loads = mean(at * np.log(at) / d**2)
            sentence = f"Linear memory, d = {d}: half of the pairs are recovered at p log p / d² = {loads}."
            found.append(Finding(f"linear {d}", sentence, *loads, expected="0.5, for large d"))
    order = {"Hopfield": 0, "cubes": 1, "exponential": 2}
    found.sort(key=lambda finding: order.get(finding.id, len(order)))
    return _with_answer(found)


def _with_answer(found: list[Finding]) -> list[Finding]:
    """Put a sentence that compares the energies of signs first."""
    value = {finding.id: finding.value for finding in found}
    names = ("Hopfield", "cubes", "exponential", "nearest")
    if any(value.get(name) is None for name in names):
        return found
    numbers = [f"{value[name]:,.0f}" for name in names]
    text = (
        f"Half of the patterns are recovered with {numbers[0]} stored in Hopfield's energy, {numbers[1]} with cubes "
        f"and {numbers[2]} with the exponential; the exact nearest pattern reaches {numbers[3]}."
    )
    return [
        Finding("answer", text, value["exponential"], n=len(found), expected="a power of d against exp(c d)"),
        *found,
    ]


def table(records: Sequence[Record]) -> tuple[list[str], list[list[Any]]]:
    """Return a row for every memory and number of patterns."""
    return ["memory", "d", "stored", "tries", "recovered"], [
        [memory, d, n, tries, round(right / tries, 4)]
        for kind in ("energy", "linear")
        for memory, d in _memories(records, kind)
        for n, tries, right in _shares(records, memory, d)
    ]


def panels(records: Sequence[Record]) -> list[Panel]:
    """Draw the share of recovered patterns, for energies of signs, continuous ones, and the linear memory."""
    drawn = []
    binary = ("Hopfield", "cubes", "exponential", "nearest")
    groups = (("Energies of signs", binary), ("Continuous energies", (*list(ENERGIES)[3:], "nearest")))
    for title, names in groups:
        figure, ax = charts.axes("patterns stored", "share recovered", xscale="log", ylim=(-0.03, 1.05))
        for i, (memory, d) in enumerate(m for m in _memories(records, "energy") if m[0] in names):
            _draw(ax, records, memory, d, i, memory)
            expected = predicted(memory, d)
            if expected is not None:
                ax.axvline(expected[0], color=charts.COLOURS[i], linewidth=1.2, linestyle=(0, (4, 3)))
        alt = f"Share of recovered patterns against the number stored: {title.lower()}."
        drawn.append(Panel(f"{title} (dashed: theory)" if names is binary else title, alt, figure))
    figure, ax = charts.axes("p log p / d²", "share recovered", ylim=(-0.03, 1.05))
    for i, (memory, d) in enumerate(_memories(records, "linear")):
        _draw(ax, records, memory, d, i, f"d = {d}", scale=lambda p, d=d: p * math.log(p) / d**2)
    charts.reference(ax, "1/2", x=0.5, at=0.06)
    alt = "Share of recovered pairs against p log p / d squared, with theory's threshold of one half."
    drawn.append(Panel("Linear memory", alt, figure))
    return drawn


def _draw(
    ax: Any, records: Sequence[Record], memory: str, d: int, i: int, label: str, scale: Any = lambda n: n
) -> None:
    chosen = [r["recovered"] for r in records if r["memory"] == memory and r["d"] == d]
    # several queries of one pattern are no independent units
    counts = [[(right, tries, min(n, tries)) for n, tries, right in row] for row in zip(*chosen, strict=True)]
    rows = [(n, share(row)) for (n, *_), row in zip(chosen[0], counts, strict=True)]
    charts.points(
        ax, [scale(n) for n, _ in rows], [e.value for _, e in rows], i,
        low=[e.low for _, e in rows], high=[e.high for _, e in rows], label=label,
        tips=[f"{memory}, d = {d}: {e} of {n:,} patterns recovered" for n, e in rows],
    )  # fmt: skip
