"""How does the data that a model can fit without overfitting grow with its size?

The paper predicts that the number of parameters N grows with the square of the data D (proposition 5): an exponent of
2. If its interval excludes 2, the prediction fails at this scale; if the interval also contains other integers, the
models are too few or too small to tell. Changing width alone, or width and depth together, must give the same exponent
if N is what counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from hopmin._extras import needed_by
from hopmin._typing import Floats
from hopmin.study import charts
from hopmin.study.measure import cross_entropy, extraction_rate
from hopmin.study.models import Training, entropy_name, fit
from hopmin.study.plan import Cell, Cost, Finding, Panel, Progress, Record, Settings
from hopmin.study.statistics import RESAMPLES, Estimate, line, mean, share

with needed_by("hopmin.study.experiments.grid", "study"):
    import scipy  # imports its modules when they are used

NUMBER = 2
TEXT = True
Drawn = Literal["sizes", "seeds"]  # by a bootstrap
SIGMA = 0.2  # nats per token, as in the paper: training and held-out loss agree if they differ by less
METHOD = (
    "Models of several sizes are trained on nested sets of rows. D* is the smallest amount of data at which the "
    "training loss agrees with the best held-out loss to within 0.2 nats per token, found between two amounts by "
    "interpolation."
)
PAPER = (
    "Section 5.2 derives N = O(D²); section 6.4 reports N / D*² of 8.7, 8.8 and 8.4 × 10⁻¹⁰ for three models of one "
    "depth, which differ by a factor of 2 in size."
)
CONTROL = (
    "The estimator is first applied to synthetic losses with planted exponents of 1, 1.5, 2 and 3. All models are "
    "trained with the same rows, batches and steps, so that models are compared in pairs."
)
CAVEATS = (
    "The number of steps is fixed, so models differ in how far they have converged. Models whose D* lies outside the "
    "amounts tried are counted and left out, which favours small models. Intervals are Student's t over models, and "
    "wide for three of them. Bootstrap intervals are shown as well. For four sizes and three seeds, one that draws "
    "seeds covers a planted exponent in about 3 cases of 4, one that draws sizes in 9 of 10, Student's t in 19 of 20."
)

WIDTHS = ((2, 2, 16), (2, 2, 24), (2, 4, 32), (2, 4, 48), (2, 4, 64))  # layers, heads, width
ASPECT = ((1, 2, 16), (3, 4, 48), (4, 4, 64))  # and (2, 4, 32): width is 16 times the depth
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"models": ((1, 1, 4), (1, 2, 8)), "rows": (20, 40, 80), "steps": 6, "measured": 20},
    "quick": {
        "models": ((2, 2, 16), (2, 4, 32), (2, 4, 48)), "rows": (100, 400, 1_600, 6_400), "steps": 600, "measured": 200,
    },
    "standard": {
        "models": WIDTHS + ASPECT, "rows": (100, 200, 400, 800, 1_600, 3_200, 6_400), "steps": 700, "measured": 500,
    },
    "paper": {
        "models": ((8, 15, 960), (8, 20, 1_280), (8, 22, 1_408)),
        "rows": (10_000, 50_000, 100_000, 200_000, 400_000), "steps": 20_000, "measured": 1_000,
    },
}  # fmt: skip


def cells(settings: Settings) -> list[Cell]:
    """Return a cell for every model, amount of data and seed."""
    sizes = SIZES[settings.preset]
    drawn = max(12_500, *sizes["rows"])
    return [
        {"layers": layers, "width": width, "seed": seed, "measured": sizes["measured"], "training": asdict(Training(
            layers, heads, width, rows, sizes["steps"], seed=seed,
            corpus=settings.corpus, drawn=drawn, corpus_seed=settings.seed,
        ))}
        for layers, heads, width in sizes["models"]
        for rows in sizes["rows"]
        for seed in settings.all_seeds
    ]  # fmt: skip


def cost(cell: Cell) -> Cost:
    """Return the size and the length of a cell's training."""
    return Training(**cell["training"]).cost


def run(cell: Cell, progress: Progress) -> Record:
    """Train one model on one amount of data; return its losses and extraction rates."""
    training, measured = Training(**cell["training"]), cell["measured"]
    model, train, held_out, curve = fit(training, progress)
    return {
        "parameters": model.config.parameter_count - model.config.vocabulary * model.config.width,
        "used": len(train),
        "tokens": int((train[:, 1:] >= 0).sum()),
        **training.reference,
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


def growth(needed: Sequence[tuple[Record, float]]) -> Estimate | None:
    """Return the exponent of D* against N: the slope of their logarithms, over models, each the mean of its seeds.

    N is known and D* is measured, so it is D* that is regressed. With fewer than two models there is none.
    """
    by_size: dict[int, list[float]] = {}
    for record, d in needed:
        if np.isfinite(d):
            by_size.setdefault(record["parameters"], []).append(float(np.log(d)))
    if len(by_size) < 2:
        return None
    return line(np.log(list(by_size)), [float(np.mean(logs)) for logs in by_size.values()])[0]


def resampled_growth(needed: Sequence[tuple[Record, float]], *, draw: Drawn = "sizes") -> Estimate | None:
    """Return `growth` with the interval of a bootstrap.

    Parameters
    ----------
    needed : sequence of (dict, float)
        What `data_needed` returned.
    draw : {"sizes", "seeds"}
        What is drawn with replacement: the models' sizes, each with the mean of its seeds, or the seeds, the same ones
        for all sizes. The latter says how far other seeds would move the slope of these sizes, and covers too little if
        there are few seeds.

    Returns
    -------
    Estimate or None
        None with fewer than two sizes; without an interval if there are too few of what is drawn.
    """
    slope = growth(needed)
    if slope is None:
        return None
    reached = [(record, float(np.log(d))) for record, d in needed if np.isfinite(d)]
    sizes, seeds = (sorted({record[name] for record, _ in reached}) for name in ("parameters", "seed"))
    if len(sizes if draw == "sizes" else seeds) < (3 if draw == "sizes" else 2):
        return slope._replace(low=None, high=None)
    sums, counts = np.zeros((2, len(sizes), len(seeds)))
    for record, log in reached:
        at = sizes.index(record["parameters"]), seeds.index(record["seed"])
        sums[at], counts[at] = sums[at] + log, counts[at] + 1
    rng, x = np.random.default_rng(0), np.log(sizes)
    with np.errstate(invalid="ignore", divide="ignore"):  # draws without the seeds of a size
        if draw == "sizes":
            which = rng.integers(len(sizes), size=(RESAMPLES, len(sizes)))
            which = which[np.ptp(which, axis=1) > 0]  # one size has no slope
            x, y = x[which], (sums.sum(axis=1) / counts.sum(axis=1))[which]
        else:
            times = rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=RESAMPLES)
            y = (times @ sums.T) / (times @ counts.T)
        x = x - x.mean(axis=-1, keepdims=True)
        slopes = (x * y).sum(axis=-1) / (x**2).sum(axis=-1)
    low, high = np.quantile(slopes[np.isfinite(slopes)], [0.025, 0.975])
    return slope._replace(low=float(low), high=float(high))


def exponent(slope: Estimate | None) -> Estimate | None:
    """Return the exponent of N against D*, one over the slope that `growth` or `resampled_growth` returned.

    It is None if there is no slope, or it is 0, and has an interval if that of the slope is above 0.
    """
    if slope is None or slope.value == 0:
        return None
    if slope.side(0) <= 0:
        return Estimate(1 / slope.value, None, None, slope.n)
    return Estimate(1 / slope.value, 1 / (slope.high or 1), 1 / (slope.low or 1), slope.n)


def alike(needed: Sequence[tuple[Record, float]], trait: Callable[[Record], float]) -> list[tuple[Record, float]]:
    """Return the models that have the most common value of a trait, such as the number of layers."""
    (common, _), *_ = Counter(trait(record) for record, _ in needed).most_common(1)
    return [(record, d) for record, d in needed if trait(record) == common]


def planted(power: float, *, seed: int = 0, noise: float = 0.05) -> list[Record]:
    """Return synthetic records in which N grows exactly like D*^power, with noise on the losses.

    Parameters
    ----------
    power : float
        The exponent.
    seed : int
        Seed of the noise.
    noise : float
        Standard deviation of the logarithm of the gap between the losses.

    Returns
    -------
    list of dict
        The records, as far as `data_needed` reads them.
    """
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

        solution: Floats = scipy.optimize.least_squares(errors, start, loss="huber", f_scale=1e-2, max_nfev=400).x
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
    """Return the exponent, of all models and of width alone, the planted ones, and extraction from the fewest rows."""
    needed = data_needed(records)
    found = [_exponent_finding(needed), *_bootstrap_findings(needed)]
    parts = {
        "Width alone": alike(needed, lambda r: float(r["layers"])),
        "Depth and width together": alike(needed, lambda r: r["width"] / r["layers"]),
    }
    for name, part in parts.items():
        estimate, models = growth(part), len({r["parameters"] for r, _ in part})
        if estimate is not None and estimate.low is not None and models < len({r["parameters"] for r, _ in needed}):
            text = f"{name}, D* grows with N to the power of {estimate}, from {estimate.n} of {models} models."
            found.append(
                Finding(name.lower(), text, *estimate, expected="the same as for all models, if N is what counts")
            )
    for power in (1, 1.5, 2, 3):
        synthetic = data_needed(planted(power))
        recovered, drawn = exponent(growth(synthetic)), exponent(resampled_growth(synthetic, draw="seeds"))
        if recovered is not None:
            text = (
                f"From synthetic losses with an exponent of {power}, the estimator finds {recovered}; with a bootstrap "
                f"of seeds, {drawn}."
            )
            found.append(Finding(f"planted {power}", text, *recovered, expected=str(power)))
    return [*found, *_chinchilla_finding(records), *_extraction_finding(records)]


def _exponent_finding(needed: Sequence[tuple[Record, float]]) -> Finding:
    """Return what the models say about the exponent, or that they say nothing."""
    slope, estimate, expected = (
        growth(needed),
        exponent(growth(needed)),
        "2 by proposition 5: D* grows as N to the power of 1/2",
    )
    reached = sum(np.isfinite(d) for _, d in needed)
    of = f"{reached} of {len(needed)} models and seeds"
    if slope is None or estimate is None:
        text = f"D* lies between the amounts tried for {of}: too few for an exponent."
        return Finding("exponent", text, n=int(reached), expected=expected)
    if slope.low is None:
        verdict = "Two sizes give an exponent without an interval"
    elif slope.side(0) <= 0:
        verdict = "These models do not determine the exponent"
    elif slope.side(0.5) == 0:
        verdict = "The paper's exponent of 2 cannot be excluded"
    else:
        verdict = "The exponent differs from the paper's 2"
    text = (
        f"{verdict}: N grows with D* to the power of {estimate}, as D* grows with N to the power of {slope}, from {of} "
        f"({slope.n} sizes)."
    )
    return Finding("exponent", text, *estimate, expected=expected)


def _bootstrap_findings(needed: Sequence[tuple[Record, float]]) -> list[Finding]:
    """Return the bootstrap intervals of the exponent, where there are any."""
    found = []
    for draw in get_args(Drawn):
        slope = resampled_growth(needed, draw=draw)
        estimate = exponent(slope)
        if slope is not None and slope.low is not None and estimate is not None:
            text = (
                f"With a bootstrap of {draw}, the exponent is {estimate}, as D* grows with N to the power of {slope}."
            )
            found.append(Finding(f"bootstrap of {draw}", text, *estimate, expected="2, as above"))
    return found


def _chinchilla_finding(records: Sequence[Record]) -> list[Finding]:
    fitted = chinchilla(records)
    if fitted is None:
        return []
    (e, *_, alpha, beta), (low, high) = fitted
    text = (
        f"Chinchilla's form fits the best held-out losses with E = {e:.2f} ({low[0]:.2f} to {high[0]:.2f}), exponents "
        f"{alpha:.2f} ({low[3]:.2f} to {high[3]:.2f}) of N and {beta:.2f} ({low[4]:.2f} to {high[4]:.2f}) of D."
    )
    entropy = records[0]["entropy"]
    expected = f"E = {entropy:.3f}, the {entropy_name(records[0])} of the language"
    return [Finding("chinchilla", text, float(e), float(low[0]), float(high[0]), len(records), expected)]


def _extraction_finding(records: Sequence[Record]) -> list[Finding]:
    """Return how many rows the largest model completes that was trained on the fewest and on the most rows."""
    largest = max(r["parameters"] for r in records)
    found = []
    own = [r for r in records if r["parameters"] == largest]
    for name, used in (("fewest", min(r["used"] for r in own)), ("most", max(r["used"] for r in own))):
        chosen = [r for r in own if r["used"] == used]
        train, held_out = (
            share([(r["extracted"][split], r["scored"][split], r["scored"][split]) for r in chosen])
            for split in ("train", "held_out")
        )
        text = (
            f"Trained on the {name} rows ({used:,}), the largest model completes {train} of its training rows from "
            f"their first half, and {held_out} of held-out rows."
        )
        found.append(Finding(f"extraction {name}", text, train.value - held_out.value, n=len(chosen),
                             expected="equal shares if no row were memorized"))  # fmt: skip
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
    loss, ax = charts.axes("training rows", "loss (nats per token)", xscale="log")
    rate, bx = charts.axes("training rows", "share of rows completed", xscale="log", ylim=(-0.03, 1.05))
    depth = alike(data_needed(records), lambda r: float(r["layers"]))[0][0]["layers"]
    shapes = sorted({(r["layers"], r["width"]) for r in records if r["layers"] == depth})
    for i, (layers, width) in enumerate(shapes):
        runs = [r for r in records if (r["layers"], r["width"]) == (layers, width)]
        rows = sorted({r["used"] for r in runs})
        for split, hollow, what in (("held_out", False, "held-out"), ("train", True, "training")):
            for axis, measure in ((ax, _loss), (bx, _extracted)):
                at = [measure([r for r in runs if r["used"] == used], split) for used in rows]
                tips = [f"{layers} layers, width {width}, {used:,} rows, {what} rows: {e}"
                        for used, e in zip(rows, at, strict=True)]  # fmt: skip
                charts.points(axis, rows, [e.value for e in at], i, tips=tips, hollow=hollow,
                              low=[e.low for e in at], high=[e.high for e in at],
                              label="" if hollow or axis is bx else f"{layers}×{width}")  # fmt: skip
        charts.note(bx, f"{layers}×{width}", i, len(shapes))
    if records[0]["entropy"] is not None:
        charts.reference(ax, entropy_name(records[0]), y=records[0]["entropy"], at=0.6, below=True)
    drawn = [
        Panel("Loss on held-out rows (solid) and training rows (dashed), by layers × width",
              "Losses of models of several widths against the number of training rows.", loss),
        Panel("Rows completed from their first half: held out (solid), training (dashed)",
              "Share of rows whose second half is decoded exactly, against the number of training rows.", rate),
    ]  # fmt: skip
    reached = [(r, d) for r, d in data_needed(records) if np.isfinite(d)]
    if reached:
        figure, cx = charts.axes("parameters N", "D* (tokens)", xscale="log", yscale="log")
        x, y = [r["parameters"] for r, _ in reached], [d for _, d in reached]
        tips = [f"{r['layers']} layers, width {r['width']}, seed {r['seed']}: D* {d:,.0f} tokens" for r, d in reached]
        charts.points(cx, x, y, 0, tips=tips, line=False)
        ends = np.array([min(x), max(x)], float)
        middle = np.exp(np.mean(np.log(y)) - np.mean(np.log(x)) / 2)
        charts.diagonal(cx, ends.tolist(), (middle * np.sqrt(ends)).tolist(), "slope of N ∝ D²")
        drawn.append(Panel("Data D* at which the two losses agree", "D* against the number of parameters.", figure))
    figure, dx = charts.axes("planted exponent", "recovered exponent", xticks=(1, 1.5, 2, 3))
    charts.diagonal(dx, [0.8, 3.2], [0.8, 3.2], "equal")
    synthetic = {power: data_needed(planted(power)) for power in (1, 1.5, 2, 3)}
    intervals: dict[str, Callable[[Any], Estimate | None]] = {
        "Student's t": growth, "bootstrap of seeds": partial(resampled_growth, draw="seeds"),
    }  # fmt: skip
    for i, (name, slopes) in enumerate(intervals.items()):
        kept = [(p, e) for p, of in synthetic.items() if (e := exponent(slopes(of))) is not None]
        charts.points(dx, [p + 0.06 * i for p, _ in kept], [e.value for _, e in kept], 2 + i, line=False,
                      hollow=i == 1, low=[e.low for _, e in kept], high=[e.high for _, e in kept],
                      tips=[f"planted {p}: recovered {e}, {name}" for p, e in kept])  # fmt: skip
    title = "The estimator on planted exponents: intervals of Student's t (filled), of a bootstrap of seeds (hollow)"
    return [*drawn, Panel(title, "Recovered against planted exponents, with both intervals.", figure)]


def _loss(runs: Sequence[Record], split: str) -> Estimate:
    return mean([r["loss"][split] for r in runs])


def _extracted(runs: Sequence[Record], split: str) -> Estimate:
    return share([(r["extracted"][split], r["scored"][split], r["scored"][split]) for r in runs])
