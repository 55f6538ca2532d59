"""How does the data that a model can fit without overfitting grow with its size?

The paper predicts that the number of parameters N grows with the square of the data D (proposition 5): an exponent of 2.
If its interval excludes 2, the prediction fails at this scale; if the interval also contains other integers, the models
are too few or too small to tell. Changing width alone, or width and depth together, must give the same exponent if N is
what counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import optimize

from hopmin._typing import Floats
from hopmin.study import charts
from hopmin.study.measure import cross_entropy, extraction_rate
from hopmin.study.models import Training, fit
from hopmin.study.plan import Cell, Cost, Finding, Panel, Progress, Record, Settings
from hopmin.study.statistics import Estimate, bootstrap, proportion

NUMBER = 2
TEXT = True
SIGMA = 0.2  # nats per token, as in the paper: training and held-out loss agree if they differ by less
METHOD = (
    "Models of several sizes are trained on nested sets of rows. D* is the smallest amount of data at which the training "
    "loss agrees with the best held-out loss to within 0.2 nats per token, found between two amounts by interpolation."
)
PAPER = "Section 5.2 derives N = O(D²); section 6.4 reports N / D*² of 8.7, 8.8 and 8.4 × 10⁻¹⁰ for three models of one depth."
CONTROL = (
    "The estimator is first applied to synthetic losses with planted exponents of 1, 1.5, 2 and 3. All models are trained "
    "with the same rows, batches and steps, so that models are compared in pairs."
)
CAVEATS = (
    "The number of steps is fixed, so models differ in how far they have converged. With this little spread in size, "
    "wide intervals are to be expected; D* beyond the largest amount of data is reported as such, and not used."
)

SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"models": ((1, 1, 4), (1, 2, 8)), "rows": (20, 40, 80), "steps": 6, "measured": 20},
    "quick": {
        "models": ((2, 2, 16), (2, 4, 32), (2, 4, 48)), "rows": (100, 400, 1_600, 6_400), "steps": 700, "measured": 200,
    },
    "standard": {
        "models": ((2, 2, 16), (2, 2, 24), (2, 4, 32), (2, 4, 48), (2, 4, 64), (1, 2, 16), (3, 3, 24), (4, 4, 32)),
        "rows": (100, 200, 400, 800, 1_600, 3_200, 6_400), "steps": 1_500, "measured": 500,
    },
    "paper": {
        "models": ((8, 15, 960), (8, 20, 1_280), (8, 22, 1_408)),
        "rows": (10_000, 50_000, 100_000, 200_000, 400_000), "steps": 20_000, "measured": 1_000,
    },
}  # fmt: skip


def cells(settings: Settings) -> list[Cell]:
    """Return a cell for every model, amount of data and seed."""
    sizes = SIZES[settings.preset]
    return [
        {**asdict(Training(
            layers, heads, width, rows, sizes["steps"], seed=seed,
            corpus=settings.corpus, drawn=max(sizes["rows"]), corpus_seed=settings.seed,
        )), "measured": sizes["measured"]}
        for layers, heads, width in sizes["models"]
        for rows in sizes["rows"]
        for seed in settings.all_seeds
    ]  # fmt: skip


def _training(cell: Cell) -> Training:
    return Training(**{name: value for name, value in cell.items() if name != "measured"})


def cost(cell: Cell) -> Cost:
    """Return the size and the length of a cell's training."""
    return _training(cell).cost


def run(cell: Cell, progress: Progress) -> Record:
    """Train one model on one amount of data; return its losses and extraction rates."""
    training, measured = _training(cell), cell["measured"]
    model, train, held_out, curve = fit(training, progress)
    return {
        "parameters": model.config.parameter_count - model.config.vocabulary * model.config.width,
        "used": len(train),
        "tokens": int((train[:, 1:] >= 0).sum()),
        "entropy": training.language.entropy,
        "loss": {"train": cross_entropy(model, train[:1000]), "held_out": cross_entropy(model, held_out)},
        "curve": [list(point) for point in curve],
        "extracted": {
            "train": round(extraction_rate(model, train[:measured]) * len(train[:measured])),
            "held_out": round(extraction_rate(model, held_out[:measured]) * len(held_out[:measured])),
        },
        "scored": {"train": len(train[:measured]), "held_out": len(held_out[:measured])},
    }


# D* and the exponent


def gap(record: Record) -> float:
    """Return the best held-out loss of a run minus the training loss at the same step, in nats per token."""
    _, train, held_out = min(record["curve"], key=lambda point: point[2])
    return float(held_out - train)


def smallest_data(amounts: Floats, gaps: Floats) -> float:
    """Return D*: where the gap between the losses falls below SIGMA for good, interpolated on a log scale.

    Parameters
    ----------
    amounts : ndarray, shape (n,)
        Amounts of data, ascending.
    gaps : ndarray, shape (n,)
        Held-out loss minus training loss.

    Returns
    -------
    float
        NaN if the gap of the largest amount is not below SIGMA, or that of the smallest already is.

    Examples
    --------
    >>> round(smallest_data(np.array([100.0, 400.0]), np.array([0.3, 0.1])))
    200
    """
    above = np.flatnonzero(gaps >= SIGMA)
    if len(above) == 0 or above[-1] == len(gaps) - 1:
        return float("nan")
    i = above[-1]
    share = (gaps[i] - SIGMA) / (gaps[i] - gaps[i + 1])
    return float(np.exp(np.log(amounts[i]) + share * np.log(amounts[i + 1] / amounts[i])))


def data_needed(records: Sequence[Record]) -> list[tuple[Record, float]]:
    """Return D*, in tokens, of every model and seed, each with one of its records."""
    found = []
    for model in sorted({(r["parameters"], r["layers"], r["width"], r["seed"]) for r in records}):
        runs = [r for r in records if (r["parameters"], r["layers"], r["width"], r["seed"]) == model]
        runs.sort(key=lambda r: r["tokens"])
        amounts, gaps = np.array([float(r["tokens"]) for r in runs]), np.array([gap(r) for r in runs])
        found.append((runs[0], smallest_data(amounts, gaps)))
    return found


def exponent(needed: Sequence[tuple[Record, float]]) -> Estimate | None:
    """Return the exponent of N against D*, the slope of their logarithms, resampling models and seeds."""
    points = np.array([[np.log(d), np.log(record["parameters"])] for record, d in needed if np.isfinite(d)])
    if len(points) < 2 or len(np.unique(points[:, 1])) < 2:
        return None

    def slope(rows: Floats) -> float:
        x, y = rows.T
        # N is known and D* is measured, so D* is regressed on N and the slope inverted
        spread = np.var(y)
        return float(spread / np.mean((x - x.mean()) * (y - y.mean()))) if spread > 0 else float("nan")

    return bootstrap(points, slope)


def planted(power: float, *, seed: int = 0, noise: float = 0.05) -> list[Record]:
    """Return synthetic records in which N grows exactly like D*^power, with noise on the losses."""
    rng = np.random.default_rng(seed)
    return [
        {
            "parameters": N, "layers": 2, "width": N, "seed": s, "tokens": int(D),
            "curve": [[1, 1.0, 1 + SIGMA * N ** (1 / power) * 20 / D * np.exp(noise * rng.normal())]],
        }
        for N in (1_000, 3_000, 9_000, 27_000)
        for s in range(3)
        for D in 20 * 1_000 ** (1 / power) * np.geomspace(0.2, 5 * 27 ** (1 / power), 12)
    ]  # fmt: skip


def chinchilla(records: Sequence[Record]) -> tuple[Floats, Floats] | None:
    """Return E, A, B, alpha, beta of L = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022), and bootstrap intervals.

    The loss is the best held-out one, and its logarithm is fitted with a Huber loss. With fewer than ten records there
    is no fit.
    """
    rows = np.array([[r["parameters"], r["tokens"], min(point[2] for point in r["curve"])] for r in records], float)
    if len(rows) < 10:
        return None

    def fitted(rows: Floats, start: Any) -> Floats:
        N, D, loss = rows.T

        def errors(p: Floats) -> Floats:
            e, a, b, alpha, beta = p
            terms = np.stack([np.full(len(N), e), a - alpha * np.log(N), b - beta * np.log(D)])
            misfit: Floats = np.logaddexp.reduce(terms) - np.log(loss)
            return misfit

        solution: Floats = optimize.least_squares(errors, start, loss="huber", f_scale=1e-2, max_nfev=400).x
        return solution

    starts = [[np.log(e), a, b, alpha, beta] for e in (0.5, 1.0) for a in (0.0, 5.0) for b in (0.0, 5.0)
              for alpha in (0.3, 1.0) for beta in (0.3, 1.0)]  # fmt: skip
    N, D, loss = rows.T

    def misfit(p: Floats) -> float:
        e, a, b, alpha, beta = p
        predicted = np.exp(e) + np.exp(a - alpha * np.log(N)) + np.exp(b - beta * np.log(D))
        return float(np.abs(np.log(predicted / loss)).sum())

    best = min((fitted(rows, start) for start in starts), key=misfit)
    rng = np.random.default_rng(0)
    drawn = np.array([fitted(rows[rng.integers(len(rows), size=len(rows))], best) for _ in range(100)])
    return _natural(best), np.quantile(_natural(drawn), [0.025, 0.975], axis=0)


def _natural(p: Floats) -> Floats:
    """Return E, A, B, alpha, beta, of which the first three were fitted as logarithms."""
    return np.concatenate([np.exp(np.clip(p[..., :3], -700, 700)), p[..., 3:]], axis=-1)


# The report


def findings(records: Sequence[Record]) -> list[Finding]:
    """Return the exponent, of all models and of width alone, the planted ones, and extraction at both ends."""
    needed = data_needed(records)
    reached = [(record, d) for record, d in needed if np.isfinite(d)]
    found, estimate = [], exponent(needed)
    if estimate is None:
        text = f"D* lies between the amounts tried for {len(reached)} of {len(needed)} models: too few for an exponent."
        found.append(Finding("exponent", text, n=len(reached), expected="2 by proposition 5"))
    else:
        wide = estimate.low is None or estimate.low < 1 or not estimate.low <= 2 <= (estimate.high or 0)
        contains = estimate.low is not None and estimate.high is not None and estimate.low <= 2 <= estimate.high
        verdict = "which contains the paper's 2" if contains else "which does not contain the paper's 2"
        verdict = verdict if estimate.low is not None else "without an interval"
        text = f"N grows with D* to the power of {estimate}, {verdict}, from {len(reached)} models of {len(needed)}."
        found.append(Finding("exponent", text, *estimate, expected="2 by proposition 5"))
        width = exponent([(r, d) for r, d in needed if r["layers"] == 2])
        deep = exponent([(r, d) for r, d in needed if r["layers"] != 2])
        for name, part in (("width alone", width), ("depth and width together", deep)):
            if part is not None and deep is not None:
                found.append(Finding(name, f"Changing {name}, the exponent is {part}.", *part, expected="2 as well"))
    for power in (1, 1.5, 2, 3):
        recovered = exponent(data_needed(planted(power)))
        if recovered is not None:
            found.append(Finding(f"planted {power}", f"From synthetic losses with an exponent of {power}, the estimator "
                                 f"finds {recovered}.", *recovered, expected=str(power)))  # fmt: skip
    fitted = chinchilla(records)
    if fitted is not None:
        (e, *_, alpha, beta), ((low_e, *_, low_a, low_b), (high_e, *_, high_a, high_b)) = fitted[0], fitted[1]
        text = (
            f"Chinchilla's form fits the best held-out losses with E = {e:.2f} ({low_e:.2f} to {high_e:.2f}), exponents "
            f"{alpha:.2f} ({low_a:.2f} to {high_a:.2f}) of N and {beta:.2f} ({low_b:.2f} to {high_b:.2f}) of D."
        )
        entropy = records[0]["entropy"]
        expected = "E is the entropy" if entropy is None else f"E = {entropy:.3f}, the entropy of the language"
        found.append(Finding("chinchilla", text, float(e), float(low_e), float(high_e), len(records), expected))
    for split in ("train", "held_out"):
        chosen = [r for r in records if r["used"] == min(r["used"] for r in records)]
        rate = proportion(sum(r["extracted"][split] for r in chosen), sum(r["scored"][split] for r in chosen))
        rows = "training" if split == "train" else "held-out"
        text = f"On the fewest rows ({chosen[0]['used']:,}), the models complete {rate} of the {rows} rows."
        found.append(Finding(f"extraction {split}", text, *rate, expected="held-out rows: what the rule predicts"))
    return found


def table(records: Sequence[Record]) -> tuple[list[str], list[list[Any]]]:
    """Return a row for every run."""
    header = ["layers", "width", "parameters", "rows", "seed", "training loss", "held-out loss", "best held-out loss",
              "gap", "extracted", "extracted, held out"]  # fmt: skip
    return header, [
        [r["layers"], r["width"], r["parameters"], r["used"], r["seed"], round(r["loss"]["train"], 4),
         round(r["loss"]["held_out"], 4), round(min(point[2] for point in r["curve"]), 4), round(gap(r), 4),
         *(round(r["extracted"][split] / r["scored"][split], 3) for split in ("train", "held_out"))]
        for r in sorted(records, key=lambda r: (r["parameters"], r["layers"], r["used"], r["seed"]))
    ]  # fmt: skip


def panels(records: Sequence[Record]) -> list[Panel]:
    """Draw losses against data, D* against size, extraction against data, and the planted exponents."""
    drawn = []
    loss, ax = charts.axes("training rows", "loss (nats per token)", xscale="log")
    rate, bx = charts.axes("training rows", "rows completed from their first half", xscale="log", ylim=(-0.03, 1.05))
    for i, (layers, width) in enumerate(sorted({(r["layers"], r["width"]) for r in records}, key=lambda m: m[1])):
        runs = sorted((r for r in records if (r["layers"], r["width"]) == (layers, width)), key=lambda r: r["used"])
        for split, hollow in (("held_out", False), ("train", True)):
            rows = [r["used"] for r in runs]
            name = "" if hollow else f"{layers}×{width}"
            y = [r["loss"][split] for r in runs]
            what = "training" if hollow else "held-out"
            tips = [f"{layers} layers, width {width}, {r['used']:,} rows, seed {r['seed']}: {what} loss {r['loss'][split]:.3f}"
                    for r in runs]  # fmt: skip
            charts.points(ax, rows, y, i, tips=tips, label=name, hollow=hollow)
            rates = [proportion(r["extracted"][split], r["scored"][split]) for r in runs]
            tips = [f"{layers} layers, width {width}, {r['used']:,} rows, seed {r['seed']}: {e} of {what} rows completed"
                    for r, e in zip(runs, rates, strict=True)]  # fmt: skip
            charts.points(bx, rows, [e.value for e in rates], i, tips=tips, label=name, hollow=hollow,
                          low=[e.low for e in rates], high=[e.high for e in rates])  # fmt: skip
    if records[0]["entropy"] is not None:
        charts.reference(ax, "entropy of the language", y=records[0]["entropy"], at=0.3)
    drawn.append(
        Panel(
            "Loss against data: held-out (solid) and training rows (dashed)",
            "With few rows the training loss is far below the held-out loss; with more they meet.",
            loss,
        )
    )
    drawn.append(
        Panel(
            "Rows completed: held-out (solid) and training rows (dashed)",
            "With few rows only training rows are completed; with more, held-out rows are too.",
            rate,
        )
    )
    reached = [(r, d) for r, d in data_needed(records) if np.isfinite(d)]
    if reached:
        figure, cx = charts.axes("parameters N", "D* (tokens)", xscale="log", yscale="log")
        x, y = [r["parameters"] for r, _ in reached], [d for _, d in reached]
        tips = [f"{r['layers']} layers, width {r['width']}, seed {r['seed']}: D* {d:,.0f} tokens" for r, d in reached]
        charts.points(cx, x, y, 0, tips=tips, line=False)
        ends = np.array([min(x), max(x)])
        middle = np.exp(np.mean(np.log(y)) - np.mean(np.log(x)) / 2)
        cx.plot(ends, middle * np.sqrt(ends), color=charts.INK, linewidth=1.2, linestyle=(0, (4, 3)))
        cx.annotate(
            "N ∝ D²",
            (ends[-1], middle * np.sqrt(ends[-1])),
            xytext=(-4, -14),
            textcoords="offset points",
            ha="right",
            fontsize=13,
        )
        drawn.append(Panel("The data at which the losses agree", "D* against the number of parameters.", figure))
    figure, dx = charts.axes("planted exponent", "recovered exponent")
    powers = (1, 1.5, 2, 3)
    estimates = [exponent(data_needed(planted(power))) for power in powers]
    dx.plot([0.8, 3.2], [0.8, 3.2], color=charts.INK, linewidth=1.2, linestyle=(0, (4, 3)))
    kept = [(p, e) for p, e in zip(powers, estimates, strict=True) if e is not None]
    charts.points(
        dx,
        [p for p, _ in kept],
        [e.value for _, e in kept],
        2,
        line=False,
        low=[e.low for _, e in kept],
        high=[e.high for _, e in kept],
        tips=[f"planted {p}: recovered {e}" for p, e in kept],
    )
    drawn.append(Panel("The estimator on planted exponents", "Recovered exponents lie on the diagonal.", figure))
    return drawn
