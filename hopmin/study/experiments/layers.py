"""Is attention a nearest-neighbour search, and do layers descend an energy?

If a head searches, its strongest key is the nearest one, more often after training than before and far more often than
a random key. If layers minimize a global energy, as the paper says, no block raises it; what holds is a bound on how
much a layer may raise it, and for attention that is built as a step of an energy, a decrease.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hopmin._typing import Integers
from hopmin.memory.energy import DistanceEnergy
from hopmin.memory.layered import LayeredMemory
from hopmin.memory.nearest import separation
from hopmin.study import charts, pretrained
from hopmin.study.measure import head_statistics, small_batches, states
from hopmin.study.models import Training, fit
from hopmin.study.plan import Cell, Cost, Finding, Panel, Progress, Record, Settings
from hopmin.study.statistics import Estimate, over_models, share
from hopmin.transformer.llama import Llama
from hopmin.transformer.model import GPT

NUMBER = 5
TEXT = True
METHOD = (
    "For every head and position it is counted whether the key of largest weight is the nearest to the query, and the "
    "nearest once keys are scaled to one length. Then the activations of training rows after each block are stored as "
    "that layer's patterns, and held-out rows are followed through the energies of all layers. Models are trained "
    "here; SmolLM2-135M, shown a text, joins them where its package is installed."
)
PAPER = (
    "Section 4 takes attention for a step to the nearest pattern, and section 4.2 the sequence of layers for the "
    "minimization of a global energy."
)
CONTROL = (
    "A random key; the same models before training, or with random weights in the place of SmolLM2-135M's; "
    "and models whose attention is a step of an energy with the same patterns in all blocks, where the energy must "
    "fall."
)
CAVEATS = (
    "Keys come from a layer norm, which makes their norms similar before anything is learned: agreement alone is not "
    "evidence of a search. The patterns of a layer are a choice, as a standard transformer stores none explicitly."
)
SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"models": ((2, 1, 8),), "rows": 40, "steps": 6, "measured": 10, "pretrained": 4},
    "quick": {
        "models": ((2, 2, 16), (2, 4, 32), (2, 4, 48)), "rows": 400, "steps": 600, "measured": 60, "pretrained": 30,
    },
    "standard": {
        "models": ((2, 4, 32), (2, 4, 64), (4, 4, 64)), "rows": 800, "steps": 700, "measured": 100, "pretrained": 100,
    },
    "paper": {
        "models": ((6, 8, 512), (10, 8, 512)), "rows": 100_000, "steps": 100_000, "measured": 500, "pretrained": 500,
    },
}  # fmt: skip
TICKS = {"pretrained": "SmolLM2", "random": "random"}  # names of kinds that are too long below a panel
ENERGY: Any = {"attention": "energy", "shared_layers": True, "hidden": 0}
KINDS = ("trained", "untrained", "energy")
NAMES = {
    **{kind: f"{kind.capitalize()} models" for kind in KINDS},
    "pretrained": "SmolLM2-135M", "random": "SmolLM2-135M with random weights",
}  # fmt: skip


def cells(settings: Settings) -> list[Cell]:
    """Return a cell for every kind of model, size and seed, and for a pretrained model."""
    sizes = SIZES[settings.preset]
    own = [
        {"kind": kind, "layers": layers, "width": width, "seed": seed, "measured": sizes["measured"],
         "training": asdict(Training(
                layers, heads, width, sizes["rows"], sizes["steps"], seed=seed, corpus=settings.corpus,
                corpus_seed=settings.seed, options=ENERGY if kind == "energy" else None,
            )
        )}
        for layers, heads, width in sizes["models"]
        for seed in settings.all_seeds
        for kind in KINDS
    ]  # fmt: skip
    return own + [
        {"kind": "pretrained" if trained else "random", "pretrained": settings.pretrained, "corpus": settings.corpus,
         "seed": settings.seed, "measured": sizes["pretrained"]}
        for trained in pretrained.variants(settings.pretrained, settings.corpus)
    ]  # fmt: skip


def cost(cell: Cell) -> Cost:
    """Return the cost of training the model and of the measurements."""
    if "pretrained" in cell:
        return pretrained.cost(3 * cell["measured"])
    seconds = 1e-4 * cell["measured"] * cell["layers"] * cell["width"]
    return (
        Cost(seconds=seconds) if cell["kind"] == "untrained" else Cost(*Training(**cell["training"]).cost[:2], seconds)
    )


def run(cell: Cell, progress: Progress) -> Record:
    """Return the measurements of every head, and how blocks change the energies."""
    if "pretrained" in cell:
        shown = pretrained.Pretrained(cell["pretrained"], cell["corpus"], cell["kind"] == "pretrained", cell["seed"])
        given, rows = shown.model, shown.rows
        measured, stored = np.split(rows[: 2 * cell["measured"]], [min(cell["measured"], len(rows) // 2)])
        return {
            "layers": given.config.layers, "width": given.config.width, "measured": len(measured),
            "heads": _heads(given, measured), **_layered(given, stored, measured),
        }  # fmt: skip
    training = Training(**cell["training"])
    if cell["kind"] == "untrained":
        model, corpus = training.untrained, training.language
        train, held_out = corpus.train[: training.rows], corpus.held_out
    else:
        model, train, held_out, _ = fit(training, progress)
    measured = held_out[: cell["measured"]]
    descent = _own_energy(model, measured) if cell["kind"] == "energy" else _layered(model, train, measured)
    return {"heads": _heads(model, measured), **descent}


def _heads(model: GPT | Llama, rows: Integers) -> Record:
    return {name: np.round(value, 5).tolist() for name, value in head_statistics(model, rows).items()}


def _layered(model: GPT | Llama, train: Integers, measured: Integers) -> Record:
    """Follow held-out rows through the energies of layers whose patterns are the activations of training rows."""
    stored, seen = (states(model, rows).astype(np.float64) for rows in (train[:400], measured))
    distances = separation(np.unique(stored[1:].reshape(-1, stored.shape[2]), axis=0))
    memory = LayeredMemory(list(stored[1:]), DistanceEnergy(1 / float(np.median(distances) ** 2)))
    whole, raised, lowered, used = [float(memory.global_energy(seen[0]).mean())], [], [], []
    for t in range(len(memory)):
        before, after = seen[t], seen[t + 1]
        change = memory.global_energy(after) - memory.global_energy(before)
        own_change = np.subtract(*(memory.layer_energies(x)[t] for x in (after, before)))
        bound = memory.layer_energies(before)[t] - memory.global_energy(before)  # -log w / beta, which may underflow
        applies = (own_change <= 0) & (change > 0)  # the bound is for steps that lower the layer's own energy
        whole.append(float(memory.global_energy(after).mean()))
        raised.append(int((change > 0).sum()))
        lowered.append(int((own_change <= 0).sum()))
        used += (change[applies] / np.maximum(bound[applies], 1e-12)).round(4).tolist()
    return {
        "beta": memory.beta, "global_energy": whole, "raised": raised, "lowered_own": lowered, "of": len(measured),
        "bound_used": used,
    }  # fmt: skip


def _own_energy(model: GPT, rows: Integers) -> Record:
    """Follow rows through the energy that a model with energy attention descends, summed over heads."""
    sums, raised, counted = np.zeros(model.config.layers + 1), np.zeros(model.config.layers, int), 0
    energy = DistanceEnergy(1 / (2 * np.sqrt(model.config.width / model.config.heads)))
    for seen, real in small_batches(model, rows):
        L, B, T, _ = seen.states.shape
        x = seen.states.reshape(L, B, T, model.config.heads, -1).astype(np.float64)
        for row, t in zip(*np.nonzero(real), strict=True):
            keys = seen.keys[0, row, :, : t + 1].astype(np.float64)  # the same in all blocks
            values = np.sum([energy.value(x[:, row, t, h], keys[h]) for h in range(model.config.heads)], axis=0)
            sums += values
            raised += np.diff(values) > 1e-4 * np.abs(values[1:])  # states are float32
            counted += 1
    return {"beta": energy.beta, "global_energy": (sums / counted).tolist(), "raised": raised.tolist(), "of": counted}


# The report


def _mean(name: str) -> Any:
    """Return a function from a record to the mean of a measurement over its heads."""
    return lambda r: float(np.mean(r["heads"][name]))


def _steps(records: Sequence[Record], name: str) -> Estimate:
    """Return the share of the steps of rows through blocks that are counted under a name."""
    return share([(sum(r[name]), r["of"] * len(r[name]), r["measured"]) for r in records])


def findings(records: Sequence[Record]) -> list[Finding]:
    """Return agreement with the nearest key, before and after training, and how often blocks raise the energy."""
    kinds = {kind: [r for r in records if r["kind"] == kind] for kind in NAMES}
    found = [*_search_finding(kinds), *_pretrained_finding(kinds)]
    for kind, of in kinds.items():
        if not of:
            continue
        chance = _chance(of)
        names = ("nearest", "nearest_direction", "rank_correlation", "effective_keys", "norm_spread")
        nearest, unit, rank, keys, spread = (over_models(of, _mean(name)) for name in names)
        text = (
            f"{NAMES[kind]}: the strongest key is the nearest at {nearest} of positions, and at {unit} "
            f"once keys have one length; rank correlation {rank}, effective keys {keys}, spread of the norms "
            f"{spread}."
        )
        expected = "1: it is built as a search" if kind == "energy" else f"{chance:.2f} for a random key"
        found.append(Finding(f"heads {kind}", text, *nearest, expected=expected))
        raised = _steps(of, "raised")
        text = f"{NAMES[kind]}: {raised} of the steps through a block raise the global energy."
        found.append(
            Finding(
                f"raised {kind}", text, *raised, expected="0: it must fall" if kind == "energy" else "0 by section 4.2"
            )
        )
    for kind in (kind for kind in NAMES if kind != "energy"):
        of = kinds[kind]
        if not of:
            continue
        own = _steps(of, "lowered_own")
        text = f"{NAMES[kind]}: {own} of the steps through a block lower the energy of its own layer."
        found.append(Finding(f"own {kind}", text, *own, expected="1 if a block minimized its own energy"))
        used = [r for r in of if r["bound_used"]]
        if used:
            estimate = over_models(used, lambda r: float(np.mean(r["bound_used"])))
            most = max(max(r["bound_used"]) for r in used)
            text = (
                f"{NAMES[kind]}: such steps that raise the global energy use {estimate} of the bound "
                f"-log w on average, and {most:.3g} at most."
            )
            found.append(Finding(f"bound {kind}", text, *estimate, expected="at most 1, which is proved"))
    return found


def _chance(records: Sequence[Record]) -> float:
    """Return how often a random key is the nearest."""
    return float(np.mean([r["heads"]["chance"] for r in records]))


def _pretrained_finding(kinds: dict[str, list[Record]]) -> list[Finding]:
    """Return the agreement of a pretrained model with a search beside that of one with random weights."""
    if not (kinds["pretrained"] and kinds["random"]):
        return []
    after, before = (np.ravel(kinds[kind][0]["heads"]["nearest"]) for kind in ("pretrained", "random"))
    text = (
        f"In {NAMES['pretrained']} the strongest key is the nearest at {after.mean():.0%} of positions, "
        f"{before.mean():.0%} with random weights and {_chance(kinds['pretrained']):.0%} for a random key; more often "
        f"than with random weights in {(after > before).sum()} of {len(after)} heads. It is one model."
    )
    change = float(after.mean() - before.mean())
    return [Finding("search pretrained", text, change, n=1, expected="above 0 if training makes attention a search")]


def _search_finding(kinds: dict[str, list[Record]]) -> list[Finding]:
    """Return how training changes the agreement of heads with a search, model by model."""
    before = {(r["layers"], r["width"], r["seed"]): r for r in kinds["untrained"]}
    pairs = [(r, before[key]) for r in kinds["trained"] if (key := (r["layers"], r["width"], r["seed"])) in before]
    if not pairs:
        return []
    differences = [np.subtract(a["heads"]["nearest"], b["heads"]["nearest"]) for a, b in pairs]
    changes = [{"seed": a["seed"], "change": float(d.mean())} for (a, _), d in zip(pairs, differences, strict=True)]
    change = over_models(changes, lambda r: r["change"])
    heads = np.concatenate([d.ravel() for d in differences])
    verdict = {
        1: "Training makes heads search more",
        -1: "Training makes heads search less",
        0: "These models do not tell whether training makes heads search more",
    }[change.side(0)]
    after, earlier = (float(np.mean([_mean("nearest")(r) for r in of])) for of in zip(*pairs, strict=True))
    text = (
        f"{verdict}: in {len(pairs)} models trained here, the strongest key is the nearest at {after:.0%} of "
        f"positions, {earlier:.0%} before training and {_chance([a for a, _ in pairs]):.0%} for a random key; the "
        f"change is {change} of positions, and an increase in {(heads > 0).sum()} of {len(heads)} heads."
    )
    return [Finding("search", text, *change, expected="above 0 if training makes attention a search")]


def table(records: Sequence[Record]) -> tuple[list[str], list[list[Any]]]:
    """Return a row for every layer of every model."""
    header = ["kind", "layers", "width", "seed", "layer", "nearest", "one length", "rank correlation", "effective keys",
              "norm spread", "chance", "raised the energy"]  # fmt: skip
    return header, [
        [r["kind"], r["layers"], r["width"], r["seed"], layer + 1,
         *(round(float(np.mean(r["heads"][name][layer])), 4)
           for name in ("nearest", "nearest_direction", "rank_correlation", "effective_keys", "norm_spread")),
         round(r["heads"]["chance"], 4), round(r["raised"][layer] / r["of"], 4)]
        for r in records
        for layer in range(r["layers"])
    ]  # fmt: skip


def panels(records: Sequence[Record]) -> list[Panel]:
    """Draw the agreement of every head, the rank correlations, and the global energy along the depth."""
    drawn = []
    kinds = [kind for kind in NAMES if any(r["kind"] == kind for r in records)]
    measures = (
        ("nearest", "share of positions", "How often the strongest key is the nearest, for every head"),
        ("nearest_direction", "share of positions", "The same once keys have one length"),
        ("rank_correlation", "rank correlation", "Rank correlation of weight and closeness, for every head"),
    )
    for name, label, title in measures:
        figure, ax = charts.axes(
            "", label, ylim=(None if name == "rank_correlation" else -0.05, 1.05), xlim=(-0.5, len(kinds) - 0.5)
        )
        for i, kind in enumerate(kinds):
            values = [
                (f"{kind}, {r['layers']} layers, width {r['width']}, layer {layer + 1}, head {head + 1}: {v:.2f}", v)
                for r in records if r["kind"] == kind
                for layer, row in enumerate(r["heads"][name]) for head, v in enumerate(row)
            ]  # fmt: skip
            places = i + np.linspace(-0.3, 0.3, len(values)) if len(values) > 1 else np.array([float(i)])
            charts.points(ax, places.tolist(), [v for _, v in values], i, line=False, tips=[tip for tip, _ in values])
        lower = "\n" if len(kinds) > len(KINDS) else ""  # every second name, so that they do not overlap
        ax.set_xticks(range(len(kinds)), [lower * (i % 2) + TICKS.get(kind, kind) for i, kind in enumerate(kinds)])
        if name != "rank_correlation":
            charts.reference(ax, "random key", y=float(np.mean([r["heads"]["chance"] for r in records])), at=0.02)
        seen = ", ".join(NAMES[kind] for kind in kinds)
        drawn.append(Panel(title, f"Every point is a head. {title}. Shown: {seen}.", figure))
    for of, what in ((KINDS, "the widest models trained here"), (("pretrained", "random"), NAMES["pretrained"])):
        chosen = [r for r in records if r["kind"] in of]
        if not chosen:
            continue
        figure, ax = charts.axes("block", "change of β × energy")
        widest = max(chosen, key=lambda r: (r["width"], r["layers"]))
        shape = (min(r["seed"] for r in chosen), widest["layers"], widest["width"])
        for r in (r for r in chosen if (r["seed"], r["layers"], r["width"]) == shape):
            y = (np.array(r["global_energy"]) - r["global_energy"][0]) * r["beta"]
            charts.points(ax, list(range(len(y))), y.tolist(), list(NAMES).index(r["kind"]), label=r["kind"],
                          tips=[f"{r['kind']}, after block {t}: {v:.3g}" for t, v in enumerate(y)])  # fmt: skip
        if widest["layers"] < 10:
            ax.set_xticks(range(widest["layers"] + 1))
        drawn.append(Panel(
            f"Global energy along the depth of {what}",
            f"Mean global energy after each block of {what}, relative to its start, times beta.", figure,
        ))  # fmt: skip
    return drawn
