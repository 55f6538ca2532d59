"""The figures of a study (needs matplotlib).

- energy landscapes with retrieval paths [`landscapes`]
- the results of a study, from its record (`results.json`): [`curves`], [`scaling`], [`extraction`], [`distances`],
  [`heads`]

Every function returns a matplotlib Figure and needs no display. Colours are taken from one dark-to-light scale and
every line has its own marker, so that the figures are readable in greyscale and for colour-blind readers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hopmin._extras import needed_by
from hopmin._typing import Energy, Floats
from hopmin.memory.energy import DistanceEnergy, DotEnergy
from hopmin.memory.nearest import nearest
from hopmin.memory.retrieval import retrieve

with needed_by("hopmin.study.figures", "study"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Record = dict[str, Any]

SHADES = ("#440154", "#31688e", "#35b779", "#b5a200")  # four colours of viridis, the last darkened for white paper
MARKERS = ("o", "s", "^", "D")
DARKER_IS_LOWER = [str(grey) for grey in np.linspace(0.6, 0.98, 12).round(2)]  # for the contours of an energy
FLOOR: Any = {"color": "0.25", "linestyle": (0, (5, 2)), "linewidth": 1.2}
MEMORIZED: Any = {"color": "0.25", "linestyle": ":", "linewidth": 1.4}
FIG1_PATTERNS = np.array([[-2.0, -0.5], [0.2, -0.3], [1.5, 1.5]])  # Niu et al. 2024, figure 1
FIG1_LINE = np.array([[-2.0], [0.0], [1.0]])


def landscapes() -> Figure:
    """Draw the two energies of the paper's figure 1, darker where lower, with retrieval from a grid of states."""
    figure = Figure(figsize=(8.8, 3.7), layout="constrained")
    axes = figure.subplots(1, 3)
    x, y = np.meshgrid(np.linspace(-3.2, 2.8, 49), np.linspace(-2, 2.8, 41))
    grid = np.column_stack([x.ravel(), y.ravel()])
    starts = np.array([[a, b] for a in (-3, -1.6, -0.6, 0.6, 1.6, 2.5) for b in (-1.7, -0.2, 1.2, 2.5)])
    panels = (
        ("distance energy, $\\beta$ = 1", DistanceEnergy()),
        ("dot energy, $\\beta$ = 1", DotEnergy()),
    )
    for ax, (title, energy) in zip(axes, panels, strict=False):
        value = energy.value(grid, FIG1_PATTERNS).reshape(x.shape)
        levels = np.quantile(value, np.linspace(0, 1, len(DARKER_IS_LOWER) + 1))
        ax.contourf(x, y, value, levels=levels, colors=DARKER_IS_LOWER)
        for start in starts:
            path = _path(start, FIG1_PATTERNS, energy)
            ax.plot(*path.T, color=SHADES[0], linewidth=0.8)
            ax.plot(*path[0], ".", color=SHADES[0], markersize=4)
        ends = retrieve(starts, FIG1_PATTERNS, energy).states
        ring: Any = {"markersize": 11, "markerfacecolor": "none", "markeredgewidth": 2}
        ax.plot(*ends.T, "o", color="#e8590c", label="retrieval ends here", **ring)
        ax.plot(*FIG1_PATTERNS.T, "x", color="black", markersize=7, markeredgewidth=2, label="stored pattern")
        ax.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(-3.2, 2.8), ylim=(-2, 2.8))
        ax.set_title(title, fontsize=11)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize=10, frameon=False)

    line = np.linspace(-3.2, 2.4, 400)[:, None]
    lines = (
        ("distance energy, $\\beta$ = 1", DistanceEnergy().value(line, FIG1_LINE), "-", SHADES[0]),
        ("dot energy, $\\beta$ = 1", DotEnergy(1).value(line, FIG1_LINE), "--", SHADES[1]),
        ("dot energy, $\\beta$ = 2", DotEnergy(2).value(line, FIG1_LINE), "-.", SHADES[2]),
        ("distance$^2$ to the nearest", nearest(line, FIG1_LINE)[0][:, 0] ** 2, ":", "0.4"),
    )
    for label, value, style, shade in lines:
        axes[2].plot(line, value, style, color=shade, label=label, linewidth=1.6)
    axes[2].plot(FIG1_LINE, np.full(3, -0.75), "kx", markersize=8, markeredgewidth=2, clip_on=False)
    axes[2].set(xlabel="$x$", ylabel="energy", ylim=(-0.75, 5.4), xlim=(-3.2, 2.4))
    axes[2].set_title("patterns $-2$, $0$, $1$ on a line", fontsize=11)
    axes[2].legend(loc="upper center", fontsize=9, frameon=False)
    return figure


def curves(record: Record) -> Figure:
    """Draw training loss against steps, one panel per amount of data, with two reference lines.

    One is the entropy of the language, the other the loss of a model that has memorized all training rows but cannot
    predict which one comes next: log(rows) nats per row.
    """
    amounts = sorted({run["rows"] for run in record["runs"]})
    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    panels = figure.subplots(1, len(amounts), sharey=True, squeeze=False)[0]
    for ax, rows in zip(panels, amounts, strict=True):
        for i, width in enumerate(_widths(record)):
            for run in _runs(record, rows=rows, width=width):
                steps = np.linspace(0, record["preset"]["steps"], len(run["curve"]) + 1)[1:]
                marked: Any = {"marker": MARKERS[i % 4], "markevery": 8, "markersize": 4}
                ax.plot(steps, run["curve"], color=SHADES[i % 4], linewidth=1.3, **marked)
        _floor(ax, record)
        ax.axhline(memorization_floor(_runs(record, rows=rows)[0]), **MEMORIZED)
        ax.set(title=f"{rows:,} rows", xlabel="step", ylim=(0, None))
    panels[0].set_ylabel("cross-entropy of the batch\n(nats per token)")
    figure.legend(
        handles=_sizes(record) + _floor_key(record), loc="outside lower center", ncols=3, fontsize=9, frameon=False
    )
    return figure


def scaling(record: Record) -> Figure:
    """Draw cross-entropy on training and held-out rows against the amount of data and against model size."""
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
    by_rows.plot([run["rows"] for run in narrowest], [memorization_floor(run) for run in narrowest], **MEMORIZED)
    by_rows.legend(handles=_sizes(record), fontsize=8, loc="upper right")
    by_size.legend(
        handles=[_dot(i, f"{rows:,} training rows") for i, rows in enumerate(amounts)], fontsize=8, loc=(0.04, 0.36)
    )
    by_size.margins(x=0.1)
    by_rows.set(title="against data, one line per model", xlabel="training rows")
    by_rows.set_ylabel("cross-entropy (nats per token)")
    by_size.set(title="against model size, one line per amount of data", xlabel="parameters")
    figure.legend(
        handles=_split_keys() + _floor_key(record), loc="outside lower center", ncols=2, fontsize=9, frameon=False
    )
    return figure


def extraction(record: Record) -> Figure:
    """Draw the fraction of training and held-out rows completed from their first half, with two standard errors."""
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
    """Draw the distribution of half the distance between nearest activations, and the radius that the paper predicts.

    There is one panel per width. All runs are measured on the same rows, those that every run was trained on.
    """
    widths = _widths(record)
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    for ax, width in zip(figure.subplots(1, len(widths), squeeze=False)[0], widths, strict=True):
        runs = [run for run in _runs(record, width=width) if run["distances"]]
        largest = max((max(run["distances"]) / 2 for run in runs), default=1.0)
        for i, run in enumerate(runs):
            half = np.array(run["distances"]) / 2
            fraction = np.arange(1, len(half) + 1) / len(half)
            marked: Any = {"marker": MARKERS[i % 4], "markevery": max(1, len(half) // 6), "markersize": 4}
            ax.plot(half, fraction, color=SHADES[i % 4], **marked)
        radius = runs[0]["predicted_radius"] if runs else 0.0
        ax.axvline(radius, **FLOOR)
        ax.annotate(f"predicted {radius:.2f}", (radius, 0.5), xytext=(-3, 0), textcoords="offset points",
                    rotation=90, va="center", ha="right", fontsize=8,
                    bbox={"color": "white", "alpha": 0.8, "pad": 1})  # fmt: skip
        ax.set(title=f"width {width}", xlim=(0, 1.05 * max(largest, radius)))
        ax.set_xlabel("half the distance to the nearest row")
        ax.set_ylabel("fraction of rows" if width == widths[0] else "")
    amounts = enumerate(sorted({run["rows"] for run in record["runs"]}))
    keys = [_dot(i, f"trained on {rows:,} rows") for i, rows in amounts]
    figure.legend(handles=keys, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


def heads(record: Record) -> Figure:
    """Draw how often the key with the largest weight is the nearest one, for every head, before and after training."""
    widths = _widths(record)
    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    panels = figure.subplots(1, len(widths), sharey=True, squeeze=False)[0]
    for ax, width in zip(panels, widths, strict=True):
        runs = _runs(record, width=width)
        for layer in range(runs[0]["layers"]):
            for place, run in enumerate(runs):
                agreement = run["head_agreement"][layer]
                x = np.full(len(agreement), place + 0.16 * (layer - (run["layers"] - 1) / 2))
                ax.plot(x, agreement, MARKERS[layer % 4], color=SHADES[layer % 4], markersize=6, alpha=0.85)
        untrained = float(np.mean([run["untrained"]["head_agreement"] for run in runs]))
        ax.axhline(untrained, color="0.25", linestyle=":", linewidth=1.2)
        ax.axhline(runs[0]["head_chance"], **FLOOR)
        ax.set_xticks(range(len(runs)), [f"{run['rows']:,}" for run in runs])
        ax.set(title=f"width {width}", xlabel="training rows", ylim=(0, 1), xlim=(-0.5, len(runs) - 0.5))
    panels[0].set_ylabel("attends to the nearest key\n(fraction of positions)")
    layers = range(max(run["layers"] for run in record["runs"]))
    keys = [
        *(_dot(layer, f"heads of layer {layer + 1}") for layer in layers),
        Line2D([], [], color="0.25", linestyle=":", label="mean before training"),
        Line2D([], [], **FLOOR, label="random key"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    return figure


def memorization_floor(run: Record) -> float:
    """Return the cross-entropy, in nats per token, of a model that knows the training rows but not their order.

    The loss of each row is then log(rows) nats, as all rows are equally likely.

    >>> round(memorization_floor({"rows": 100, "tokens": 2092}), 2)
    0.22
    """
    return float(run["rows"] * np.log(run["rows"]) / run["tokens"])


def _path(start: Floats, patterns: Floats, energy: Energy, damping: float = 0.1, steps: int = 200) -> Floats:
    """Return the states of a retrieval with small steps, which draw the descent as a smooth curve."""
    path = [start]
    for _ in range(steps):
        path.append(path[-1] + damping * (energy.update(path[-1], patterns) - path[-1]))
    return np.array(path)


def _widths(record: Record) -> list[int]:
    return sorted({run["width"] for run in record["runs"]})


def _runs(record: Record, **wanted: int) -> list[Record]:
    runs = [run for run in record["runs"] if all(run[key] == value for key, value in wanted.items())]
    return sorted(runs, key=lambda run: (run["rows"], run["parameters"]))


def _pair(ax: Axes, runs: list[Record], x: str, y: str, i: int) -> None:
    """Draw a line for held-out rows, solid and filled, and one for training rows, dashed and hollow."""
    for split, style, fill in (("held_out", "-", SHADES[i % 4]), ("train", "--", "white")):
        ax.plot([run[x] for run in runs], [run[y][split] for run in runs], style, color=SHADES[i % 4],
                marker=MARKERS[i % 4], markerfacecolor=fill, markersize=6, linewidth=1.4)  # fmt: skip


def _floor(ax: Axes, record: Record) -> None:
    if record["corpus"]["entropy"] is not None:
        ax.axhline(record["corpus"]["entropy"], **FLOOR)


def _floor_key(record: Record) -> list[Line2D]:
    entropy = record["corpus"]["entropy"]
    known = [] if entropy is None else [Line2D([], [], **FLOOR, label=f"entropy of the language, {entropy:.3f}")]
    return [*known, Line2D([], [], **MEMORIZED, label="memorized rows, log(rows) nats per row")]


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
