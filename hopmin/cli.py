"""The `hopmin` command, also `python -m hopmin`: study, tokenize, train, evaluate, generate, claims.

What is wrong with what was asked is said in one sentence, with exit code 2; an interruption ends with 130 and leaves
what was finished.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import signal
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import hopmin
from hopmin import _check
from hopmin._files import writable_folder

HELD_OUT = 2000  # rows that are looked at
BATCHES = ("random", "shuffled", "contiguous")
CORPUS_OPTIONS = ("rows", "positions", "seed", "tokenizer", "vocabulary", "batches")
EXTRAS = {"matplotlib": "study", "jinja2": "study", "tqdm": "study", "tokenizers": "pretrained"}
TOKENIZERS = ("characters", "words", "bytes", "bpe")
CORPUS = "question-formation, python-topics (the help texts that ship with Python), a text file, or a file of tokens"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (ValueError, TypeError, FloatingPointError) as error:
        return _complain(str(error))
    except ImportError as error:
        if error.name not in EXTRAS:
            raise
        extra = f"python -m pip install 'hopmin[{EXTRAS[error.name]}]'"
        return _complain(f"{error.name} must be installed for this command: {extra}")
    except OSError as error:
        return _complain(f"{error.filename or 'a file'} could not be read or written: {error.strerror}")
    except MemoryError as error:
        return _complain(f"memory does not suffice: {error}")
    except KeyboardInterrupt:
        print("\nhopmin: interrupted", file=sys.stderr)
        return 130


def study(options: argparse.Namespace) -> int:
    """Train a grid of models, measure them, write a report."""
    from tqdm import tqdm

    from hopmin.data.open import open_corpus
    from hopmin.study import grid, report

    preset = grid.PRESETS[options.preset]
    workers = None if options.workers is None else _check.integer("workers", options.workers)
    seed = _check.integer("seed", options.seed, 0)
    corpus = open_corpus(options.corpus, rows=preset.rows[1], positions=preset.text_positions, seed=seed)
    folder = writable_folder(options.out)  # made now that nothing else can be refused
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
    """Train a single model, with checkpoints to go on from."""
    from tqdm import tqdm

    from hopmin.transformer.model import GPT, PRESETS, GPTConfig, load_model
    from hopmin.transformer.training import Log, Trainer, cross_entropy

    _check.integer("checkpoint_every", options.checkpoint_every)
    folder = Path(options.out)
    checkpoint = folder / "model.npz"
    if options.resume:
        trainer = Trainer.load(checkpoint)
        made, corpus = _recorded(load_model(checkpoint), checkpoint)
    else:
        if checkpoint.exists():
            raise ValueError(f"out must hold no model yet, unless --resume is given; {checkpoint} exists")
        _check.integer("seed", options.seed, 0)
        made = {"name": options.corpus, **{key: getattr(options, key) for key in CORPUS_OPTIONS}}
        corpus = _corpus(made, options.tokenizer)
        made["crc32"] = _checksum(corpus)
        V, T = len(corpus.tokenizer.symbols), corpus.train.shape[1] - 1
        D = _check.integer("width", options.width)
        sizes = {"layers": options.layers, "heads": options.heads, "width": D, "init_std": D**-0.5}
        if options.preset:
            sizes = {name: size for name, size in PRESETS[options.preset].items() if name != "dropout"}
        config = GPTConfig(**{**sizes, "vocabulary": V, "positions": T, "dropout": options.dropout})
        rate = 0.04 * config.width**-0.5 if options.learning_rate is None else options.learning_rate
        trainer = Trainer(
            GPT(config, options.seed),
            steps=options.steps,
            learning_rate=rate,
            batch_size=options.batch_size,
            micro_batches=options.micro_batches,
            evaluate_every=options.evaluate_every,
            patience=options.patience,
            seed=options.seed,
        )
    rows, held_out = _batches(corpus, made["batches"], trainer.options), corpus.held_out[:HELD_OUT]
    writable_folder(folder)  # made now that nothing else can be refused
    size = f"a model of {trainer.model.config.parameter_count:,} parameters"
    print(f"{corpus.name}: {len(corpus.train):,} rows to train on; {size}", flush=True)

    def save(name: str = "model.npz") -> None:
        trainer.save(folder / name, corpus.tokenizer, corpus=made)

    saved = trainer.steps_taken
    with (
        tqdm(total=trainer.options["steps"], initial=saved, unit="step", dynamic_ncols=True) as bar,
        Log(folder / "log.jsonl", saved) as log,
        _interruptible() as interrupted,
    ):
        seen = {"tokens": 0, "seconds": -time.perf_counter()}

        def callback(step: int, loss: float, tokens: int, improved: bool = False, **more: Any) -> None:
            nonlocal saved
            seen["tokens"] += tokens
            speed = seen["tokens"] / (seen["seconds"] + time.perf_counter())
            bar.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} tokens/s", refresh=False)
            bar.update()
            log(step=step, loss=loss, tokens=tokens, improved=improved, **more)
            if improved:
                save("best.npz")
            if step % options.checkpoint_every == 0 or interrupted.is_set() or trainer.done:
                save()
                saved = step
            if interrupted.is_set():
                raise KeyboardInterrupt

        try:
            trainer.run(rows, held_out=held_out, callback=callback)
        finally:
            bar.close()
            if saved:
                print(f"{checkpoint} holds the model after {saved} of {trainer.options['steps']} steps", flush=True)
    if trainer.steps_taken < trainer.options["steps"]:
        print(f"{trainer.evaluations_without_improvement} evaluations without improvement")
    floor = "" if corpus.entropy is None else f"; the language has {corpus.entropy:.3f}"
    print(f"held-out cross-entropy {cross_entropy(trainer.model, held_out):.3f} nats per token{floor}")
    if trainer.best and trainer.best[0] < trainer.steps_taken:
        print(f"{folder / 'best.npz'} holds the best, {trainer.best[1]:.3f} after {trainer.best[0]} steps")
    return 0


def _recorded(saved: Any, checkpoint: Any) -> tuple[dict[str, Any], Any]:
    """What a checkpoint says of its corpus, and that corpus as it was; a bpe is not trained again."""
    made = saved.records.get("corpus")
    fits = isinstance(made, dict) and {"name", "crc32", *CORPUS_OPTIONS} <= made.keys()
    fits = (
        fits
        and isinstance(made["name"], str)
        and made["tokenizer"] in (None, *TOKENIZERS)
        and made["batches"] in BATCHES
    )
    if not fits:
        raise ValueError(f"checkpoint must name its corpus; {checkpoint} was not made by hopmin train")
    corpus = _corpus(made, saved.tokenizer if made["tokenizer"] == "bpe" else made["tokenizer"])
    if corpus.tokenizer != saved.tokenizer or _checksum(corpus) != made["crc32"]:
        raise ValueError(f"corpus must be the one that training began with; {made['name']} has changed")
    return made, corpus


def _corpus(made: dict[str, Any], tokenizer: Any) -> Any:
    """The corpus that was asked for, cut by a tokenizer."""
    from hopmin.data.open import open_corpus

    return open_corpus(
        **{key: made[key] for key in ("name", "rows", "positions", "seed", "vocabulary")}, tokenizer=tokenizer
    )


def _batches(corpus: Any, kind: str, options: dict[str, Any]) -> Any:
    """What Trainer.run takes: rows to draw from, or a function of the step."""
    from hopmin.data.token_files import contiguous_batches, shuffled_batches

    if kind == "random":
        return corpus.train
    if kind == "shuffled":
        return shuffled_batches(corpus.train, options["batch_size"], options["seed"])
    if not corpus.contiguous:
        raise ValueError(f"batches must not be contiguous where rows are shuffled, as those of {corpus.name} are")
    return contiguous_batches(corpus.train, options["batch_size"])


def _checksum(corpus: Any) -> int:
    """CRC-32 of its rows, some at a time: they may be a map of a large file."""
    crc = 0
    for rows in (corpus.train, corpus.held_out):
        for start in range(0, len(rows), 10_000):
            crc = zlib.crc32(rows[start : start + 10_000].tobytes(), crc)
    return crc


def tokenize(options: argparse.Namespace) -> int:
    """Write a text as a file of tokens, which training maps instead of reading."""
    from hopmin.data.token_files import write_tokens

    _check.integer("vocabulary", options.vocabulary)
    count = write_tokens(options.corpus, options.out, options.tokenizer, vocabulary=options.vocabulary)
    print(f"{options.out} holds {count:,} tokens")
    return 0


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that an interrupt, or a request to end, sets: half a step is not a state to go on from."""
    interrupted = threading.Event()
    before = {number: signal.signal(number, lambda *_: interrupted.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def evaluate(options: argparse.Namespace) -> int:
    """What a trained model's held-out rows cost it."""
    from hopmin.study.measure import extraction_rate
    from hopmin.transformer.model import load_model
    from hopmin.transformer.training import cross_entropy

    saved = load_model(options.checkpoint)
    _, corpus = _recorded(saved, options.checkpoint)
    splits = {"train": corpus.train[:HELD_OUT], "held_out": corpus.held_out[:HELD_OUT]}
    found = {
        name: {
            "rows": len(rows),
            "tokens": int((rows[:, 1:] >= 0).sum()),
            "nats_per_token": (loss := cross_entropy(saved.model, rows)),
            "bits_per_token": loss / math.log(2),
            "perplexity": math.exp(loss) if loss < 709 else math.inf,  # beyond all floats
            "extraction_rate": extraction_rate(saved.model, rows),
        }
        for name, rows in splits.items()
    }
    if options.json:
        record = {"checkpoint": options.checkpoint, "corpus": corpus.name, "entropy": corpus.entropy, "splits": found}
        print(json.dumps(record, indent=1))
        return 0
    for name, split in found.items():
        nats, bits, perplexity = (split[key] for key in ("nats_per_token", "bits_per_token", "perplexity"))
        cost = f"{nats:.4f} nats per token ({bits:.4f} bits, perplexity {perplexity:.2f})"
        completed = f"{split['extraction_rate']:.1%} of {split['rows']:,} rows completed"
        print(f"{name.replace('_', ' '):<9} {cost}; {completed}")
    if corpus.entropy is not None:
        print(f"the language itself has {corpus.entropy:.4f} nats per token")
    return 0


def generate(options: argparse.Namespace) -> int:
    """Let a trained model go on from a prompt."""
    from hopmin.data.question_formation import END
    from hopmin.transformer.model import load_model

    saved = load_model(options.checkpoint)
    if saved.tokenizer is None:
        raise ValueError(f"model must come with a tokenizer to generate text; {options.checkpoint} has none")
    framed = END in saved.tokenizer.symbols  # rows of this corpus open and close with it
    prompt = saved.tokenizer.encode(f"{END} {options.prompt}" if framed else options.prompt)
    stop = saved.tokenizer.symbols.index(END) if framed else None
    rng = np.random.default_rng(_check.integer("seed", options.seed, 0))
    drawn = {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p, "rng": rng}
    tokens = saved.model.generate(prompt, options.max_new_tokens, stop_token=stop, **drawn)
    print(saved.tokenizer.decode(token for token in tokens if token != stop))
    return 0


def claims(options: argparse.Namespace) -> int:
    """Check the paper's statements on fresh random instances."""
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
        sys.exit(_complain(f"{message} (see {self.prog} --help)"))


def _complain(sentence: str) -> int:
    print(f"hopmin: {sentence}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="hopmin", description="Transformers understood as associative memories.")
    versions = f"{hopmin.BACKEND} core, NumPy {np.__version__}, Python {platform.python_version()}"
    parser.add_argument("--version", action="version", version=f"hopmin {hopmin.__version__} ({versions})")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, **defaults: tuple[Any, str]) -> argparse.ArgumentParser:
        """A command whose options are named, typed and defaulted in one place: name=(default or type, help)."""
        sub = commands.add_parser(
            name, help=run.__doc__, description=run.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        sub.set_defaults(command=run)
        for option, (default, text) in defaults.items():
            optional = isinstance(default, type)
            sub.add_argument(
                f"--{option.replace('_', '-')}", help=text,
                type=default if optional else type(default), default=None if optional else default,
                required=optional and option in ("prompt", "corpus", "out"),
            )  # fmt: skip
        return sub

    sub = command(
        "study", study,
        corpus=("question-formation", CORPUS),
        out=("hopmin-study", "folder for results.json, the figures and report.html"),
        seed=(0, "of the corpus, the models and their batches"),
        workers=(int, "processes to train in; by default one a processor"),
    )  # fmt: skip
    sub.add_argument(
        "--preset",
        default="quick",
        choices=("quick", "smoke"),
        help="quick: about two minutes; smoke: seconds, to see that it runs",
    )
    sub = command(
        "train", train,
        corpus=("question-formation", CORPUS),
        out=("hopmin-model", "folder for model.npz, the checkpoint"),
        seed=(0, "of the corpus, the model and its batches"),
        steps=(2000, "steps to train for"),
        rows=(20_000, "training rows of question-formation"),
        positions=(64, "tokens in a row of a text"),
        vocabulary=(1000, "symbols of a bpe"),
        layers=(2, "blocks"), heads=(4, "attention heads in a block"), width=(64, "of the residual stream"),
        dropout=(0.0, "share of activations to drop"),
        learning_rate=(float, "peak of the schedule; by default 0.04 / sqrt(width)"),
        batch_size=(32, "rows of a batch"),
        micro_batches=(2, "parts of a batch, one a thread; more need less memory"),
        checkpoint_every=(500, "steps between checkpoints"),
        evaluate_every=(500, "steps between looks at held-out rows; the best model is kept as best.npz"),
        patience=(int, "looks without improvement before training ends"),
    )  # fmt: skip
    sub.add_argument("--preset", choices=("tiny", "questions-6", "questions-10", "gpt2"), help="instead of sizes")
    sub.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint in --out, with the settings it was begun with"
    )
    sub.add_argument("--tokenizer", choices=TOKENIZERS, help="of a text; by default characters")
    sub.add_argument(
        "--batches",
        default="random",
        choices=BATCHES,
        help="rows drawn with replacement; each once an epoch; or each where it ended before (files of tokens)",
    )
    sub = command(
        "tokenize", tokenize,
        corpus=(str, "text file; for bytes any file"),
        out=(str, "file to write, .npz"),
        vocabulary=(1000, "symbols of a bpe"),
    )  # fmt: skip
    sub.add_argument("--tokenizer", default="characters", choices=TOKENIZERS, help="what a token is")
    sub = command(
        "evaluate", evaluate,
        checkpoint=("hopmin-model/model.npz", "what hopmin train wrote"),
    )  # fmt: skip
    sub.add_argument("--json", action="store_true", help="print a JSON record instead")
    sub = command(
        "generate", generate,
        prompt=(str, "text to go on from"),
        checkpoint=("hopmin-model/model.npz", "what hopmin train wrote"),
        max_new_tokens=(100, "tokens to add, at most"),
        temperature=(0.0, "0 takes the likeliest token, 1 draws from the model"),
        top_k=(int, "draw among so many of the likeliest tokens only"),
        top_p=(float, "draw among the fewest tokens that hold this share of the probability"),
        seed=(0, "of the draws"),
    )  # fmt: skip
    sub = command(
        "claims", claims,
        cases=(200, "random instances of each statement"),
        seed=(0, "of the instances"),
    )  # fmt: skip
    sub.add_argument("--json", action="store_true", help="print a JSON record instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
