"""The `hopmin` command, also `python -m hopmin`: study, tokenize, train, evaluate, generate, claims.

This module only parses arguments and prints; each command calls a function that Python code can call too. Invalid
arguments end the command with a one-line message and exit code 2, an interruption with exit code 130.
"""

from __future__ import annotations

import argparse
import inspect
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

import hopmin
from hopmin import _check
from hopmin._extras import MissingExtra, needed_by
from hopmin._files import writable_folder
from hopmin.data.token_files import write_tokens
from hopmin.data.tokenizers import TOKENIZERS
from hopmin.transformer.experiment import BATCH_ORDERS, Experiment, generate_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
        return code
    except (ValueError, TypeError, FloatingPointError, MissingExtra) as error:
        return _print_error(str(error))
    except OSError as error:
        return _print_error(f"{error.filename or 'a file'} could not be read or written: {error.strerror}")
    except MemoryError as error:
        return _print_error(f"out of memory: {error}")
    except KeyboardInterrupt:
        print("\nhopmin: interrupted", file=sys.stderr)
        return 130


def study(options: argparse.Namespace) -> int:
    """Train a grid of models, measure them, and write a report."""
    with needed_by("hopmin study", "study"):
        from tqdm import tqdm

    from hopmin.data.open import open_corpus
    from hopmin.study import grid, report

    preset = grid.PRESETS[options.preset]
    workers = None if options.workers is None else _check.integer("workers", options.workers)
    seed = _check.integer("seed", options.seed, 0)
    corpus = open_corpus(options.corpus, rows=preset.rows[1], positions=preset.text_positions, seed=seed)
    folder = writable_folder(options.out)  # after all other checks: wrong arguments leave no folder behind
    print(f"{corpus.name}: {len(corpus.train):,} rows to train on, {len(corpus.held_out):,} held out", end="")
    print("" if corpus.entropy is None else f", {corpus.entropy:.3f} nats per token by construction", flush=True)
    total = len(grid.tasks(corpus, preset, seed)) * preset.steps
    so_far: grid.Record = {}
    with tqdm(total=total, unit="step", smoothing=0.05, dynamic_ncols=True) as bar:

        def progress(steps: int, name: str, loss: float, speed: float) -> None:
            bar.set_postfix_str(f"{name}: loss {loss:.2f}, {speed:,.0f} tokens/s", refresh=False)
            bar.update(steps)

        def finished(record: grid.Record, run: grid.Record) -> None:
            so_far.update(record)
            report.write_results(record, folder)
            loss, rate = run["cross_entropy"], run["extraction_rate"]
            bar.write(
                f"width {run['width']:>3}, {run['rows']:>6,} rows: "
                f"loss {loss['train']:.3f}, held out {loss['held_out']:.3f}; "
                f"extraction {rate['train']:.2f}, held out {rate['held_out']:.2f}"
            )

        try:
            grid.study(corpus, preset, seed, progress=progress, finished=finished, workers=workers)
        finally:
            bar.close()
            if so_far:
                print(f"{report.summary(so_far)}\nThe report is {report.write_report(so_far, folder)}")
    return 0


def train(options: argparse.Namespace) -> int:
    """Train one model, with checkpoints to resume from."""
    with needed_by("hopmin train", "study"):
        from tqdm import tqdm

    if options.resume:
        experiment = Experiment.resume(options.out, checkpoint_every=options.checkpoint_every)
    else:
        experiment = Experiment.create(options.out, **_given(options, Experiment.create))
    corpus, trainer = experiment.corpus, experiment.trainer
    size = f"a model of {trainer.model.config.parameter_count:,} parameters"
    print(f"{corpus.name}: {len(corpus.train):,} rows to train on; {size}", flush=True)
    steps, tokens_seen, began = trainer.options.steps, 0, time.perf_counter()
    with tqdm(total=steps, initial=trainer.steps_taken, unit="step", dynamic_ncols=True) as bar:

        def progress(*, loss: float, tokens: int, **_: Any) -> None:
            nonlocal tokens_seen
            tokens_seen += tokens
            speed = tokens_seen / (time.perf_counter() - began)
            bar.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} tokens/s", refresh=False)
            bar.update()

        try:
            held_out_loss = experiment.run(progress)
        finally:
            bar.close()
            if saved := experiment.saved_steps:
                print(f"{experiment.checkpoint} holds the model after {saved} of {steps} steps", flush=True)
    if trainer.steps_taken < steps:
        print(f"{trainer.evaluations_without_improvement} evaluations without improvement")
    floor = "" if corpus.entropy is None else f"; the entropy of the language is {corpus.entropy:.3f}"
    print(f"held-out cross-entropy {held_out_loss:.3f} nats per token{floor}")
    if (best := trainer.best) and best.step < trainer.steps_taken:
        print(f"{experiment.best_checkpoint} holds the best model, {best.loss:.3f} after {best.step} steps")
    return 0


def tokenize(options: argparse.Namespace) -> int:
    """Convert a text into a file of tokens, for training on text larger than memory."""
    _check.integer("vocabulary", options.vocabulary)
    count = write_tokens(options.corpus, options.out, options.tokenizer, vocabulary=options.vocabulary)
    print(f"{options.out} holds {count:,} tokens")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Evaluate a model on training rows and on held-out rows."""
    from hopmin.study.evaluation import evaluate_checkpoint

    corpus, entropy, splits = evaluate_checkpoint(options.checkpoint)
    if options.json:
        record = {
            "checkpoint": options.checkpoint,
            "corpus": corpus,
            "entropy": entropy,
            "splits": {name: split._asdict() for name, split in splits.items()},
        }
        print(json.dumps(record, indent=1))
        return 0
    for name, split in splits.items():
        loss = f"{split.nats_per_token:.4f} nats per token"
        same = f"{split.bits_per_token:.4f} bits, perplexity {split.perplexity:.2f}"
        completed = f"{split.extraction_rate:.1%} of {split.rows:,} rows completed"
        print(f"{name.replace('_', ' '):<9} {loss} ({same}); {completed}")
    if entropy is not None:
        print(f"the entropy of the language is {entropy:.4f} nats per token")
    return 0


def generate(options: argparse.Namespace) -> int:
    """Continue a prompt with a trained model."""
    print(generate_text(options.checkpoint, options.prompt, **_given(options, generate_text)))
    return 0


def claims(options: argparse.Namespace) -> int:
    """Check the statements of the paper on random instances."""
    from hopmin.paper.claims import CLAIMS, examine

    found = [(claim, examine(claim, cases=options.cases, seed=options.seed)) for claim in CLAIMS]
    if options.json:
        rows = [
            {
                **{name: getattr(claim, name) for name in ("id", "where", "statement", "verdict", "condition")},
                **{name: part and part._asdict() for name, part in findings._asdict().items()},
            }
            for claim, findings in found
        ]
        print(json.dumps({"cases": options.cases, "seed": options.seed, "claims": rows}, indent=1))
        return 0
    for claim, findings in found:
        print(f"\n{claim.id:<6}{claim.statement}\n      {claim.where}; {claim.verdict}")
        print(f"      as printed: {_evidence(findings.printed)}")
        if findings.corrected:
            print(f"      {claim.condition}: {_evidence(findings.corrected)}")
        elif claim.condition:
            print(f"      {claim.condition}")
    return 0


def _evidence(evidence: Any) -> str:
    if evidence.fails == 0:
        return f"none of {evidence.cases} instances fail"
    return f"{evidence.fails} of {evidence.cases} instances fail, worst {evidence.example}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.exit(_print_error(f"{message} (see {self.prog} --help)"))


def _print_error(message: str) -> int:
    print(f"hopmin: {message}", file=sys.stderr)
    return 2


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the default of every optional argument of a function."""
    parameters = inspect.signature(function).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def _given(options: argparse.Namespace, function: Callable[..., Any]) -> dict[str, Any]:
    """Return the options that are optional arguments of a function."""
    return {name: getattr(options, name) for name in _defaults(function)}


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Show the default of every option that has one; where it depends on other options, the help text states it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None or action.nargs == 0 else super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="hopmin", description="Transformers understood as associative memories.")
    versions = f"{hopmin.BACKEND} core, NumPy {np.__version__}, Python {platform.python_version()}"
    parser.add_argument("--version", action="version", version=f"hopmin {hopmin.__version__} ({versions})")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], int], **defaults: Any) -> argparse.ArgumentParser:
        """Add the command that calls `run`, with its docstring as help and these defaults of its options."""
        name, text = run.__name__, run.__doc__
        sub = commands.add_parser(name, help=text, description=text, formatter_class=_HelpFormatter)
        sub.set_defaults(command=run, **defaults)
        return sub

    integer: dict[str, Any] = {"type": int, "metavar": "N"}
    corpus: dict[str, Any] = {
        "metavar": "NAME",
        "help": "question-formation, python-topics (the help texts of Python), a text file, or a file of tokens (.npz)",
    }
    checkpoint: dict[str, Any] = {"metavar": "FILE", "help": "checkpoint written by hopmin train"}

    sub = command(study, corpus="question-formation", preset="quick", out="hopmin-study", seed=0)
    add = sub.add_argument
    add("--corpus", **corpus)
    add("--preset", choices=("quick", "smoke"), help="quick: one to two minutes; smoke: seconds, to check that it runs")
    add("--out", metavar="FOLDER", help="folder for results.json, the figures and report.html")
    add("--workers", **integer, help="processes that train models (default: one per processor, at most 8)")
    add("--seed", **integer, help="seed of the corpus, the models and their batches")

    sub = command(train, out="hopmin-model", **_defaults(Experiment.create))
    add = sub.add_argument
    add("--out", metavar="FOLDER", help="folder for model.npz (the checkpoint), best.npz and log.jsonl")
    add("--resume", action="store_true", help="resume from the checkpoint in --out, with its original settings")
    add("--seed", **integer, help="seed of the corpus, the model and its batches")
    add = sub.add_argument_group("corpus").add_argument
    add("--corpus", **corpus)
    add("--rows", **integer, help="training rows of question-formation")
    add("--positions", **integer, help="tokens per row of a text")
    add("--tokenizer", choices=TOKENIZERS, help="unit of the tokens of a text (default: characters)")
    add("--vocabulary", **integer, help="symbols of the bpe tokenizer")
    orders = (
        "random: rows drawn with replacement; shuffled: each row once per epoch; "
        "contiguous: each row continues one of the batch before (files of tokens)"
    )
    add("--batches", choices=BATCH_ORDERS, help=orders)
    add = sub.add_argument_group("model").add_argument
    presets = ("tiny", "questions-6", "questions-10", "gpt2")
    add("--preset", choices=presets, help="architecture and sizes, instead of --layers, --heads and --width")
    add("--layers", **integer, help="transformer blocks")
    add("--heads", **integer, help="attention heads per block")
    add("--width", **integer, help="dimensions of the residual stream")
    add("--dropout", type=float, metavar="P", help="probability that an activation is dropped, in [0, 1)")
    add = sub.add_argument_group("training").add_argument
    add("--steps", **integer, help="training steps")
    add("--learning-rate", type=float, metavar="RATE", help="peak learning rate (default: 0.04 / sqrt(width))")
    add("--batch-size", **integer, help="rows per batch")
    add("--micro-batches", **integer, help="parts of a batch, one per thread; more parts need less memory")
    add("--checkpoint-every", **integer, help="steps between checkpoints")
    add("--evaluate-every", **integer, help="steps between evaluations on held-out rows; best.npz keeps the best model")
    add("--patience", **integer, help="evaluations without improvement after which training ends (default: no limit)")

    sub = command(tokenize, **_defaults(write_tokens))
    add = sub.add_argument
    add("--corpus", metavar="FILE", required=True, help="text file; with --tokenizer bytes, any file")
    add("--out", metavar="FILE", required=True, help="file to write, .npz")
    add("--tokenizer", choices=TOKENIZERS, help="unit of the tokens")
    add("--vocabulary", **integer, help="symbols of the bpe tokenizer")

    sub = command(evaluate, checkpoint="hopmin-model/model.npz")
    add = sub.add_argument
    add("--checkpoint", **checkpoint)
    add("--json", action="store_true", help="print a JSON record instead")

    sub = command(generate, checkpoint="hopmin-model/model.npz", **_defaults(generate_text))
    add = sub.add_argument
    add("--prompt", metavar="TEXT", required=True, help="text to continue")
    add("--checkpoint", **checkpoint)
    add("--max-new-tokens", **integer, help="largest number of tokens to add")
    add("--temperature", type=float, metavar="T", help="0 takes the most likely token, 1 samples from the model")
    add("--top-k", type=int, metavar="K", help="sample only among the K most likely tokens (default: all)")
    fewest = "sample only among the fewest tokens whose probabilities sum to P (default: all)"
    add("--top-p", type=float, metavar="P", help=fewest)
    add("--seed", **integer, help="seed of the samples")

    sub = command(claims, cases=200, seed=0)
    add = sub.add_argument
    add("--cases", **integer, help="random instances of each statement")
    add("--seed", **integer, help="seed of the instances")
    add("--json", action="store_true", help="print a JSON record instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
