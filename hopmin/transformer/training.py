"""Training: an optimizer, a schedule, gradient clipping, and the loop that uses them.

- the optimizer [`AdamW`], the learning rate of a step [`cosine_schedule`], and [`clip_gradients`]
- the training loop and its checkpoints [`Trainer`], and what it passes to a callback [`Callback`]
- the loss of a model on rows [`cross_entropy`]

All random numbers of a step depend only on the seed and the number of the step. A stopped run therefore resumes from
its checkpoint bit for bit, without a saved generator state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from hopmin import _arithmetic, _backend, _check, _layers_numpy, _threads
from hopmin._typing import Array, Name
from hopmin.data.corpus import inputs_and_targets
from hopmin.data.tokenizers import Tokenizer
from hopmin.transformer.data_parallel import DataParallel
from hopmin.transformer.model import GPT, Gradients, SavedModel, load_model

BATCH = 100  # rows in a forward pass of an evaluation
EVALUATION_ROWS = 2000  # the largest number of rows of a split that an evaluation scores


def default_learning_rate(width: int) -> float:
    """Return 0.04 / sqrt(width), a peak learning rate that suits models of any width.

    >>> default_learning_rate(64)
    0.005
    """
    return 0.04 * math.pow(_check.integer("width", width), -0.5)


def cosine_schedule(step: int, *, peak: float, steps: int, warmup_steps: int, final: float = 0.1) -> float:
    """Return the learning rate of a step: a linear warm-up, then a cosine decay to `final` times the peak.

    Parameters
    ----------
    step : int
        Number of the step, from 0.
    peak : float
        Learning rate at the end of the warm-up.
    steps : int
        Total number of steps; later steps keep the final rate.
    warmup_steps : int
        Number of steps of the warm-up.
    final : float
        Learning rate of the last step, relative to the peak.

    Returns
    -------
    float
        The learning rate.

    Raises
    ------
    ValueError, TypeError
        If a number is out of range or of another type.

    Examples
    --------
    >>> [round(cosine_schedule(step, peak=1.0, steps=8, warmup_steps=2), 2) for step in range(8)]
    [0.5, 1.0, 0.94, 0.78, 0.55, 0.33, 0.16, 0.1]
    """
    step, peak = _check.integer("step", step, 0), _check.number("peak", peak, "[0, inf)")
    steps, warmup_steps = _check.integer("steps", steps), _check.integer("warmup_steps", warmup_steps, 0)
    final = _check.number("final", final, "[0, inf)")
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step + 1 - warmup_steps) / max(1, steps - warmup_steps))
    return peak * (final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2)


@_arithmetic.standard
def clip_gradients(gradients: Gradients, max_norm: float) -> float:
    """Scale all gradients in place so that their joint Euclidean norm is at most `max_norm`; return the original norm.

    >>> gradients = {"a": np.array([3.0]), "b": np.array([0.0, 4.0])}
    >>> clip_gradients(gradients, 1.0), gradients["a"], gradients["b"]
    (5.0, array([0.6]), array([0. , 0.8]))
    """
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in gradients.values()))
    if norm > max_norm:
        for g in gradients.values():
            g *= max_norm / norm
    return norm


@_arithmetic.standard_methods
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    Parameters
    ----------
    parameters : dict of str to ndarray
        A model's `parameters`, changed in place.
    betas : tuple of float
        Decay rates b1 and b2 of the moments.
    epsilon : float
        Added to the denominator, > 0.
    weight_decay : float
        Decay of matrices; gains and biases do not decay.

    Attributes
    ----------
    m, v : dict of str to ndarray
        Running means of the gradients and of their squares.
    steps : int
        Number of steps taken, t below.

    Raises
    ------
    ValueError, TypeError
        If a number is out of range or of another type.

    Notes
    -----
        m <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
        p <- p - rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + weight_decay p)
    """

    def __init__(
        self,
        parameters: dict[str, Array],
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        if not isinstance(betas, tuple) or len(betas) != 2:
            raise TypeError(f"betas must be a tuple of two numbers; got {betas!r:.60}")
        self.parameters = _check.instance("parameters", parameters, dict)
        self.betas = tuple(_check.number("betas", b, "[0, 1)") for b in betas)
        self.epsilon = _check.number("epsilon", epsilon, "(0, inf)")
        self.weight_decay = _check.number("weight_decay", weight_decay, "[0, inf)")
        self.m = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.v = {name: np.zeros_like(p) for name, p in parameters.items()}
        self.steps = 0

    @property
    def moments(self) -> dict[str, Array]:
        """The arrays `m/name` and `v/name` of every parameter, which a checkpoint holds."""
        return {f"{moment}/{name}": a for moment in "mv" for name, a in getattr(self, moment).items()}

    def step(self, gradients: Gradients, rate: float) -> None:
        """Update the parameters with their gradients, at the given learning rate, a number >= 0."""
        rate = _check.number("rate", rate, "[0, inf)")
        self.steps += 1
        b1, b2 = self.betas
        unbias1, unbias2 = 1 - b1**self.steps, math.sqrt(1 - b2**self.steps)

        def update(name: str) -> None:
            p = self.parameters[name]
            kept = 1 - rate * self.weight_decay if p.ndim > 1 else 1.0
            layers = _backend.layers if p.flags.c_contiguous else _layers_numpy  # the twin accepts any strides
            layers.adamw(
                p, gradients[name], self.m[name], self.v[name],
                b1, b2, kept, rate * unbias2 / unbias1, self.epsilon * unbias2,
            )  # fmt: skip

        _threads.run([partial(update, name) for name in self.parameters])


@_arithmetic.standard
def cross_entropy(model: GPT, rows: Array) -> float:
    """Return the mean negative log-likelihood of the tokens of rows, in nats per token, without dropout.

    Rows (n, T + 1) are padded with -1, which is not counted. Raises ValueError or TypeError if they are not rows.

    >>> from hopmin.transformer.model import GPTConfig
    >>> model = GPT(GPTConfig(vocabulary=5, positions=3, layers=1, heads=1, width=8), rng=0)
    >>> round(cross_entropy(model, np.array([[0, 1, 2], [3, 4, -1]])), 1)          # untrained: log 5
    1.6
    """
    rows = _check.token_rows("rows", rows)
    total, counted = 0.0, 0
    with _backend.buffers.within(_backend.buffers.pool()):
        for start in range(0, len(rows), BATCH):
            tokens, targets = inputs_and_targets(rows[start : start + BATCH])
            count = int((targets >= 0).sum())
            total, counted = total + count * model.cross_entropy(tokens, targets), counted + count
    return total / counted


class Callback(Protocol):
    """A function that `Trainer.run` calls after each step, with keyword arguments only.

    It accepts arguments that it does not use as `**_`. An exception that it raises ends the run, after the step; the
    trainer can then be saved, or run again for the remaining steps.

    Parameters
    ----------
    step : int
        Number of the step, from 1.
    loss : float
        Cross-entropy of the batch before the step, in nats per token.
    learning_rate : float
        Learning rate of the step.
    grad_norm : float
        Joint Euclidean norm of all gradients, before clipping.
    tokens : int
        Number of targets in the batch, over which the loss is a mean.
    held_out_loss : float
        Cross-entropy of the held-out rows after the step, in nats per token; passed only for steps that are evaluated.
    improved : bool
        True if `held_out_loss` is the lowest so far; passed together with it.
    """

    def __call__(
        self,
        *,
        step: int,
        loss: float,
        learning_rate: float,
        grad_norm: float,
        tokens: int,
        held_out_loss: float = ...,
        improved: bool = ...,
    ) -> object: ...


class _Step(NamedTuple):
    """A training step; the fields are explained in `Callback`."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float


class BestEvaluation(NamedTuple):
    """The lowest held-out cross-entropy so far, in nats per token, and the step after which it was measured."""

    step: int
    loss: float


@dataclass(frozen=True)
class TrainerOptions:
    """The options of a `Trainer`, which checks them.

    Attributes
    ----------
    steps : int
        Number of steps of the learning rate schedule.
    learning_rate : float
        Peak of the schedule.
    warmup_steps : int
        Steps over which the learning rate rises to its peak.
    weight_decay : float
        Weight decay of matrices.
    grad_clip : float
        Largest joint Euclidean norm of all gradients; longer ones are scaled to it.
    batch_size : int
        Rows per batch, where rows are drawn at random.
    micro_batches : int
        Parts of a batch, each of which takes a thread.
    evaluate_every : int
        Steps between evaluations on held-out rows.
    patience : int or None
        Number of evaluations in a row without improvement after which training ends; None for no limit.
    seed : int
        Seed of batches and dropout.
    """

    steps: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    grad_clip: float
    batch_size: int
    micro_batches: int
    evaluate_every: int
    patience: int | None
    seed: int


@_arithmetic.standard_methods
class Trainer:
    """Train a model with AdamW, one batch of rows per step.

    Parameters
    ----------
    model : GPT
        The model, whose parameters are changed in place.
    steps : int
        Number of steps of the learning rate schedule.
    learning_rate : float
        Peak of the schedule. `default_learning_rate(width)` suits models of any width.
    warmup_steps : int, optional
        Steps over which the learning rate rises to its peak; by default a tenth of all steps.
    weight_decay : float
        Weight decay of matrices.
    grad_clip : float
        Largest joint Euclidean norm of all gradients; larger gradients are scaled down to it.
    batch_size : int
        Rows per batch, if rows are drawn at random.
    micro_batches : int
        Parts of a batch, each of which takes a thread. If there are more parts than threads, less memory is needed.
    evaluate_every : int
        Steps between evaluations on held-out rows.
    patience : int, optional
        Number of evaluations in a row without improvement after which training ends; by default no limit.
    seed : int
        Seed of batches and dropout.

    Attributes
    ----------
    options : TrainerOptions
        The options above.
    steps_taken : int
        Number of steps taken.
    done : bool
        True if all steps have been taken, or patience has run out.
    best : BestEvaluation or None
        Step and held-out cross-entropy of the best evaluation so far.
    evaluations_without_improvement : int
        Number of evaluations since the best.

    Raises
    ------
    ValueError, TypeError
        If an option is out of range or of another type, or the model is not a GPT.

    Notes
    -----
    `copy.deepcopy` and `pickle` make an independent trainer, with a model of its own, that continues bit for bit as
    this one would. `copy.copy` makes one that shares the model and the optimizer, and is of little use.

    Examples
    --------
    >>> from hopmin.data.corpus import from_text
    >>> from hopmin.transformer.model import GPTConfig
    >>> corpus = from_text("abcdefgh" * 40, positions=8)
    >>> model = GPT(GPTConfig(vocabulary=8, positions=8, layers=1, heads=1, width=16), rng=0)
    >>> trainer = Trainer(model, steps=60, learning_rate=0.03)
    >>> losses = trainer.run(corpus.train)
    >>> losses[0] > 2 and losses[-1] < 0.1                    # from about log 8 to almost 0
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
        self.model = _check.instance("model", model, GPT)
        steps = _check.integer("steps", steps)
        warmup_steps = max(1, steps // 10) if warmup_steps is None else warmup_steps
        self.options = TrainerOptions(
            steps=steps,
            learning_rate=_check.number("learning_rate", learning_rate, "[0, inf)"),
            warmup_steps=_check.integer("warmup_steps", warmup_steps, 0),
            weight_decay=_check.number("weight_decay", weight_decay, "[0, inf)"),
            grad_clip=_check.number("grad_clip", grad_clip, "(0, inf)"),
            batch_size=_check.integer("batch_size", batch_size),
            micro_batches=_check.integer("micro_batches", micro_batches),
            evaluate_every=_check.integer("evaluate_every", evaluate_every),
            patience=None if patience is None else _check.integer("patience", patience),
            seed=_check.integer("seed", seed, 0),
        )
        self.loss_and_gradients = DataParallel(model, self.options.micro_batches)
        self.optimizer = AdamW(model.parameters, weight_decay=self.options.weight_decay)
        self.best: BestEvaluation | None = None
        self.evaluations_without_improvement = 0

    def __repr__(self) -> str:
        return f"Trainer({self.model}, {self.steps_taken} of {_check.counted(self.options.steps, 'step')})"

    @property
    def steps_taken(self) -> int:
        """The number of steps taken."""
        return self.optimizer.steps

    @property
    def done(self) -> bool:
        """True if all steps have been taken, or patience has run out."""
        o = self.options
        out_of_patience = o.patience is not None and self.evaluations_without_improvement >= o.patience
        return self.steps_taken >= o.steps or out_of_patience

    def step(self, tokens: ArrayLike, targets: ArrayLike, rng: np.random.Generator | None = None) -> float:
        """Take one step of the schedule on a batch; return its cross-entropy before the step, in nats per token.

        Parameters
        ----------
        tokens, targets : array_like, shape (B, T)
            The batch; targets of -1 are not counted.
        rng : Generator, optional
            Generator of the dropout masks; without it, nothing is dropped.

        Returns
        -------
        float
            The cross-entropy.

        Raises
        ------
        FloatingPointError
            If the cross-entropy or a gradient is not finite, or the cross-entropy is more than ten times that of a
            uniform guess. The parameters are left unchanged.
        """
        return self._step(tokens, targets, rng).loss

    def _step(self, tokens: ArrayLike, targets: ArrayLike, rng: np.random.Generator | None) -> _Step:
        o, step = self.options, self.steps_taken + 1
        loss, gradients = self.loss_and_gradients(tokens, targets, rng)
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is reported below, by an exception
            norm = clip_gradients(gradients, o.grad_clip)
        if not math.isfinite(loss + norm):
            raise FloatingPointError(f"loss must stay finite; got {loss} at step {step}")
        limit = 10 * math.log(max(2, self.model.config.vocabulary))
        if loss > limit:
            raise FloatingPointError(
                f"loss must stay below {limit:.1f}, ten times that of a guess; got {loss} at step {step}"
            )
        rate = cosine_schedule(step - 1, peak=o.learning_rate, steps=o.steps, warmup_steps=o.warmup_steps)
        self.optimizer.step(gradients, rate)
        return _Step(step, loss, rate, norm)

    def run(
        self,
        rows: Array | Callable[[int], Array],
        *,
        held_out: Array | None = None,
        callback: Callback = lambda **_: None,
    ) -> list[float]:
        """Take the remaining steps; return the cross-entropy of each batch before its step, in nats per token.

        Parameters
        ----------
        rows : ndarray, shape (n, T + 1), or callable
            Rows to draw from with replacement, or a function of the step, from 0, that returns the rows of its batch
            (`shuffled_batches`, `contiguous_batches`).
        held_out : ndarray, shape (n, T + 1), optional
            Rows on which the model is evaluated every `evaluate_every` steps and after the last one.
        callback : callable
            Called after each step; see `Callback`.

        Returns
        -------
        list of float
            The losses, one for each step.

        Raises
        ------
        FloatingPointError
            If a step diverges (see `step`), or if the held-out cross-entropy is not finite; the callback is not called
            for that step.
        ValueError, TypeError
            If `rows` or `held_out` are not integers of shape (n, T + 1).
        """
        o = self.options
        losses: list[float] = []
        rows = rows if callable(rows) else _check.token_rows("rows", rows)
        held_out = None if held_out is None else _check.token_rows("held_out", held_out)
        while not self.done:
            rng = np.random.default_rng([o.seed, self.steps_taken])
            batch = rows(self.steps_taken) if callable(rows) else rows[rng.integers(len(rows), size=o.batch_size)]
            tokens, targets = inputs_and_targets(batch)
            step = self._step(tokens, targets, rng)
            record: dict[str, Any] = {**step._asdict(), "tokens": int((targets >= 0).sum())}
            if held_out is not None and (self.steps_taken % o.evaluate_every == 0 or self.steps_taken == o.steps):
                record |= self._evaluate(held_out)
            losses.append(step.loss)
            callback(**record)
        return losses

    def _evaluate(self, held_out: Array) -> dict[str, Any]:
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is reported below, by an exception
            loss = cross_entropy(self.model, held_out)
        if not math.isfinite(loss):
            raise FloatingPointError(f"held-out loss must stay finite; got {loss} after step {self.steps_taken}")
        improved = self.best is None or loss < self.best.loss
        if improved:
            self.best, self.evaluations_without_improvement = BestEvaluation(self.steps_taken, loss), 0
        else:
            self.evaluations_without_improvement += 1
        return {"held_out_loss": loss, "improved": improved}

    def save(self, path: Name, tokenizer: Tokenizer | None = None, **records: Any) -> None:
        """Write a checkpoint: the model, as `GPT.save` writes it, the state of the optimizer, and the options.

        `GPT.load` reads a checkpoint as a model.

        Parameters
        ----------
        path : str or path
            The file to write, .npz; an existing file is replaced atomically.
        tokenizer : Tokenizer, optional
            The tokenizer of the model.
        **records
            JSON values to save with them.
        """
        training = {
            "options": asdict(self.options),
            "steps": self.steps_taken,
            "best": self.best,
            "evaluations_without_improvement": self.evaluations_without_improvement,
        }
        self.model.save(path, tokenizer, extra=self.optimizer.moments, training=training, **records)

    @classmethod
    def load(cls, path: Name) -> Trainer:
        """Return a trainer in the state that `save` wrote. Raises ValueError if the file is not a checkpoint."""
        return cls.from_saved(load_model(path), path)

    @classmethod
    def from_saved(cls, saved: SavedModel, path: Name) -> Trainer:
        """Return what `load` returns, given what `load_model` read from `path`."""
        try:
            training = saved.records["training"]
            trainer = cls(saved.model, **training["options"])
            trainer.optimizer.steps = _check.integer("steps", training["steps"], 0)
            if training["best"]:
                step, loss = training["best"]
                trainer.best = BestEvaluation(_check.integer("step", step), _check.number("loss", loss, "[0, inf)"))
            trainer.evaluations_without_improvement = _check.integer(
                "evaluations_without_improvement", training["evaluations_without_improvement"], 0
            )
            for name, a in trainer.optimizer.moments.items():
                found = saved.extra[name]
                if (found.shape, found.dtype) != (a.shape, a.dtype):
                    raise ValueError
                a[...] = found
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"checkpoint must hold a training state; {path} does not") from None
        return trainer
