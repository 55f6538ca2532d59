"""Measure the heads of a pretrained Llama as memories: `python -m benchmarks.pretrained model.gguf`.

The text is Python's help texts, which differ a little from one version to the next. See docs/pretrained.md.
"""

from __future__ import annotations

import argparse
import math
from pydoc_data.topics import topics

import numpy as np

from hopmin import DotEnergy
from hopmin._typing import Array
from hopmin.study.measure import head_statistics
from hopmin.transformer.pretrained import load_llama

T = 256


def table_row(label: str, a: Array) -> str:
    """Format the minimum, 10 %, median, 90 % and maximum of numbers."""
    return f"{label:44s} " + " ".join(f"{x:9.2f}" for x in np.quantile(a, (0, 0.1, 0.5, 0.9, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="path of a GGUF file")
    model = load_llama(parser.parse_args().model)
    prompt = model.tokenizer.encode("The capital of France is")
    print("generated       ", repr(model.tokenizer.decode(model.generate(prompt, 6))))

    text = "\n\n".join(topics[topic].strip() for topic in sorted(topics))
    tokens = model.tokenizer.encode(text)
    rows = tokens[: len(tokens) // (T + 1) * (T + 1)].reshape(-1, T + 1)
    losses = [model.cross_entropy(row[None, :-1], row[None, 1:]) for row in rows[::10]]
    error = np.std(losses) / math.sqrt(len(losses))
    print(f"nats per token   {np.mean(losses):.2f}, standard error {error:.2f}, of {len(losses)} rows of {T}")

    few = rows[::80]
    found = head_statistics(model, few)
    agreement, chance = found["nearest"], found["chance"]
    effective, first, norms, decreases = [], [], [], []
    for sequence in few:
        activations = model.activations(sequence[None, :-1])
        late = activations.weights[:, 0, :, T // 2 :]  # queries with at least T / 2 keys
        effective.append(np.exp(-np.sum(late * np.log(np.where(late > 0, late, 1)), axis=-1)))
        first.append(late[..., 0])
        norm = np.linalg.norm(activations.keys[:, 0], axis=-1)
        norms.append(norm[..., 0] / np.median(norm[..., 1:], axis=-1))
        energy = DotEnergy(1 / math.sqrt(activations.keys.shape[-1]))
        for layer, head in np.ndindex(*agreement.shape):
            q, k = (a[layer, 0, head].astype(np.float64) for a in (activations.queries, activations.keys))
            y = energy.update(q[-1], k)
            decreases.append((energy.value(q[-1], k) - energy.value(y, k)) / energy.guaranteed_decrease(q[-1], y))
    print(f"{'over heads':44s} {'minimum':>9s} {'10 %':>9s} {'median':>9s} {'90 %':>9s} {'maximum':>9s}")
    print(table_row("effective patterns, of 128 to 256", np.median(np.concatenate(effective, -1), axis=-1)))
    print(table_row("weight of the first token", np.mean(np.concatenate(first, -1), axis=-1)))
    print(table_row("norm of its key, relative to the median key", np.mean(norms, axis=0)))
    print(table_row(f"strongest key is the nearest (chance {chance:.2f})", agreement))
    print(table_row("decrease of the energy, over the guarantee", np.array(decreases)))


if __name__ == "__main__":
    main()
