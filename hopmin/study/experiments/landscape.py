"""What do the energies of a memory look like, and where does a query end?

If stored patterns are minima with basins of their own, retrieval from everywhere ends at a pattern. If basins are
shared, or minima lie between patterns, it ends at mixtures: the sharpness beta decides which, for a given energy and
given patterns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hopmin._typing import Energy, Floats
from hopmin.memory.energy import DistanceEnergy, DotEnergy, EuclideanEnergy
from hopmin.memory.nearest import separation
from hopmin.memory.retrieval import retrieve
from hopmin.memory.sparse import EpanechnikovEnergy, SparseEnergy
from hopmin.study import charts
from hopmin.study.measure import activations
from hopmin.study.models import Training, fit
from hopmin.study.plan import Cell, Cost, Finding, Panel, Progress, Record, Settings

NUMBER = 9
TEXT = True
METHOD = (
    "Every energy is drawn over the three patterns of the paper's figure 1, at two values of beta, and every point "
    "of a grid is followed until it stops; where that is at no single pattern, it has no colour. The same is done in "
    "planes through three activations of a trained model."
)
PAPER = (
    "Figure 1 shows that the distance energy approximates the distance to the nearest pattern, with the patterns as "
    "its minima, and that the regularized energy of the modern Hopfield network resembles it."
)
CONTROL = (
    "The share of the grid whose nearest pattern is the one retrieved: a memory that searches for the nearest "
    "neighbour has 100%. The slices use the same model before training."
)
CAVEATS = (
    "Planes through three patterns of a space of many dimensions show only what happens in that plane: other "
    "patterns lie off it and are farther away there than they seem."
)

FIGURE_1 = np.array([[-2.0, -0.5], [0.2, -0.3], [1.5, 1.5]])  # Niu et al. 2024, figure 1
KINDS: dict[str, Any] = {
    "distance": DistanceEnergy, "dot": DotEnergy, "Euclidean": EuclideanEnergy,
    "sparse": lambda beta: SparseEnergy(1.5, beta), "Epanechnikov": EpanechnikovEnergy,
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"grid": 9, "training": (1, 1, 8, 40, 6), "stored": 10},
    "quick": {"grid": 41, "training": (2, 4, 32, 400, 600), "stored": 100},
    "standard": {"grid": 81, "training": (2, 4, 64, 800, 700), "stored": 400},
    "paper": {"grid": 161, "training": (6, 8, 512, 100_000, 100_000), "stored": 1_000},
}
STEPS = 200  # of retrieval


def cells(settings: Settings) -> list[Cell]:
    """Return a cell for every energy and beta, and one for the slices of each of two models."""
    sizes = SIZES[settings.preset]
    layers, heads, width, rows, steps = sizes["training"]
    training = asdict(Training(
        layers, heads, width, rows, steps, seed=settings.seed, corpus=settings.corpus, corpus_seed=settings.seed,
    ))  # fmt: skip
    drawn = [
        {"kind": "figure 1", "energy": name, "beta": beta, "grid": sizes["grid"]}
        for beta in (1.0, 4.0)
        for name in KINDS
    ]
    slices = [
        {"kind": "slice", "energy": "distance", "trained": trained, "grid": sizes["grid"], "stored": sizes["stored"],
         "training": training} for trained in (True, False)
    ]  # fmt: skip
    return drawn + slices


def cost(cell: Cell) -> Cost:
    """Return the cost of training a model, if the cell trains one, and of the grid."""
    seconds = 2e-4 * cell["grid"] ** 2
    return Cost(*Training(**cell["training"]).cost[:2], seconds) if cell.get("trained") else Cost(seconds=seconds)


def run(cell: Cell, progress: Progress) -> Record:
    """Return the energy on a grid, and for every point of it the pattern at which it ends."""
    patterns: Floats
    plane: Floats
    origin: Floats
    if cell["kind"] == "figure 1":
        patterns, plane = FIGURE_1, np.eye(2)
        origin, corners, beta = np.zeros(2), (-3.2, 2.8, -2.0, 2.8), cell["beta"]
    else:
        patterns = _activations(cell, progress)
        origin, plane, corners = _plane(patterns)
        # at a pattern, the nearest other one then weighs e^-4
        beta = 4 / float(np.median(separation(patterns)) ** 2)
    energy: Energy = KINDS[cell["energy"]](beta)
    u, v = np.meshgrid(np.linspace(*corners[:2], cell["grid"]), np.linspace(*corners[2:], cell["grid"]))
    points = origin + np.stack([u.ravel(), v.ravel()], axis=1) @ plane
    ended = retrieve(points, patterns, energy, max_steps=STEPS)
    own = retrieve(patterns, patterns, energy, max_steps=STEPS)
    alone = ended.kind == "pattern"
    shown = (patterns[:3] - origin) @ plane.T
    nearest = np.linalg.norm(points[:, None] - patterns[:3], axis=2).argmin(axis=1) if len(patterns) == 3 else None
    value = energy.value(points, patterns)
    return {
        "beta": beta,
        "corners": list(corners),
        "patterns": shown.round(4).tolist(),
        "values": np.where(np.isfinite(value), value, np.nanmax(value[np.isfinite(value)])).round(3).tolist(),
        "ends": np.where(alone, ended.nearest, -1).tolist(),
        "stored": len(patterns),
        "kept": int(((own.kind == "pattern") & (own.nearest == np.arange(len(patterns)))).sum()),
        "right": None if nearest is None else int((alone & (ended.nearest == nearest)).sum()),
        "paths": [_path(point, patterns, energy, origin, plane) for point in points[:: max(1, len(points) // 24)]],
    }


def _activations(cell: Cell, progress: Progress) -> Floats:
    """Return the last activations of training rows, without the repetitions that a model may give to several rows."""
    training = Training(**cell["training"])
    if cell["trained"]:
        model, train, *_ = fit(training, progress)
    else:
        model, train = training.untrained, training.language.train[: training.rows]
    found = activations(model, train[: cell["stored"]]).astype(np.float64)
    return found[np.sort(np.unique(found, axis=0, return_index=True)[1])]


def _plane(patterns: Floats) -> tuple[Floats, Floats, tuple[float, float, float, float]]:
    """Return origin and orthonormal basis (2, d) of the plane through three patterns, and the corners to draw."""
    origin = patterns[:3].mean(axis=0)
    plane = np.linalg.svd(patterns[:3] - origin, full_matrices=False)[2][:2]
    shown = (patterns[:3] - origin) @ plane.T
    reach = 1.5 * float(np.abs(shown).max())
    return origin, plane, (-reach, reach, -reach, reach)


def _path(start: Floats, patterns: Floats, energy: Energy, origin: Floats, plane: Floats) -> list[list[float]]:
    """Return the states of a damped retrieval, in the plane: damping draws the descent as a smooth curve."""
    path = [start]
    for _ in range(40):
        path.append(path[-1] + 0.2 * (energy.update(path[-1], patterns) - path[-1]))
    shown: list[list[float]] = ((np.array(path)[::4] - origin) @ plane.T).round(3).tolist()
    return shown


def findings(records: Sequence[Record]) -> list[Finding]:
    """Return how many patterns each energy keeps, and how often it ends at the nearest one."""
    found = []
    for r in records:
        if r["kind"] == "figure 1":
            share = r["right"] / r["grid"] ** 2
            text = (
                f"The {r['energy']} energy with beta = {r['beta']:g} keeps {r['kept']} of 3 patterns; {share:.0%} of "
                "the grid ends at the nearest pattern."
            )
            found.append(Finding(f"{r['energy']} {r['beta']:g}", text, share, n=r["grid"] ** 2,
                                 expected="100% for a search of the nearest pattern"))  # fmt: skip
        else:
            share = r["kept"] / r["stored"]
            text = (
                f"Of {r['stored']} activations of the {'trained' if r['trained'] else 'untrained'} model, stored in "
                f"a distance energy, {share:.0%} are kept as patterns of their own, with beta = {r['beta']:.3g}: "
                "that is 4 over the median squared distance of nearest ones."
            )
            found.append(
                Finding(
                    "trained" if r["trained"] else "untrained",
                    text,
                    share,
                    n=r["stored"],
                    expected="that of the other model, if training does not matter",
                )
            )
    sharp = [r for r in records if r["kind"] == "figure 1"]
    if sharp:
        all_kept = {beta: [r["energy"] for r in sharp if r["beta"] == beta and r["kept"] == 3] for beta in (1.0, 4.0)}
        text = (
            f"At beta = 1, {_list(all_kept[1.0])} keep the three patterns of the paper's figure 1 apart; at beta = 4, "
            f"{_list(all_kept[4.0])} do."
        )
        found.insert(0, Finding("answer", text, float(len(all_kept[1.0])), n=len(sharp), expected="all of them"))
    return found


def _list(names: Sequence[str]) -> str:
    return f"{len(names)} of {len(KINDS)} energies" + (f" ({', '.join(names)})" if names else "")


def table(records: Sequence[Record]) -> tuple[list[str], list[list[Any]]]:
    """Return a row for every landscape."""
    header = ["landscape", "energy", "beta", "stored", "kept", "share of the grid that ends at one pattern"]
    return header, [
        [r["kind"] if r["kind"] == "figure 1" else f"slice, {'trained' if r['trained'] else 'untrained'}", r["energy"],
         round(r["beta"], 4), r["stored"], r["kept"], round(float(np.mean(np.array(r["ends"]) >= 0)), 3)]
        for r in records
    ]  # fmt: skip


def panels(records: Sequence[Record]) -> list[Panel]:
    """Draw every landscape: levels of the energy, basins in the colour of their pattern, and descent paths."""
    return [_panel(r) for r in records]


def _panel(r: Record) -> Panel:
    figure, ax = charts.axes("", "", height=3.4)
    ax.grid(visible=False)
    left, right, bottom, top = r["corners"]
    ends = np.array(r["ends"]).reshape(r["grid"], r["grid"])
    u, v = np.linspace(left, right, r["grid"]), np.linspace(bottom, top, r["grid"])
    for i in range(3):
        ax.contourf(u, v, ends == i, levels=[0.5, 1.5], colors=[charts.COLOURS[i]], alpha=0.28)
    values = np.array(r["values"]).reshape(ends.shape)
    ax.contour(u, v, values, levels=np.unique(np.quantile(values, np.linspace(0.02, 0.98, 11))), colors=charts.INK,
               linewidths=0.5, linestyles="solid", alpha=0.55)  # fmt: skip
    for path in r["paths"]:
        ax.plot(*np.array(path).T, color=charts.INK, linewidth=0.9)
    for i, (a, b) in enumerate(r["patterns"]):
        ax.plot([a], [b], charts.MARKERS[i], color=charts.COLOURS[i], markersize=10, markeredgecolor=charts.INK,
                gid=f"tip:pattern {i + 1}: {int((ends == i).sum())} of {ends.size} grid points end here")  # fmt: skip
    ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    name = f"{r['energy']}, beta = {r['beta']:.3g}"
    if r["kind"] == "slice":
        name = f"{'Trained' if r['trained'] else 'Untrained'} model: {name}"
    alt = f"Energy landscape ({name}): basins of three patterns, shaded where retrieval ends at one of them."
    return Panel(name[0].upper() + name[1:], alt, figure)
