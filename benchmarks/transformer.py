"""Compare hopmin's transformer with eager PyTorch: `python -m benchmarks.transformer`; see benchmarks/README.md.

Both have the same models, weights and batches, use AdamW with the same options, and run on all processors. Before
anything is timed, their losses of two steps and their generated tokens must agree.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from benchmarks._measure import Contestant, elsewhere, interleaved, machine, peak_memory, table
from hopmin import GPT, GPTConfig, Trainer

Array = np.ndarray[Any, np.dtype[Any]]


class Shape(NamedTuple):
    vocabulary: int
    positions: int
    layers: int
    heads: int
    width: int
    rows: int


TRAINING = [Shape(68, 64, 4, 4, 128, 12), Shape(68, 64, 6, 4, 512, 32), Shape(256, 128, 6, 6, 384, 16)]
GENERATION = [Shape(68, 64, 4, 4, 128, 1), Shape(68, 64, 4, 4, 128, 16), Shape(68, 64, 6, 4, 512, 1)]
QUICK = [Shape(11, 8, 2, 2, 16, 4)]
RATE, DECAY, GRAD_CLIP, BETAS = 3e-4, 0.01, 1.0, (0.9, 0.99)
PROMPT = 4  # tokens; the rest of all positions is generated


def made(shape: Shape) -> GPT:
    *sizes, _ = shape
    return GPT(GPTConfig(*sizes, init_std=None), rng=0)


def examples(shape: Shape) -> tuple[Array, Array]:
    rows = np.random.default_rng(0).integers(shape.vocabulary, size=(shape.rows, shape.positions + 1))
    return rows[:, :-1], rows[:, 1:]


# The implementations: a training step returns its loss, a generation returns all tokens


def hopmin_training(shape: Shape) -> Callable[[], float]:
    options = {"learning_rate": RATE, "weight_decay": DECAY, "grad_clip": GRAD_CLIP}
    trainer = Trainer(made(shape), steps=10**6, warmup_steps=0, **options)
    return partial(trainer.step, *examples(shape))


def hopmin_generation(shape: Shape) -> Callable[[], Array]:
    model, prompt = made(shape), examples(shape)[0][:, :PROMPT]
    return lambda: np.array(model.generate(prompt, shape.positions - PROMPT))


def torch_module(shape: Shape) -> Any:
    """Return GPT-2 in idiomatic PyTorch, with the weights of hopmin's model."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            D = shape.width
            self.norm1, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
            self.attention, self.output = nn.Linear(D, 3 * D), nn.Linear(D, D)
            self.expand, self.contract = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

        def forward(self, x: Any, cache: Any = None, start: int = 0) -> Any:
            B, T, D = x.shape
            projected = self.attention(self.norm1(x))
            q, k, v = projected.view(B, T, 3, shape.heads, D // shape.heads).permute(2, 0, 3, 1, 4)
            if cache is not None:
                cache[0][:, :, start : start + T], cache[1][:, :, start : start + T] = k, v
                k, v = (a[:, :, : start + T] for a in cache)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
            x = x + self.output(mixed.transpose(1, 2).reshape(B, T, D))
            return x + self.contract(F.gelu(self.expand(self.norm2(x)), approximate="tanh"))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(shape.vocabulary, shape.width)
            self.positions = nn.Parameter(torch.empty(shape.positions, shape.width))
            self.layers = nn.ModuleList(Block() for _ in range(shape.layers))
            self.norm = nn.LayerNorm(shape.width)

        def forward(self, tokens: Any, caches: Any = None, start: int = 0) -> Any:
            x = self.tokens(tokens) + self.positions[start : start + tokens.shape[1]]
            for i, block in enumerate(self.layers):
                x = block(x, None if caches is None else caches[i], start)
            return F.linear(self.norm(x if caches is None else x[:, -1:]), self.tokens.weight)

    model, weights = Model(), {}
    for name, a in made(shape).parameters.items():
        matrix = name.endswith("weight")
        weights[name.replace("gain", "weight")] = torch.tensor(a.T.copy() if matrix else a)
    weights["tokens.weight"] = weights.pop("tokens")
    model.load_state_dict(weights)
    return model


def torch_training(shape: Shape) -> Callable[[], float]:
    import torch
    from torch.nn import functional as F

    model = torch_module(shape)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, fused=True)  # its fastest AdamW
    tokens, targets = map(torch.tensor, examples(shape))

    def step() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        optimizer.step()
        return float(loss.detach())

    return step


def torch_generation(shape: Shape) -> Callable[[], Array]:
    import torch

    model, prompt = torch_module(shape), torch.tensor(examples(shape)[0][:, :PROMPT])
    size = (shape.layers, 2, shape.rows, shape.heads, shape.positions, shape.width // shape.heads)

    @torch.inference_mode()
    def generate() -> Array:
        caches, tokens, row = torch.empty(size), prompt, [prompt]
        for start in (0, *range(PROMPT, shape.positions - 1)):
            tokens = model(tokens, caches, start)[:, -1].argmax(dim=-1, keepdim=True)
            row.append(tokens)
        return torch.cat(row, dim=1).numpy()

    return generate


IMPLEMENTATIONS = {
    "training": {"hopmin": hopmin_training, "PyTorch": torch_training},
    "generation": {"hopmin": hopmin_generation, "PyTorch": torch_generation},
}
TARGETS = {"training": 1.0, "generation": 2.0}


# Measuring


def available() -> list[str]:
    """Return the names of the implementations whose library is installed."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return ["hopmin"]
    return ["hopmin", "PyTorch"]


def agree(calls: dict[str, Callable[[], Any]]) -> bool:
    """Return True if all results agree, in two calls each: the second loss depends on the first step."""
    results = [[call(), call()] for call in calls.values()]
    return all(np.allclose(result, results[0], rtol=1e-4) for result in results)


def repeated(call: Callable[[], Any], times: int) -> Callable[[], Any]:
    """Return a function that makes `times` calls."""

    def calls() -> None:
        for _ in range(times):
            call()

    return calls


def memory(task: str, name: str, shape: Shape) -> float:
    """Return the MB that building a model and a few calls add to a process that has imported all libraries."""
    if name == "PyTorch":
        torch_generation(QUICK[0])()
        torch_training(QUICK[0])()
    hopmin_training(QUICK[0])()
    before, call = peak_memory(), IMPLEMENTATIONS[task][name](shape)
    for _ in range(3):
        call()
    return round(peak_memory() - before, 1)


def memory_in_new_process(*arguments: Any) -> float:
    """Return what `memory` returns in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        return pool.submit(memory, *arguments).result()


def cases(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    names = available()
    for task, shapes in (("training", TRAINING), ("generation", GENERATION)):
        for shape in QUICK if options.quick else shapes:
            calls = {name: IMPLEMENTATIONS[task][name](shape) for name in names}
            same = agree(calls)
            busy = elsewhere()
            times = 1 if options.quick or (task == "training" and shape.width > 128) else 5
            contestants = {name: Contestant(repeated(call, times)) for name, call in calls.items()}
            measured = interleaved(contestants, options.rounds)
            others = None if busy is None else round((elsewhere() or 0) - busy, 2)
            tokens = shape.rows * (shape.positions - (PROMPT if task == "generation" else 0)) * times
            yield {
                "task": task,
                "shape": shape._asdict(),
                "agree": same,
                "tokens_per_second": {n: round(1000 * tokens / t["median_ms"]) for n, t in measured.items()},
                "memory_mb": {name: memory_in_new_process(task, name, shape) for name in names},
                "milliseconds": measured,
                "seconds_of_others": others,
            }


def row(case: dict[str, Any]) -> list[str]:
    speed, megabytes = case["tokens_per_second"], case["memory_mb"]
    cells = [case["task"], "x".join(map(str, case["shape"].values())), f"{speed['hopmin']:,}"]
    if "PyTorch" not in speed:
        return [*cells, "-", "-", f"{megabytes['hopmin']:.0f}", "-", "PyTorch is not installed"]
    ratio = speed["hopmin"] / speed["PyTorch"]
    verdict = "reached" if ratio >= TARGETS[case["task"]] else f"missed: {TARGETS[case['task']]:g}"
    return [
        *cells, f"{speed['PyTorch']:,}", f"{ratio:.2f}", f"{megabytes['hopmin']:.0f}", f"{megabytes['PyTorch']:.0f}",
        verdict if case["agree"] else "disagree",
    ]  # fmt: skip


def main() -> int:
    """Run the benchmark; return exit code 1 if the results disagree."""
    about = "Compare hopmin's transformer with eager PyTorch."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transformer", description=about)
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a small model only, to check that the benchmark runs")
    parser.add_argument("--json", action="store_true", help="print all results as JSON instead")
    options = parser.parse_args()
    report = {"machine": machine(("hopmin", "numpy", "torch", "threadpoolctl")), "cases": list(cases(options))}
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print(*(f"{key}: {value}" for key, value in report["machine"].items()), sep="\n", end="\n\n")
        sizes = "V x T x L x H x D x B"
        header = ["task", sizes, "hopmin tokens/s", "PyTorch", "ratio", "hopmin MB", "PyTorch MB", "target"]
        print(table(header, map(row, report["cases"])))
    return int(not all(case["agree"] for case in report["cases"]))


if __name__ == "__main__":
    sys.exit(main())
