"""How much does a transformer memorize, and do the field's measures of it agree?

If a model is a memory, the bits that it stores of random rows reach a plateau proportional to its parameters, and a
language is memorized while its rows hold fewer bits than that. If extraction, counterfactual memorization and
membership measure one thing, they rank the same rows alike; what a model completes without having seen it is not
memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from hopmin._extras import needed_by
from hopmin._typing import Floats, Integers
from hopmin.data.corpus import inputs_and_targets
from hopmin.numerics import log_softmax
from hopmin.study import charts
from hopmin.study.measure import cross_entropy
from hopmin.study.models import Training, entropy_name, fit, train
from hopmin.study.plan import Cell, Cost, Finding, Panel, Progress, Record, Settings
from hopmin.study.statistics import Estimate, bootstrap, mean, over_models
from hopmin.transformer.model import GPT, GPTConfig
from hopmin.transformer.training import BATCH

with needed_by("hopmin.study.experiments.memorization", "study"):
    import scipy  # imports its modules when they are used

NUMBER = 4
TEXT = True
PREFIXES = (0.25, 0.5, 0.75)  # of the tokens of a row
SAMPLES = 10
METHOD = (
    "Models are trained on 100, 10, 1 and 0.1% of the rows for equal steps; on random tokens until they store no "
    "more; and on random halves of the rows, so that every row is in some models and not in others. An area under "
    "the curve is the probability that a member has a lower loss than another row."
)
PAPER = (
    "The first version of the paper reports that 0.1% of a corpus is memorized and that 1% behaves like all of it. "
    "Morris et al. (2025) find 3.5 to 4 bits per parameter above half a million parameters."
)
CONTROL = (
    "Random rows hold no rule, so all that is predicted of them is memorized. Every measure on rows that were "
    "trained on is compared with the same measure on the same rows in models that were not trained on them. Two "
    "measures are compared across two halves of the models, so that they share no noise, and each with itself in "
    "the same way."
)
CAVEATS = (
    "Small models trained for a limited number of steps store less than they could: bits per parameter are a lower "
    "bound. Rows of Question Formation can be completed by rule once their first half is known."
)
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {
        "fractions": (1, 1, 8, 60, 6, (1.0, 0.1)), "bits": (((1, 1, 8, 8, 6),), (4, 8), 6),
        "peak": (1, 1, 8, (10, 40), 6), "halves": (1, 1, 8, 20, 6, 4),
    },
    "quick": {
        "fractions": (2, 4, 32, 10_000, 600, (1.0, 0.1, 0.01, 0.001)),
        "bits": (((2, 2, 16, 32, 16),), (50, 100, 200, 400), 1_200),
        "peak": (2, 2, 16, (100, 200, 400, 800, 1_600, 6_400), 600),
        "halves": (1, 2, 32, 200, 250, 20),
    },
    "standard": {
        "fractions": (2, 4, 64, 10_000, 1_000, (1.0, 0.1, 0.01, 0.001)),
        "bits": (((2, 2, 16, 32, 16), (2, 4, 32, 32, 16)), (100, 200, 400, 800), 2_500),
        "peak": (2, 2, 16, (100, 200, 400, 800, 1_600, 3_200, 6_400), 700),
        "halves": (2, 4, 32, 400, 500, 40),
    },
    "paper": {
        "fractions": (6, 8, 512, 100_000, 100_000, (1.0, 0.1, 0.01, 0.001)),
        "bits": (((1, 1, 32, 2_048, 64), (2, 2, 64, 2_048, 64)), (256, 512, 1_024, 2_048, 4_096), 1_000_000),
        "peak": (2, 2, 64, (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000), 1_000_000),
        "halves": (6, 8, 512, 10_000, 20_000, 40),
    },
}  # fmt: skip


def cells(settings: Settings) -> list[Cell]:
    """Return the cells of the four parts."""
    sizes = SIZES[settings.preset]
    corpus: dict[str, Any] = {"corpus": settings.corpus, "corpus_seed": settings.seed}
    layers, heads, width, rows, steps, shares = sizes["fractions"]
    drawn = max(rows, 12_500)
    fractions = [
        {"part": "fraction", "fraction": share, "seed": seed, "training": asdict(
            Training(layers, heads, width, max(1, round(share * rows)), steps, seed=seed, drawn=drawn, **corpus)
        )}
        for share in shares
        for seed in settings.all_seeds
    ]  # fmt: skip
    models, amounts, steps = sizes["bits"]
    bits = [
        {
            "part": "bits",
            "layers": L,
            "heads": H,
            "width": D,
            "symbols": V,
            "length": S,
            "rows": rows,
            "steps": steps,
            "seed": seed,
        }
        for L, H, D, V, S in models
        for rows in amounts
        for seed in settings.all_seeds
    ]
    layers, heads, width, amounts, steps = sizes["peak"]
    peak = [
        {"part": "peak", "layers": layers, "width": width, "seed": seed, "training": asdict(
            Training(layers, heads, width, rows, steps, seed=seed, drawn=max(12_500, *amounts), **corpus)
        )}
        for rows in amounts
        for seed in settings.all_seeds
    ]  # fmt: skip
    layers, heads, width, rows, steps, count = sizes["halves"]
    training = asdict(
        Training(layers, heads, width, rows, steps, seed=settings.seed, drawn=max(rows, 12_500), **corpus)
    )
    halves = [{"part": "half", "number": i, "seed": settings.seed, "training": training} for i in range(count)]
    return fractions + bits + peak + halves


def cost(cell: Cell) -> Cost:
    """Return the size and the length of a cell's training."""
    if cell["part"] == "bits":
        return Cost(12 * cell["layers"] * cell["width"] ** 2, cell["steps"] * min(64, cell["rows"]) * cell["length"])
    return Training(**cell["training"]).cost


def run(cell: Cell, progress: Progress) -> Record:
    """Train one model and return its measurements."""
    return {"fraction": _fraction, "peak": _fraction, "bits": _bits, "half": _half}[cell["part"]](cell, progress)


def _fraction(cell: Cell, progress: Progress) -> Record:
    training = Training(**cell["training"])
    model, rows, held_out, curve = fit(training, progress)
    return {
        "rows": len(rows),
        "tokens": int((rows[:, 1:] >= 0).sum()),
        "parameters": model.config.parameter_count,
        **training.reference,
        "curve": [list(point) for point in curve],
        "loss": {"train": cross_entropy(model, rows[:1000]), "held_out": cross_entropy(model, held_out)},
    }


def _bits(cell: Cell, progress: Progress) -> Record:
    """Return the bits of uniformly random rows, and how many of them the model has memorized."""
    V, S, n = cell["symbols"], cell["length"], cell["rows"]
    rows = random_rows(n, S, V, np.random.default_rng([cell["seed"], n]))
    model = GPT(
        GPTConfig(V + 1, S, cell["layers"], cell["heads"], cell["width"], init_std=None),
        np.random.default_rng([cell["seed"], cell["width"]]),
    )
    train(
        model, rows, steps=cell["steps"], batch_size=min(64, n), seed=cell["seed"], evaluations=1,
        progress=lambda share, loss: progress(share, f"{n:,} random rows, width {cell['width']}, loss {loss:.2f}"),
    )  # fmt: skip
    entropy = n * S * math.log2(V)
    code = n * S * cross_entropy(model, rows) / math.log(2)
    return {"parameters": model.config.parameter_count, "entropy_bits": entropy, "memorized_bits": entropy - code}


def random_rows(n: int, length: int, symbols: int, rng: np.random.Generator) -> Integers:
    """Return rows (n, length + 1) of uniformly random tokens from 1 to `symbols`, each after a 0.

    Parameters
    ----------
    n : int
        Number of rows.
    length : int
        Number of random tokens of a row.
    symbols : int
        Number of different tokens.
    rng : Generator
        Source of randomness.

    Returns
    -------
    ndarray of int
        The rows.
    """
    rows: Integers = np.concatenate([np.zeros((n, 1), np.int64), rng.integers(1, symbols + 1, (n, length))], axis=1)
    return rows


def _half(cell: Cell, progress: Progress) -> Record:
    """Train on a random half of the rows; return which, and the measurements of all rows."""
    training = Training(**cell["training"])
    rows = training.language.train[: training.rows]
    rng = np.random.default_rng([training.seed, cell["number"]])
    member = np.zeros(len(rows), bool)
    member[rng.choice(len(rows), len(rows) // 2, replace=False)] = True
    model = GPT(training.config, rng)
    train(
        model, rows[member], steps=training.steps, batch_size=training.batch_size, seed=cell["number"], evaluations=1,
        progress=lambda share, loss: progress(share, f"half {cell['number'] + 1}, loss {loss:.2f}"),
    )  # fmt: skip
    return {"member": member.astype(int).tolist(), **score(model, rows)}


def score(model: GPT, rows: Integers) -> Record:
    """Return for every row its loss and, for each of PREFIXES, how its continuation would be decoded.

    Returns
    -------
    dict
        loss (n,): nats per token; greedy (n, 3): 1 if taking the likeliest token reproduces the continuation exactly;
        nats (n, 3): the negative logarithm of the probability that sampling reproduces it.
    """
    loss, greedy, nats = [], [], []
    for start in range(0, len(rows), BATCH):
        tokens, targets = inputs_and_targets(rows[start : start + BATCH])
        log_p = log_softmax(model.logits(tokens).astype(np.float64), axis=-1)
        real = targets >= 0
        cost = np.where(real, -np.take_along_axis(log_p, np.maximum(targets, 0)[..., None], axis=-1)[..., 0], 0)
        right = (log_p.argmax(axis=-1) == targets) | ~real
        lengths = real.sum(axis=1)
        loss += (cost.sum(axis=1) / lengths).round(5).tolist()
        later = [np.arange(targets.shape[1]) >= np.floor(share * lengths)[:, None] for share in PREFIXES]
        greedy += np.stack([(right | ~part).all(axis=1) for part in later], axis=1).astype(int).tolist()
        nats += np.stack([(cost * part).sum(axis=1) for part in later], axis=1).round(4).tolist()
    return {"loss": loss, "greedy": greedy, "nats": nats}


# What the models of halves say together


def counterfactual(scores: Floats, member: Floats) -> Floats:
    """Return the counterfactual memorization (n,) of each row (Zhang et al. 2021).

    It is the mean score in the models that were trained on the row, minus the mean in those that were not.

    Parameters
    ----------
    scores, member : ndarray, shape (models, n)
        Scores of the rows, and whether the model was trained on them.

    Returns
    -------
    ndarray, shape (n,)
        NaN for rows that are in all models or in none.

    Examples
    --------
    >>> counterfactual(np.array([[1.0, 0.5], [0.0, 0.5]]), np.array([[1, 1], [0, 0]]))
    array([1., 0.])
    """
    inside, outside = member.sum(axis=0), (1 - member).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (scores * member).sum(axis=0) / inside - (scores * (1 - member)).sum(axis=0) / outside
    return found


def separation(loss: Floats, member: Floats) -> Floats:
    """Return how far a row's losses (models, n) tell models trained on it from others, in standard deviations (n,).

    This is what a likelihood-ratio attack uses (Carlini et al. 2022). Unlike the area under the curve of a row, it does
    not stop at 1 for rows that all models memorize. NaN for rows that fewer than two models of a kind have seen.

    >>> separation(np.array([[1.0], [1.5], [3.0], [3.5]]), np.array([[1], [1], [0], [0]])).round(2)
    array([5.66])
    """
    parts = [np.where(member == of, loss, np.nan) for of in (1, 0)]
    enough = np.minimum(member.sum(axis=0), (1 - member).sum(axis=0)) >= 2
    found = np.full(loss.shape[1], np.nan)
    inside, outside = (part[:, enough] for part in parts)
    spread = np.sqrt((np.nanvar(inside, axis=0, ddof=1) + np.nanvar(outside, axis=0, ddof=1)) / 2)
    found[enough] = (np.nanmean(outside, axis=0) - np.nanmean(inside, axis=0)) / np.maximum(spread, 1e-12)
    return found


def _stacked(records: Sequence[Record]) -> dict[str, Any]:
    """Return the measurements of all halves as arrays (models, n, ...)."""
    return {name: np.array([r[name] for r in records], float) for name in ("member", "loss", "greedy", "nats")}


def area_under_curve(members: Floats, others: Floats) -> float:
    """Return the probability that a member has a lower loss than another row, counting ties as a half.

    >>> area_under_curve(np.array([0.1, 0.2]), np.array([0.2, 0.9]))
    0.875
    """
    return float(scipy.stats.mannwhitneyu(others, members).statistic / (len(members) * len(others)))


# The report


def findings(records: Sequence[Record]) -> list[Finding]:
    """Return bits per parameter, the law of the smaller of capacity and entropy, and the measures of rows."""
    bits, fractions, peak, halves = (_part(records, part) for part in ("bits", "fraction", "peak", "half"))
    found = _bits_findings(bits) if bits else []
    if len(halves) > 1:
        found += _row_findings(_stacked(halves))
    if peak:
        found.append(_peak_finding(peak, bits))
    for fraction in sorted({r["fraction"] for r in fractions}, reverse=True):
        chosen = [r for r in fractions if r["fraction"] == fraction]
        train = over_models(chosen, lambda r: r["loss"]["train"])
        held_out = over_models(chosen, lambda r: r["loss"]["held_out"])
        gap = over_models(chosen, lambda r: r["loss"]["held_out"] - r["loss"]["train"])
        text = (
            f"Trained on {fraction:.1%} of the rows ({chosen[0]['rows']:,}), the loss is {train.value:.3f} on "
            f"training rows and {held_out.value:.3f} on held-out rows, a difference of {gap} nats per token."
        )
        found.append(Finding(f"fraction {fraction:g}", text, *gap, expected="equal losses if nothing were memorized"))
    return found


def capacities(bits: Sequence[Record]) -> dict[tuple[int, int, int], Record]:
    """Return for every model (layers, width, seed) the record of the rows of which it has memorized most bits."""
    return {
        model: max((r for r in bits if _model(r) == model), key=lambda r: r["memorized_bits"])
        for model in _models(bits)
    }


def _bits_findings(bits: Sequence[Record]) -> list[Finding]:
    found, plateau, most = [], capacities(bits), max(r["rows"] for r in bits)
    for parameters in sorted({r["parameters"] for r in plateau.values()}, reverse=True):
        of = [r for r in plateau.values() if r["parameters"] == parameters]
        ratio = over_models(of, lambda r: r["memorized_bits"] / r["parameters"])
        limit = (
            "; it may hold more, as the most rows tried gave the most bits"
            if any(r["rows"] == most for r in of)
            else ""
        )
        text = f"A model of {parameters:,} parameters memorizes {ratio} bits per parameter of random rows{limit}."
        found.append(
            Finding(f"bits {parameters}", text, *ratio, expected="3.5 to 4 for models above half a million parameters")
        )
    errors = []
    for model, top in plateau.items():
        others = [r for r in bits if _model(r) == model and r is not top and r["memorized_bits"] > 0]
        misfits = [abs(min(top["memorized_bits"], r["entropy_bits"]) / r["memorized_bits"] - 1) for r in others]
        errors += [{"seed": top["seed"], "error": float(np.mean(misfits))}] if misfits else []
    if errors:
        error = over_models(errors, lambda r: r["error"])
        text = (
            "The smaller of entropy and capacity, which is the most bits that a model memorized, predicts its bits of "
            f"other amounts of random rows with a mean relative error of {error}."
        )
        found.append(Finding("law", text, *error, expected="0.017 in Morris et al."))
    return found


def _peak_finding(peak: Sequence[Record], bits: Sequence[Record]) -> Finding:
    """Return the amount of data at which the held-out loss is highest, and how it compares with the capacity."""
    amounts = sorted({r["rows"] for r in peak})
    loss = [float(np.mean([r["loss"]["held_out"] for r in peak if r["rows"] == n])) for n in amounts]
    top = int(np.argmax(loss))
    at = [r for r in peak if r["rows"] == amounts[top]]
    load = _load(at[0], bits)
    held = "" if load is None else f", which hold {load:.2g} times the bits that the model stores of random rows"
    text = f"After equal steps the held-out loss is highest, {loss[top]:.2f}, with {amounts[top]:,} rows{held}"
    if top in (0, len(amounts) - 1):
        text += f". These are the {'fewest' if top == 0 else 'most'} tried, so no peak is seen between the amounts"
    return Finding("peak", f"{text}.", load, n=len(peak), expected="a peak at 1 times the capacity (Morris et al.)")


def _load(r: Record, bits: Sequence[Record]) -> float | None:
    """Return the bits in the rows of a record over the capacity of a model of its size, if both are known."""
    alike = [
        c["memorized_bits"] / c["parameters"]
        for c in capacities(bits).values()
        if (c["layers"], c["width"]) == (r["layers"], r["width"])
    ]
    if r["entropy"] is None or not alike or np.mean(alike) <= 0:
        return None
    return float(r["entropy"] * r["tokens"] / math.log(2) / (np.mean(alike) * r["parameters"]))


def _row_findings(seen: dict[str, Any]) -> list[Finding]:
    """Return what the models of halves say about rows; the models are the observations."""
    member, found = seen["member"], []
    for i, share in enumerate(PREFIXES):
        inside, outside = (_rates(seen["greedy"][..., i], of) for of in (member, 1 - member))
        more = mean(inside - outside)
        text = (
            f"Given {share:.0%} of a row, greedy decoding extracts {inside.mean():.1%} of the rows that a model was "
            f"trained on and {outside.mean():.1%} of the others, a difference of {more}."
        )
        found.append(Finding(f"extraction {share:g}", text, *more, expected="0 if nothing were memorized"))
    areas = mean([area_under_curve(loss[m > 0], loss[m == 0]) for loss, m in zip(seen["loss"], member, strict=True)])
    text = f"The loss of a row tells members from others with an area under the curve of {areas}."
    found.append(Finding("membership", text, *areas, expected="0.5 if nothing were memorized"))
    halves = [_measures({name: a[part::2] for name, a in seen.items()}) for part in (0, 1)]
    names = list(halves[0])
    for a, b in combinations_with_replacement(names, 2):
        rank = rank_agreement(*(np.stack([half[a], half[b]]) for half in halves))
        if rank is None:
            continue
        if a == b:
            text = f"The rank correlation of {a} in two halves of the models is {rank}."
            found.append(Finding(f"{a}, again", text, *rank, expected="1 for a measure without noise"))
        else:
            text = f"The rank correlation of {a} and {b}, each from another half of the models, is {rank}."
            expected = "the geometric mean of that of each with itself, if they measured one thing"
            found.append(Finding(f"{a}, {b}", text, *rank, expected=expected))
    return found


def rank_agreement(first: Floats, second: Floats) -> Estimate | None:
    """Return the rank correlation of two measures, each from another half of the models, with an interval over rows.

    Parameters
    ----------
    first, second : ndarray, shape (2, n)
        The two measures of the rows, in each half of the models.

    Returns
    -------
    Estimate or None
        The mean of the two correlations of measure 1 of one half with measure 2 of the other; None if one is constant.
    """
    rows = np.concatenate([first, second]).T
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(rows) < 3 or not np.ptp(rows, axis=0).all():
        return None

    def agreement(drawn: Floats) -> float:
        ranks = scipy.stats.rankdata(drawn, axis=0)
        if not np.ptp(ranks, axis=0).all():
            return math.nan
        correlation = np.corrcoef(ranks.T)
        return float(correlation[0, 3] + correlation[1, 2]) / 2

    return bootstrap(rows, agreement)


def _measures(seen: dict[str, Any]) -> dict[str, Floats]:
    """Return three measures of how far each row is memorized (n,): higher is more."""
    member = seen["member"]
    return {
        "counterfactual memorization": counterfactual(-seen["loss"], member),
        "extraction": counterfactual(seen["greedy"][..., 1], member),
        "membership": separation(seen["loss"], member),
    }


def _rates(hits: Floats, of: Floats) -> Floats:
    """Return the share of hits (models, n) among some rows of each model (models,)."""
    found: Floats = (hits * of).sum(axis=1) / of.sum(axis=1)
    return found


def _part(records: Sequence[Record], part: str) -> list[Record]:
    return [r for r in records if r["part"] == part]


def _model(r: Record) -> tuple[int, int, int]:
    return r["layers"], r["width"], r["seed"]


def _models(bits: Sequence[Record]) -> list[tuple[int, int, int]]:
    return sorted({_model(r) for r in bits})


def table(records: Sequence[Record]) -> tuple[list[str], list[list[Any]]]:
    """Return a row for every model on random rows and on a fraction of the rows."""
    header = ["part", "parameters", "rows", "seed", "bits of the rows", "memorized bits", "bits per parameter",
              "training loss", "held-out loss"]  # fmt: skip
    bits = [
        ["random rows", r["parameters"], r["rows"], r["seed"], round(r["entropy_bits"]), round(r["memorized_bits"]),
         round(r["memorized_bits"] / r["parameters"], 3), None, None]
        for r in sorted(_part(records, "bits"), key=lambda r: (r["parameters"], r["rows"], r["seed"]))
    ]  # fmt: skip
    fractions = [
        [f"{r['fraction']:.1%} of the corpus", r["parameters"], r["rows"], r["seed"], None, None, None,
         round(r["loss"]["train"], 4), round(r["loss"]["held_out"], 4)]
        for r in sorted(_part(records, "fraction"), key=lambda r: (-r["fraction"], r["seed"]))
    ]  # fmt: skip
    peak = [
        ["amounts of data", r["parameters"], r["rows"], r["seed"], None if r["entropy"] is None
         else round(r["entropy"] * r["tokens"] / math.log(2)), None, None,
         round(r["loss"]["train"], 4), round(r["loss"]["held_out"], 4)]
        for r in sorted(_part(records, "peak"), key=lambda r: (r["rows"], r["seed"]))
    ]  # fmt: skip
    return header, bits + peak + fractions


def panels(records: Sequence[Record]) -> list[Panel]:
    """Draw memorized bits, losses against steps and data, extraction by prefix, and the measures against each other."""
    bits, fractions, peak, halves = (_part(records, part) for part in ("bits", "fraction", "peak", "half"))
    drawn = [_bits_panel(bits)] if bits else []
    drawn += [_peak_panel(peak, bits)] if peak else []
    drawn += [_fractions_panel(fractions)] if fractions else []
    return drawn + (_row_panels(_stacked(halves)) if len(halves) > 1 else [])


def _bits_panel(bits: Sequence[Record]) -> Panel:
    figure, ax = charts.axes("bits in the rows", "bits memorized", xscale="log", yscale="log")
    ends = [min(r["entropy_bits"] for r in bits), max(r["entropy_bits"] for r in bits)]
    charts.diagonal(ax, ends, ends, "all of them", above=True)
    for i, parameters in enumerate(sorted({r["parameters"] for r in bits})):
        chosen = [r for r in bits if r["parameters"] == parameters]
        x = sorted({r["entropy_bits"] for r in chosen})
        at = [mean([max(1.0, r["memorized_bits"]) for r in chosen if r["entropy_bits"] == held]) for held in x]
        tips = [f"{parameters:,} parameters: {e} of {held:,.0f} bits, {e.value / parameters:.2f} per parameter"
                for held, e in zip(x, at, strict=True)]  # fmt: skip
        charts.points(ax, x, [e.value for e in at], i, tips=tips, label=f"{parameters:,}",
                      low=[e.low and max(1.0, e.low) for e in at], high=[e.high for e in at])  # fmt: skip
    return Panel("Random rows: bits memorized, by number of parameters",
                 "Bits memorized against the bits in the rows, with the line of all bits.", figure)  # fmt: skip


def _peak_panel(peak: Sequence[Record], bits: Sequence[Record]) -> Panel:
    figure, ax = charts.axes("training rows", "loss (nats per token)", xscale="log")
    amounts = sorted({r["rows"] for r in peak})
    for split, hollow, what in (("held_out", False, "held-out"), ("train", True, "training")):
        at = [mean([r["loss"][split] for r in peak if r["rows"] == n]) for n in amounts]
        tips = [f"{n:,} rows: {what} loss {e}" for n, e in zip(amounts, at, strict=True)]
        charts.points(ax, amounts, [e.value for e in at], 0, tips=tips, label=what, hollow=hollow,
                      low=[e.low for e in at], high=[e.high for e in at])  # fmt: skip
    load = _load(peak[0], bits)
    if load:
        charts.reference(ax, "capacity", x=peak[0]["rows"] / load, at=0.55)
    if peak[0]["entropy"] is not None:
        charts.reference(ax, entropy_name(peak[0]), y=peak[0]["entropy"], at=0.6, below=True)
    return Panel("Loss against data: is there a peak at the capacity?",
                 "Held-out and training loss after equal steps against the number of rows, and the number of rows "
                 "whose "
                 "bits equal the capacity for random rows.", figure)  # fmt: skip


def _fractions_panel(fractions: Sequence[Record]) -> Panel:
    figure, ax = charts.axes("step", "loss (nats per token)")
    seed = min(r["seed"] for r in fractions)
    for i, r in enumerate(sorted((r for r in fractions if r["seed"] == seed), key=lambda r: -r["fraction"])):
        steps = [point[0] for point in r["curve"]]
        for column, hollow, what in ((2, False, "held-out"), (1, True, "training")):
            y = [point[column] for point in r["curve"]]
            tips = [
                f"{r['fraction']:.1%} of the rows, step {s}: {what} loss {v:.3f}" for s, v in zip(steps, y, strict=True)
            ]
            charts.points(ax, steps, y, i, tips=tips, hollow=hollow, label="" if hollow else f"{r['fraction']:.1%}")
    ax.set_ylim(bottom=0)
    if fractions[0]["entropy"] is not None:
        charts.reference(ax, entropy_name(fractions[0]), y=fractions[0]["entropy"], at=0.6, below=True)
    return Panel("Loss on held-out rows (solid) and training rows (dashed), by share of the corpus",
                 "Losses along the training, on 100, 10, 1 and 0.1% of the rows.", figure)  # fmt: skip


def _row_panels(seen: dict[str, Any]) -> list[Panel]:
    figure, ax = charts.axes("share of the row given", "share of rows extracted", ylim=(-0.03, 1.05), xticks=PREFIXES)
    once = np.exp(-seen["nats"])
    decodings = {"greedy": seen["greedy"], f"best of {SAMPLES}": 1 - (1 - once) ** SAMPLES, "one sample": once}
    for i, (name, hits) in enumerate(decodings.items()):
        for of, hollow, who in ((seen["member"], False, "members"), (1 - seen["member"], True, "others")):
            at = [mean(_rates(hits[..., j], of)) for j in range(len(PREFIXES))]
            tips = [f"{name}, {share:.0%} given: {e} of {who} extracted" for share, e in zip(PREFIXES, at, strict=True)]
            charts.points(ax, PREFIXES, [e.value for e in at], i, tips=tips, hollow=hollow,
                          label="" if hollow else name, low=[e.low for e in at], high=[e.high for e in at])  # fmt: skip
    measures = _measures(seen)
    x, y = measures["counterfactual memorization"], measures["membership"]
    shown = np.flatnonzero(np.isfinite(x) & np.isfinite(y))[:200]
    other, bx = charts.axes("counterfactual (nats per token)", "membership (s.d.)")
    charts.points(bx, x[shown].tolist(), y[shown].tolist(), 0, line=False,
                  tips=[f"row {i}: counterfactual memorization {x[i]:.3f}, membership {y[i]:.3f}, "
                        f"extraction {measures['extraction'][i]:.2f}" for i in shown])  # fmt: skip
    charts.reference(bx, "not told apart", y=0.0, at=0.5)
    return [
        Panel("Extraction of training rows (solid) and of the same rows held out (dashed)",
              "Share of rows completed from a quarter, a half and three quarters, under three decodings.", figure),
        Panel("Two measures of the same rows", "Every point is a row: its counterfactual memorization and how far its "
              "loss tells models that were trained on it from others.", other),
    ]  # fmt: skip
