"""Training: [`AdamW`], its [`cosine_schedule`], [`clip_gradients`], and the loop that holds them together, [`Trainer`];
what a model's rows cost it, [`cross_entropy`].

Every random choice of a step is drawn from the seed and the number of the step alone. So a run that was stopped goes on
from its checkpoint as if nothing had happened, to the last bit, and there is no generator whose state must be kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _backend, _check, _layers_numpy, _threads
from hopmin._files import atomic_write
from hopmin._typing import Array, Name
from hopmin.data.corpus import inputs_and_targets
from hopmin.data.tokenizers import Tokenizer
from hopmin.transformer.data_parallel import DataParallel
from hopmin.transformer.model import GPT, Gradients, load_model


def cosine_schedule(step: int, *, peak: float, steps: int, warmup_steps: int, final: float = 0.1) -> float:
    """The learning rate of a step, from 0: a linear warm-up, then a cosine decay to `final` times the peak.

    >>> [round(cosine_schedule(step, peak=1.0, steps=8, warmup_steps=2), 2) for step in range(8)]
    [0.5, 1.0, 0.94, 0.78, 0.55, 0.33, 0.16, 0.1]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step + 1 - warmup_steps) / max(1, steps - warmup_steps))
    return peak * (final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2)


def clip_gradients(gradients: Gradients, max_norm: float) -> float:
    """Scale all gradients together, in place, so that their joint Euclidean norm is at most `max_norm`; return what it
    was.
    """
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in gradients.values()))
    if norm > max_norm:
        for g in gradients.values():
            g *= max_norm / norm
    return norm


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), over a model's `parameters`, changed in place.

        m <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
        p <- p - rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + decay p)

    Only matrices decay, not gains and biases.
    """

    def __init__(
        self,
        parameters: dict[str, Array],
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        self.parameters, self.betas, self.epsilon, self.weight_decay = parameters, betas, epsilon, weight_decay
        self.m = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.v = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.steps = 0

    def step(self, gradients: Gradients, rate: float) -> None:
        """One step down the gradients, at the given learning rate."""
        self.steps += 1
        b1, b2 = self.betas
        unbias1, unbias2 = 1 - b1**self.steps, math.sqrt(1 - b2**self.steps)

        def update(name: str) -> None:
            p = self.parameters[name]
            kept = 1 - rate * self.weight_decay if p.ndim > 1 else 1.0
            layers = _backend.layers if p.flags.c_contiguous else _layers_numpy  # which takes any strides
            layers.adamw(
                p, gradients[name], self.m[name], self.v[name],
                b1, b2, kept, rate * unbias2 / unbias1, self.epsilon * unbias2,
            )  # fmt: skip

        _threads.run([partial(update, name) for name in self.parameters])


BATCH = 100  # rows looked at together


def cross_entropy(model: GPT, rows: Array) -> float:
    """The mean negative log-likelihood of the tokens of rows (n, T + 1), in nats, without dropout; -1 is not counted.

    >>> from hopmin.transformer.model import GPTConfig
    >>> model = GPT(GPTConfig(vocabulary=5, positions=3, layers=1, heads=1, width=8), rng=0)
    >>> round(cross_entropy(model, np.array([[0, 1, 2], [3, 4, -1]])), 1)          # it knows nothing: log 5
    1.6
    """
    rows, total, counted = _check.token_rows("rows", rows), 0.0, 0
    for start in range(0, len(rows), BATCH):
        tokens, targets = inputs_and_targets(rows[start : start + BATCH])
        count = int((targets >= 0).sum())
        total, counted = total + count * model.cross_entropy(tokens, targets), counted + count
    return total / counted


class Log:
    """A file of JSON lines, one for each step that is told; `step` of them are there already, and what comes after is
    cut away, for a run that goes on from there will say it again.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "log.jsonl")
    ...     for step in (0, 1):                                      # the second begins after step 1
    ...         with Log(path, step) as log:
    ...             log(step=step + 1, loss=2.5)
    ...             log(step=step + 2, loss=1.5)
    ...     path.read_text().splitlines()
    ['{"step": 1, "loss": 2.5}', '{"step": 2, "loss": 2.5}', '{"step": 3, "loss": 1.5}']
    """

    def __init__(self, path: Name, step: int) -> None:
        lines = Path(path).read_bytes().splitlines(keepends=True)[:step] if Path(path).exists() else []
        with atomic_write(path) as file:
            file.writelines(lines)
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __call__(self, **record: Any) -> None:
        self.file.write(f"{json.dumps(record)}\n")
        self.file.flush()


class Trainer:
    """Trains a model, a batch of rows a step.

    Parameters
    ----------
    model : a GPT, whose parameters are changed in place
    steps : how many steps the schedule is laid out for
    learning_rate, warmup_steps : the schedule's peak, and its length in steps (a tenth of all, if not given)
    weight_decay : of matrices
    grad_clip : to which the gradient is clipped
    batch_size : rows of a batch
    micro_batches : parts that a batch is cut into; threads take one each, and more parts than threads need less memory
    evaluate_every : steps between two looks at held-out rows
    patience : how many looks in a row may bring nothing improved before training ends
    seed : of batches and dropout

    `steps_taken`, `best` (step and held-out cross-entropy of the best evaluation) and
    `evaluations_without_improvement` tell how far it is.

    >>> from hopmin.data.corpus import from_text
    >>> from hopmin.transformer.model import GPTConfig
    >>> corpus = from_text("abcdefgh" * 40, positions=8)
    >>> model = GPT(GPTConfig(vocabulary=8, positions=8, layers=1, heads=1, width=16), rng=0)
    >>> trainer = Trainer(model, steps=60, learning_rate=0.03)
    >>> losses = trainer.run(corpus.train)
    >>> losses[0] > 2 and losses[-1] < 0.1                    # from log 8 to next to nothing
    True
    """

    def __init__(
        self,
        model: GPT,
        *,
        steps: int,
        learning_rate: float = 3e-3,
        warmup_steps: int | None = None,
        weight_decay: float = 0.01,
        grad_clip: float = 1.0,
        batch_size: int = 32,
        micro_batches: int = 2,
        evaluate_every: int = 100,
        patience: int | None = None,
        seed: int = 0,
    ) -> None:
        self.model = model
        steps = _check.integer("steps", steps)
        warmup_steps = max(1, steps // 10) if warmup_steps is None else warmup_steps
        self.options: dict[str, Any] = {
            "steps": steps,
            "learning_rate": _check.number("learning_rate", learning_rate, "[0, inf)"),
            "warmup_steps": _check.integer("warmup_steps", warmup_steps, 0),
            "weight_decay": _check.number("weight_decay", weight_decay, "[0, inf)"),
            "grad_clip": _check.number("grad_clip", grad_clip, "(0, inf)"),
            "batch_size": _check.integer("batch_size", batch_size),
            "micro_batches": _check.integer("micro_batches", micro_batches),
            "evaluate_every": _check.integer("evaluate_every", evaluate_every),
            "patience": None if patience is None else _check.integer("patience", patience),
            "seed": _check.integer("seed", seed, 0),
        }
        self.gradients = DataParallel(model, self.options["micro_batches"])
        self.optimizer = AdamW(model.parameters, weight_decay=self.options["weight_decay"])
        self.best: tuple[int, float] | None = None
        self.evaluations_without_improvement = 0

    @property
    def steps_taken(self) -> int:
        """How many steps the parameters have gone so far."""
        return self.optimizer.steps

    @property
    def done(self) -> bool:
        """Whether no step is left, or patience has run out."""
        patience = self.options["patience"]
        return self.steps_taken >= self.options["steps"] or (
            patience is not None and self.evaluations_without_improvement >= patience
        )

    def step(self, tokens: ArrayLike, targets: ArrayLike, rng: np.random.Generator | None = None) -> float:
        """One step of the schedule on a batch (B, T); returns its cross-entropy in nats, before the step.

        Raises FloatingPointError, with the parameters as they were, if the loss is not finite, or more than ten times
        that of a uniform guess.
        """
        return self._step(tokens, targets, rng)["loss"]

    def _step(self, tokens: ArrayLike, targets: ArrayLike, rng: np.random.Generator | None) -> dict[str, Any]:
        o, number = self.options, self.steps_taken
        loss, gradients = self.gradients(tokens, targets, rng)
        with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges is told below, once
            norm = clip_gradients(gradients, o["grad_clip"])
        if not math.isfinite(loss + norm):
            raise FloatingPointError(f"loss must stay finite; got {loss} at step {number + 1}")
        guess = math.log(max(2, self.model.config.vocabulary))
        if loss > 10 * guess:
            raise FloatingPointError(
                f"loss must stay below {10 * guess:.1f}, ten guesses; got {loss} at step {number + 1}"
            )
        rate = cosine_schedule(number, peak=o["learning_rate"], steps=o["steps"], warmup_steps=o["warmup_steps"])
        self.optimizer.step(gradients, rate)
        return {"step": number + 1, "loss": loss, "learning_rate": rate, "grad_norm": norm}

    def run(
        self,
        rows: Array | Callable[[int], Array],
        *,
        held_out: Array | None = None,
        callback: Callable[..., None] = lambda **_: None,
    ) -> list[float]:
        """All steps that are left; returns their losses.

        `rows` (n, T + 1) are drawn from with replacement; or else it is a function that gives the rows of a step, from
        0. After each step `callback(step=, loss=, learning_rate=, grad_norm=, tokens=)` is called: its number, from 1,
        the loss before it, the learning rate, the gradient norm before clipping, and how many tokens it saw. With
        `held_out` rows, steps that are evaluated also pass `held_out_loss=` and whether it `improved=`. If the held-out
        loss is not finite, FloatingPointError is raised and the callback is not called for that step.
        """
        o, losses = self.options, []
        rows = rows if callable(rows) else _check.token_rows("rows", rows)
        held_out = None if held_out is None else _check.token_rows("held_out", held_out)
        while not self.done:
            rng = np.random.default_rng([o["seed"], self.steps_taken])
            chosen = rows(self.steps_taken) if callable(rows) else rows[rng.integers(len(rows), size=o["batch_size"])]
            tokens, targets = inputs_and_targets(chosen)
            record = self._step(tokens, targets, rng) | {"tokens": int((targets >= 0).sum())}
            if held_out is not None and (self.steps_taken % o["evaluate_every"] == 0 or self.steps_taken == o["steps"]):
                record |= self._look(held_out)
            losses.append(record["loss"])
            callback(**record)
        return losses

    def _look(self, held_out: Array) -> dict[str, Any]:
        with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges is told below, once
            loss = cross_entropy(self.model, held_out)
        if not math.isfinite(loss):
            raise FloatingPointError(f"held-out loss must stay finite; got {loss} after step {self.steps_taken}")
        improved = self.best is None or loss < self.best[1]
        self.best, self.evaluations_without_improvement = (
            ((self.steps_taken, loss), 0) if improved else (self.best, self.evaluations_without_improvement + 1)
        )
        return {"held_out_loss": loss, "improved": improved}

    def save(self, path: Name, tokenizer: Tokenizer | None = None, **records: Any) -> None:
        """A checkpoint: what GPT.save writes, and what it takes to go on. GPT.load reads it too."""
        moments = {
            f"{moment}/{name}": a
            for moment, of in (("m", self.optimizer.m), ("v", self.optimizer.v))
            for name, a in of.items()
        }
        training = {
            "options": self.options,
            "steps": self.steps_taken,
            "best": self.best,
            "evaluations_without_improvement": self.evaluations_without_improvement,
        }
        self.model.save(path, tokenizer, extra=moments, training=training, **records)

    @classmethod
    def load(cls, path: Name) -> Trainer:
        """A trainer that goes on where the checkpoint was taken. Raises ValueError if the file is no checkpoint."""
        saved = load_model(path)
        try:
            training = saved.records["training"]
            trainer = cls(saved.model, **training["options"])
            trainer.optimizer.steps = _check.integer("steps", training["steps"], 0)
            if training.get("best"):
                step, loss = training["best"]
                trainer.best = _check.integer("step", step), _check.number("loss", loss, "[0, inf)")
            trainer.evaluations_without_improvement = _check.integer(
                "evaluations_without_improvement", training.get("evaluations_without_improvement", 0), 0
            )
            for moment, of in (("m", trainer.optimizer.m), ("v", trainer.optimizer.v)):
                for name, a in of.items():
                    found = saved.extra[f"{moment}/{name}"]
                    if (found.shape, found.dtype) != (a.shape, a.dtype):
                        raise ValueError
                    a[...] = found
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"checkpoint must hold a training state; {path} does not") from None
        return trainer
