"""Figures from records (needs matplotlib).

- energies as landscapes, with retrieval running down them [`landscapes`]
- what a study found, from its record (`results.json`): [`curves`], [`scaling`], [`extraction`], [`distances`],
  [`heads`]

Every function returns a matplotlib Figure, and needs no display. Colours are of one dark-to-light scale and every
line has a marker of its own, so that the figures read in grey and without colour vision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hopmin.memory.energy import DistanceEnergy, DotEnergy
from hopmin.memory.nearest import nearest
from hopmin.memory.retrieval import retrieve

Record = dict[str, Any]

SHADES = ("#440154", "#31688e", "#35b779", "#b5a200")  # viridis at four depths, the last darkened to show on white
MARKERS = ("o", "s", "^", "D")
FLOOR: Any = {"color": "0.25", "linestyle": (0, (5, 2)), "linewidth": 1.2}
BY_HEART: Any = {"color": "0.25", "linestyle": ":", "linewidth": 1.4}
FIG1_PATTERNS = np.array([[-2.0, -0.5], [0.2, -0.3], [1.5, 1.5]])  # Niu et al. 2024, figure 1
FIG1_LINE = np.array([[-2.0], [0.0], [1.0]])


def landscapes() -> Figure:
    """The energies of the paper's figure 1 over the same patterns, with retrieval from a grid of starts."""
    figure = Figure(figsize=(10.5, 3.9), layout="constrained")
    axes = figure.subplots(1, 3)
    x, y = np.meshgrid(np.linspace(-3.2, 2.8, 49), np.linspace(-2, 2.8, 41))
    grid = np.column_stack([x.ravel(), y.ravel()])
    starts = np.array([[a, b] for a in (-3, -1.6, -0.6, 0.6, 1.6, 2.5) for b in (-1.7, -0.2, 1.2, 2.5)])
    panels = (
        ("distance energy (4), $\\beta$ = 1", DistanceEnergy()),
        ("dot energy (Ramsauer), $\\beta$ = 1", DotEnergy()),
    )
    for ax, (title, energy) in zip(axes, panels, strict=False):
        value = energy.value(grid, FIG1_PATTERNS).reshape(x.shape)
        levels = np.quantile(value, np.linspace(0, 1, 12))
        ax.contourf(x, y, value, levels=levels, cmap="Greys")
        for start in starts:
            path = _path(start, FIG1_PATTERNS, energy)
            ax.plot(*path.T, color=SHADES[1], linewidth=0.9)
            ax.plot(*path[0], ".", color=SHADES[1], markersize=4)
        ends = retrieve(starts, FIG1_PATTERNS, energy).states
        ax.plot(
            *ends.T,
            "o",
            color="#e8590c",
            markersize=11,
            markerfacecolor="none",
            markeredgewidth=2,
            label="retrieval ends here",
        )
        ax.plot(*FIG1_PATTERNS.T, "x", color="black", markersize=7, markeredgewidth=2, label="stored pattern")
        ax.set(title=title, xlabel="$x_1$", ylabel="$x_2$", xlim=(-3.2, 2.8), ylim=(-2, 2.8))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize=9, frameon=False)

    line = np.linspace(-3.2, 2.4, 400)[:, None]
    lines = (
        ("distance energy (4)", DistanceEnergy().value(line, FIG1_LINE), "-", SHADES[0]),
        ("dot energy, $\\beta$ = 1", DotEnergy(1).value(line, FIG1_LINE), "--", SHADES[1]),
        ("dot energy, $\\beta$ = 2", DotEnergy(2).value(line, FIG1_LINE), "-.", SHADES[2]),
        ("nearest pattern (3)", nearest(line, FIG1_LINE)[0][:, 0] ** 2, ":", "0.4"),
    )
    for label, value, style, shade in lines:
        axes[2].plot(line, value, style, color=shade, label=label, linewidth=1.6)
    axes[2].plot(FIG1_LINE, np.full(3, -0.75), "kx", markersize=8, markeredgewidth=2, clip_on=False)
    axes[2].set(
        title="patterns $-2$, $0$, $1$ on a line", xlabel="$x$", ylabel="energy", ylim=(-0.75, 4.6), xlim=(-3.2, 2.4)
    )
    axes[2].legend(loc="upper center", fontsize=8)
    return figure


def curves(record: Record) -> Figure:
    """Training loss against steps, a panel for each amount of data, with its two floors: the entropy of the language,
    and what is left for a model that knows all rows by heart but not which one comes next, log(rows) nats a row.
    """
    amounts = sorted({run["rows"] for run in record["runs"]})
    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    panels = figure.subplots(1, len(amounts), sharey=True, squeeze=False)[0]
    for ax, rows in zip(panels, amounts, strict=True):
        for i, width in enumerate(_widths(record)):
            for run in _runs(record, rows=rows, width=width):
                steps = np.linspace(0, record["preset"]["steps"], len(run["curve"]) + 1)[1:]
                ax.plot(
                    steps,
                    run["curve"],
                    color=SHADES[i % 4],
                    marker=MARKERS[i % 4],
                    markevery=8,
                    markersize=4,
                    linewidth=1.3,
                )
        _floor(ax, record)
        ax.axhline(by_heart(_runs(record, rows=rows)[0]), **BY_HEART)
        ax.set(title=f"{rows:,} rows", xlabel="step", ylim=(0, None))
    panels[0].set_ylabel("cross-entropy of the batch\n(nats per token)")
    figure.legend(
        handles=_sizes(record) + _floor_key(record), loc="outside lower center", ncols=3, fontsize=9, frameon=False
    )
    return figure


def scaling(record: Record) -> Figure:
    """Cross-entropy on training rows and on held-out rows, against the amount of data and against the size of the
    model.
    """
    figure = Figure(figsize=(10.5, 4), layout="constrained")
    by_rows, by_size = figure.subplots(1, 2, sharey=True)
    for i, width in enumerate(_widths(record)):
        _pair(by_rows, _runs(record, width=width), "rows", "cross_entropy", i)
    amounts = sorted({run["rows"] for run in record["runs"]})
    for i, rows in enumerate(amounts):
        _pair(by_size, _runs(record, rows=rows), "parameters", "cross_entropy", i)
    for ax in (by_rows, by_size):
        _floor(ax, record)
        ax.set(xscale="log", ylim=(0, None))
    narrowest = _runs(record, width=_widths(record)[0])
    by_rows.plot([run["rows"] for run in narrowest], [by_heart(run) for run in narrowest], **BY_HEART)
    by_rows.legend(handles=_sizes(record), fontsize=8, loc="upper right")
    by_size.legend(
        handles=[_dot(i, f"{rows:,} training rows") for i, rows in enumerate(amounts)], fontsize=8, loc=(0.62, 0.42)
    )
    by_size.margins(x=0.1)
    by_rows.set(
        xlabel="training rows", ylabel="cross-entropy (nats per token)", title="against data, a line for each model"
    )
    by_size.set(xlabel="parameters", title="against model size, a line for each amount of data")
    figure.legend(
        handles=_split_keys() + _floor_key(record), loc="outside lower center", ncols=2, fontsize=9, frameon=False
    )
    return figure


def extraction(record: Record) -> Figure:
    """The share of rows completed from their first half, trained on and held out, with two standard errors."""
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    ax = figure.subplots()
    for i, width in enumerate(_widths(record)):
        runs = _runs(record, width=width)
        _pair(ax, runs, "rows", "extraction_rate", i)
        for split in ("train", "held_out"):
            rate = np.array([run["extraction_rate"][split] for run in runs])
            error = 2 * np.sqrt(rate * (1 - rate) / np.array([run["measured"][split] for run in runs]))
            ax.errorbar(
                [run["rows"] for run in runs], rate, error, fmt="none", ecolor=SHADES[i % 4], elinewidth=1, capsize=3
            )
    ax.set(xscale="log", xlabel="training rows", ylabel="extraction rate", ylim=(-0.03, 1.05))
    figure.legend(
        handles=_sizes(record) + _split_keys(), loc="outside lower center", ncols=2, fontsize=9, frameon=False
    )
    return figure


def distances(record: Record) -> Figure:
    """Half the nearest-neighbour distances of last activations, by width, next to the radius that the paper predicts.

    All runs are measured on the same rows, the fewest that any was trained on.
    """
    widths = _widths(record)
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    for ax, width in zip(figure.subplots(1, len(widths), squeeze=False)[0], widths, strict=True):
        runs = [run for run in _runs(record, width=width) if run["distances"]]
        most = max((max(run["distances"]) / 2 for run in runs), default=1.0)
        for i, run in enumerate(runs):
            half = np.array(run["distances"]) / 2
            share = np.arange(1, len(half) + 1) / len(half)
            shade = SHADES[i % 4]
            ax.plot(half, share, color=shade, marker=MARKERS[i % 4], markevery=max(1, len(half) // 6), markersize=4)
        radius = runs[0]["predicted_radius"] if runs else 0.0
        ax.axvline(radius, **FLOOR)
        ax.annotate(f"predicted {radius:.2f}", (radius, 0.5), xytext=(-3, 0), textcoords="offset points",
                    rotation=90, va="center", ha="right", fontsize=8,
                    bbox={"color": "white", "alpha": 0.8, "pad": 1})  # fmt: skip
        ax.set(
            title=f"width {width}",
            xlabel="half the distance to the nearest other one",
            xlim=(0, 1.05 * max(most, radius)),
        )
        ax.set_ylabel("share of rows" if width == widths[0] else "")
    amounts = enumerate(sorted({run["rows"] for run in record["runs"]}))
    keys = [_dot(i, f"trained on {rows:,} rows") for i, rows in amounts]
    figure.legend(handles=keys, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


def heads(record: Record) -> Figure:
    """For every head, how often the strongest key is the nearest one; a random key would be at the dashed line."""
    widths = _widths(record)
    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    panels = figure.subplots(1, len(widths), sharey=True, squeeze=False)[0]
    for ax, width in zip(panels, widths, strict=True):
        runs = _runs(record, width=width)
        for layer in range(runs[0]["layers"]):
            for place, run in enumerate(runs):
                shares = run["head_agreement"][layer]
                x = place + 0.16 * (layer - (run["layers"] - 1) / 2)
                ax.plot(
                    np.full(len(shares), x),
                    shares,
                    MARKERS[layer % 4],
                    color=SHADES[layer % 4],
                    markersize=6,
                    alpha=0.85,
                )
        untrained = float(np.mean([run["untrained"]["head_agreement"] for run in runs]))
        ax.axhline(untrained, color="0.25", linestyle=":", linewidth=1.2)
        ax.axhline(runs[0]["head_chance"], **FLOOR)
        ax.set_xticks(range(len(runs)), [f"{run['rows']:,}" for run in runs])
        ax.set(title=f"width {width}", xlabel="training rows", ylim=(0, 1), xlim=(-0.5, len(runs) - 0.5))
    panels[0].set_ylabel("strongest key is nearest\n(share of positions)")
    layers = range(max(run["layers"] for run in record["runs"]))
    keys = [
        *(_dot(layer, f"heads of layer {layer + 1}") for layer in layers),
        Line2D([], [], color="0.25", linestyle=":", label="mean before training"),
        Line2D([], [], **FLOOR, label="random key"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    return figure


def by_heart(run: Record) -> float:
    """The nats per token that rows cost who knows them by heart but not which one comes next: log(rows) a row.

    >>> round(by_heart({"rows": 100, "tokens": 2092}), 2)
    0.22
    """
    return run["rows"] * float(np.log(run["rows"])) / run["tokens"]


def _path(start: np.ndarray, patterns: np.ndarray, energy: Any, share: float = 0.1, steps: int = 200) -> np.ndarray:
    """Where retrieval goes if each step covers only a share of the way: the same descent, drawn as a curve."""
    path = [start]
    for _ in range(steps):
        path.append(path[-1] + share * (energy.update(path[-1], patterns) - path[-1]))
    return np.array(path)


def _widths(record: Record) -> list[int]:
    return sorted({run["width"] for run in record["runs"]})


def _runs(record: Record, **wanted: int) -> list[Record]:
    runs = [run for run in record["runs"] if all(run[key] == value for key, value in wanted.items())]
    return sorted(runs, key=lambda run: (run["rows"], run["parameters"]))


def _pair(ax: Axes, runs: list[Record], x: str, y: str, i: int) -> None:
    """One line for held-out rows, solid and filled, and one for training rows, dashed and hollow."""
    for split, style, fill in (("held_out", "-", SHADES[i % 4]), ("train", "--", "white")):
        ax.plot([run[x] for run in runs], [run[y][split] for run in runs], style, color=SHADES[i % 4],
                marker=MARKERS[i % 4], markerfacecolor=fill, markersize=6, linewidth=1.4)  # fmt: skip


def _floor(ax: Axes, record: Record) -> None:
    if record["corpus"]["entropy"] is not None:
        ax.axhline(record["corpus"]["entropy"], **FLOOR)


def _floor_key(record: Record) -> list[Line2D]:
    entropy = record["corpus"]["entropy"]
    known = [] if entropy is None else [Line2D([], [], **FLOOR, label=f"entropy of the language, {entropy:.3f}")]
    return [*known, Line2D([], [], **BY_HEART, label="rows known by heart, log(rows) nats a row")]


def _sizes(record: Record) -> list[Line2D]:
    return [
        _dot(i, f"width {width}, {_runs(record, width=width)[0]['parameters']:,} parameters")
        for i, width in enumerate(_widths(record))
    ]


def _dot(i: int, label: str) -> Line2D:
    return Line2D([], [], color=SHADES[i % 4], marker=MARKERS[i % 4], linestyle="", label=label)


def _split_keys() -> list[Line2D]:
    return [
        Line2D([], [], color="0.3", linestyle="-", marker=".", label="held-out rows"),
        Line2D([], [], color="0.3", linestyle="--", marker="o", markerfacecolor="white", label="training rows"),
    ]
