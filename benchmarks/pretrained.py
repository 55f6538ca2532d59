"""What a pretrained Llama shows to the tools of part I: `python -m benchmarks.pretrained model.gguf`.

On English that ships with Python, which differs a little from one version to the next. See docs/pretrained.md.
"""

from __future__ import annotations

import argparse
import math
from pydoc_data.topics import topics

import numpy as np

from hopmin import DotEnergy
from hopmin._typing import Array
from hopmin.study.measure import head_agreement
from hopmin.transformer.pretrained import load_llama

T = 256


def quantiles(a: Array) -> str:
    return " ".join(f"{x:9.2f}" for x in np.quantile(a, (0, 0.1, 0.5, 0.9, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file")
    model = load_llama(parser.parse_args().model)
    prompt = model.tokenizer.encode("The capital of France is")
    print("generated      ", repr(model.tokenizer.decode(model.generate(prompt, 6))))

    text = "\n\n".join(topics[topic].strip() for topic in sorted(topics))
    tokens = model.tokenizer.encode(text)
    rows = tokens[: len(tokens) // (T + 1) * (T + 1)].reshape(-1, T + 1)
    losses = [model.cross_entropy(row[None, :-1], row[None, 1:]) for row in rows[::10]]
    error = np.std(losses) / math.sqrt(len(losses))
    print(f"nats per token  {np.mean(losses):.2f}, standard error {error:.2f}, of {len(losses)} rows of {T}")

    few = rows[::80]
    agreed, chance = head_agreement(model, few)
    effective, first, lengths, falls = [], [], [], []
    for row in few:
        seen = model.activations(row[None, :-1])
        late = seen.weights[:, 0, :, T // 2 :]  # with a choice of at least T / 2 keys
        effective.append(np.exp(-np.sum(late * np.log(np.where(late > 0, late, 1)), axis=-1)))
        first.append(late[..., 0])
        norms = np.linalg.norm(seen.keys[:, 0], axis=-1)
        lengths.append(norms[..., 0] / np.median(norms[..., 1:], axis=-1))
        energy = DotEnergy(1 / math.sqrt(seen.keys.shape[-1]))
        for layer, head in np.ndindex(*agreed.shape):
            q, k = (a[layer, 0, head].astype(np.float64) for a in (seen.queries, seen.keys))
            y = energy.update(q[-1], k)
            falls.append((energy.value(q[-1], k) - energy.value(y, k)) / energy.guaranteed_decrease(q[-1], y))
    print(f"{'over heads':44s} {'least':>9s} {'10 %':>9s} {'median':>9s} {'90 %':>9s} {'most':>9s}")
    print(f"{'effective patterns, of 128 to 256':44s} {quantiles(np.median(np.concatenate(effective, -1), axis=-1))}")
    print(f"{'weight of the first token':44s} {quantiles(np.mean(np.concatenate(first, -1), axis=-1))}")
    print(f"{'length of its key, over the median key':44s} {quantiles(np.mean(lengths, axis=0))}")
    print(f"{'strongest key is the nearest (chance ' + format(chance, '.2f') + ')':44s} {quantiles(agreed)}")
    print(f"{'fall of the energy, over what is guaranteed':44s} {quantiles(np.array(falls))}")


if __name__ == "__main__":
    main()
