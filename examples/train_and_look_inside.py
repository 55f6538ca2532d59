"""Train a tiny GPT on Question Formation, then measure what it stored and inspect its attention.

A few rows and many steps: the model memorizes its training rows, and the extraction rate on held-out rows stays near 0.
Run: python examples/train_and_look_inside.py
"""

import numpy as np

from hopmin import GPT, GPTConfig, Trainer
from hopmin.data.question_formation import question_formation
from hopmin.study.measure import cross_entropy, extraction_rate, head_statistics

corpus = question_formation(50, dev=1, test=50, generalization=1)
words = corpus.tokenizer.symbols
model = GPT(GPTConfig(len(words), corpus.train.shape[1] - 1, layers=2, heads=2, width=32, init_std=0.2), rng=0)
Trainer(model, steps=250, learning_rate=0.01, batch_size=16).run(corpus.train)

print("                          training   held out")
for name, measure in (("cross-entropy, nats", cross_entropy), ("extraction rate", extraction_rate)):
    print(f"{name:24}{measure(model, corpus.train):10.2f}{measure(model, corpus.held_out):11.2f}")
print(f"entropy of the language {corpus.entropy:10.2f}\n")

row = corpus.train[0][corpus.train[0] >= 0]
half = len(row) // 2
print("given:    ", corpus.tokenizer.decode(row[:half]))
print("continued:", corpus.tokenizer.decode(model.generate(row[:half], len(row) - half)[half:]), "\n")

seen = model.activations(row[None, :-1])  # states, queries, keys, values and weights of every layer and head
print(f"The two largest weights when predicting the word after {words[row[half]]!r}:")
for layer, head in np.ndindex(2, 2):
    weights = seen.weights[layer, 0, head, half]
    top = ", ".join(f"{words[row[t]]!r} {weights[t]:.2f}" for t in np.argsort(-weights)[:2])
    print(f"  layer {layer + 1}, head {head + 1}: {top}")

found = head_statistics(model, corpus.train)
agreement = found["nearest"].mean()
print(f"The largest weight is on the nearest key at {agreement:.0%} of positions (chance {found['chance']:.0%}).")
