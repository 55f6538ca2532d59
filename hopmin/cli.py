"""The `hopmin` command, also `python -m hopmin`: study, report, tokenize, train, evaluate, generate, store, claims,
conformance.

This module only parses arguments and prints; each command calls a function that Python code can call too. Invalid
arguments end the command with a one-line message and exit code 2. SIGINT (Ctrl-C), SIGTERM and a broken pipe end it
with exit codes 130, 143 and 141, as shells report them.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np

import hopmin
from hopmin import _check, _signals
from hopmin._extras import MissingExtra, needed_by
from hopmin._files import to_json, writable_folder
from hopmin._lock import locked
from hopmin.data.token_files import write_tokens
from hopmin.data.tokenizers import TOKENIZERS
from hopmin.transformer.experiment import BATCH_ORDERS, Experiment, generate_text
from hopmin.transformer.model import PRESETS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    try:
        try:
            return _run(arguments)
        finally:
            print(end="", flush=True)
    except BrokenPipeError:  # the reader of the output has ended, as in `hopmin claims | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is still to be flushed
        return 141
    except OSError as error:
        return _print_error(f"{error.filename or 'a file'} could not be read or written: {error.strerror}")


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    try:
        with _signals.terminable():
            code: int = options.command(options)
        return code
    except (ValueError, TypeError, FloatingPointError, BrokenExecutor, MissingExtra) as error:
        return _print_error(str(error))
    except MemoryError as error:
        return _print_error(f"out of memory: {error}")
    except _signals.Terminated:
        print("\nhopmin: terminated", file=sys.stderr)
        return 143
    except KeyboardInterrupt:
        print("\nhopmin: interrupted", file=sys.stderr)
        return 130


def study(options: argparse.Namespace) -> int:
    """Run experiments on transformers as memories, and write a report."""
    with needed_by("hopmin study", "study"):
        import tqdm  # noqa: F401 - and the report: what is missing is to be said before anything is run
    from hopmin.study import plan, report, runner  # noqa: F401
    from hopmin.study.estimate import measure_speed
    from hopmin.study.pretrained import installed
    from hopmin.study.results import read_results

    settings = plan.Settings(options.preset, options.corpus, options.seed, options.seeds, installed())
    workers = runner.default_workers() if options.workers is None else _check.integer("workers", options.workers)
    if options.list:
        return _list_experiments(settings, workers)
    jobs = plan.plan(settings, options.names)
    runner.check_corpus(settings)
    folder = writable_folder(options.out)  # after all other checks: wrong arguments leave no folder behind
    quiet = options.quiet or options.json
    with locked(folder):
        missing = runner.missing(jobs, folder, settings)
        try:
            with _signals.deferred():  # Python drops what a signal raises in the callbacks of an import
                if not quiet:
                    _print_plan(missing, measure_speed(), workers)
                    if len(missing) < len(jobs):
                        print(f"{len(jobs) - len(missing)} of {len(jobs)} cells are in {folder} already", flush=True)
                all_bars = _Bars(len(missing), workers, quiet)
            with all_bars as bars:
                found = runner.study(
                    settings, folder, options.names, workers=workers, progress=bars.progress, finished=bars.finished
                )
        except BaseException:
            if done := len(missing) - len(runner.missing(jobs, folder, settings)):
                _write_report(folder, read_results(folder))
            if not quiet:
                print(f"{done} of {len(missing)} cells have finished; the same command runs the rest")
            raise
        page = _write_report(folder, found)
    if options.json:
        return _print_json(found)
    if not quiet:
        _print_answers(found, page)
    return 0


def report(options: argparse.Namespace) -> int:
    """Write the report of a study again, from its records alone."""
    from hopmin.study.results import read_results, write_results

    folder = Path(options.folder)
    found = read_results(folder)
    write_results(folder, found)
    page = _write_report(folder, found)
    if options.json:
        return _print_json(found)
    _print_answers(found, page)
    return 0


def _write_report(folder: Path, found: dict[str, Any]) -> Path:
    from hopmin.study import journal
    from hopmin.study.report import write_report

    seconds = sum(entry["seconds"] for entry in journal.read(folder)[1].values())
    return write_report(found, folder, seconds=seconds)


def _print_answers(found: dict[str, Any], page: Path) -> None:
    """Print the answer to each question, cells that failed, and where the report is."""
    from hopmin.study.report import answer

    for section in found["experiments"]:
        print(f"\n{section['question']}\n  {answer(section)}")
        for failed in section["failed"]:
            print(f"  a cell failed: {failed['error']}")
    print(f"\nThe report is {page}")


def _list_experiments(settings: Any, workers: int) -> int:
    """Print the experiments, and what each preset takes on this machine."""
    from hopmin.study import estimate, plan
    from hopmin.study.report import duration

    speed = estimate.measure_speed()
    for name, experiment in plan.experiments().items():
        print(f"{name}: {plan.question(experiment)}")
        for preset in get_args(plan.Preset):
            sizes = replace(settings, preset=preset, corpus="question-formation")
            jobs = plan.plan(sizes, [name])
            needed = duration(estimate.seconds(jobs, speed, workers=workers))
            print(f"  {preset:<9}{len(jobs):>5} cells, about {needed}")
    return 0


def _print_plan(jobs: Sequence[Any], speed: Any, workers: int) -> None:
    """Print what will be run: cells, the largest model, tokens, and the time that it will take."""
    from hopmin.study import estimate, plan
    from hopmin.study.report import duration

    for name in dict.fromkeys(job.experiment for job in jobs):
        chosen = [job for job in jobs if job.experiment == name]
        costs = [plan.experiments()[name].cost(job.cell) for job in chosen]
        size, tokens = max(cost.parameters for cost in costs), sum(cost.tokens for cost in costs)
        needed = duration(estimate.seconds(chosen, speed, workers=workers))
        print(f"{name:<13}{len(chosen):>5} cells, up to {size:>12,} parameters, {tokens:>15,} tokens, about {needed}")
    total = duration(estimate.seconds(jobs, speed, workers=workers))
    print(f"{len(jobs)} cells take about {total} with {workers} processes", flush=True)


def train(options: argparse.Namespace) -> int:
    """Train one model, with checkpoints to resume from."""
    with needed_by("hopmin train", "study"):
        from tqdm import tqdm

    given = _given(options, Experiment.create)
    if options.resume:
        if fixed := [name for name in given if name != "checkpoint_every"]:
            raise ValueError(f"{fixed[0]} must not be given when training is resumed; got {given[fixed[0]]}")
        experiment = Experiment.resume(options.out, **given)
    else:
        experiment = Experiment.create(options.out, **given)
    corpus, trainer = experiment.corpus, experiment.trainer
    size = f"a model of {trainer.model.config.parameter_count:,} parameters"
    print(f"{_check.printable(corpus.name)}: {len(corpus.train):,} rows to train on; {size}", flush=True)
    steps, tokens_seen, began = trainer.options.steps, 0, time.perf_counter()
    with tqdm(total=steps, initial=trainer.steps_taken, unit="step", dynamic_ncols=True, disable=None) as bar:

        def progress(*, step: int, loss: float, tokens: int, **more: Any) -> None:
            nonlocal tokens_seen
            tokens_seen += tokens
            speed = tokens_seen / (time.perf_counter() - began)
            bar.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} tokens/s", refresh=False)
            bar.update()
            if "held_out_loss" in more:
                bar.write(f"step {step:,}: loss {loss:.3f}, held out {more['held_out_loss']:.3f}")
                print(end="", flush=True)

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
    given = _given(options, write_tokens)
    if "vocabulary" in given and given.get("tokenizer") != "bpe":
        raise ValueError(f"vocabulary must be given only for a bpe tokenizer; got {given['vocabulary']}")
    count = write_tokens(options.corpus, options.out, **given)
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
        return _print_json(record)
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
    text = generate_text(options.checkpoint, options.prompt, **_given(options, generate_text))
    print(
        _check.printable(text, keep="\n\t") if sys.stdout.isatty() else text
    )  # a terminal would obey control characters
    return 0


def claims(options: argparse.Namespace) -> int:
    """Check the statements of the paper on random instances."""
    from hopmin.paper.claims import CLAIMS, examine

    found = ((claim, examine(claim, cases=options.cases, seed=options.seed)) for claim in CLAIMS)
    if options.json:
        rows = [
            {
                **{name: getattr(claim, name) for name in ("id", "where", "statement", "verdict", "condition")},
                **{name: part and part._asdict() for name, part in findings._asdict().items()},
            }
            for claim, findings in found
        ]
        return _print_json({"cases": options.cases, "seed": options.seed, "claims": rows})
    for claim, findings in found:
        print(f"\n{claim.id:<6}{claim.statement}\n      {claim.where}; {claim.verdict}")
        print(f"      as printed: {_evidence(findings.printed)}")
        if findings.corrected:
            print(f"      {claim.condition}: {_evidence(findings.corrected)}")
        elif claim.condition:
            print(f"      {claim.condition}")
        print(end="", flush=True)
    return 0


def conformance(options: argparse.Namespace) -> int:
    """Judge an implementation, package.module:callable, by the laws of a family."""
    from hopmin import testing
    from hopmin.testing.registry import FAMILIES

    if options.list:
        for family in FAMILIES.values():
            print(f"{family.name}: {family.signature}")
            for law in family.laws:
                print(f"  {law.__name__}: {' '.join((law.__doc__ or '').split())}")
        return 0
    if options.implementation is None or options.family is None:
        raise ValueError("package.module:callable and --family must be given; see hopmin conformance --list")
    given = _given(options, testing.conformance)
    implementation = _imported(options.implementation)  # may register the family, and laws of its own
    if options.xfails:
        known = [law.__name__ for law in FAMILIES[options.family].laws] if options.family in FAMILIES else None
        given["expected_failures"] = read_xfails(options.xfails, known)
    report = testing.conformance(implementation, options.family, **given)
    print(report.to_json() if options.json else report)
    return 0 if report.passed else 1


def read_xfails(path: str | Path, known: Collection[str] | None = None) -> dict[str, str]:
    """Return the laws that are expected to fail, with reasons: one law a line, then a reason; # begins a comment.

    A law that is there twice, or not among those known, is an error.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        parts = line.replace("#", " # ", 1).split(maxsplit=1)
        if parts and parts[0] != "#":
            name = parts[0]
            if name in found:
                raise ValueError(f"{path}, line {number}: a law must be listed once; got {name} again")
            if known is not None and name not in known:
                raise ValueError(f"{path}, line {number}: laws must be of {', '.join(known)}; got {name}")
            found[name] = parts[-1].strip(" \t#") if len(parts) > 1 else ""
    return found


def _imported(path: str) -> Any:
    """Return the object that package.module:name names; modules are found in the working directory too."""
    module, _, name = path.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = import_module(module)
        for part in filter(None, name.split(".")):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # whatever a module raises when it is imported
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(
            f"implementation must be package.module:callable that can be imported; got {path}: {reason}"
        ) from None
    finally:
        sys.path.remove(os.getcwd())
    return found


def store(options: argparse.Namespace) -> int:
    """Keep patterns with keys, values and metadata in a file, and search them."""
    code: int = options.action(options)
    return code


def _store_add(options: argparse.Namespace, *, new: bool = False) -> int:
    """Add the entries of a file, or replace those whose keys are stored; create the store if it is missing."""
    from hopmin import _entries

    if new and os.path.exists(options.store):
        raise ValueError(f"store must be a new file to import into; {options.store} exists")
    opened, done, missing = None, 0, not os.path.exists(options.store)
    try:
        for batch in _entries.read_entries(options.file, options.keys):
            if opened is None:
                opened = _store_for(batch, options)
            batch = _entries.converted(batch, opened.columns, opened.info()["keys"])
            rows = np.asarray(batch.patterns, opened.dtype)
            if batch.keys is None:  # add, not put: another process may have taken the same numbers
                first = opened._next_key()
                opened.add(list(range(first, first + len(rows))), rows, batch.values, batch.metadata)
            else:
                opened.put(list(batch.keys), rows, batch.values, batch.metadata)
            done += len(batch.patterns)
            _print_progress(done)
        if opened is None:
            raise ValueError(f"entries must not be empty; {options.file} holds none")
        print(f"{options.store} holds {len(opened):,} entries; {done:,} were added or replaced")
    except BaseException:
        if opened is not None and missing and (new or not done):  # do not leave a part of a new store behind
            opened.close()
            for suffix in ("", "-wal", "-shm", "-packed"):
                with suppress(OSError):
                    os.unlink(f"{opened.path}{suffix}")
        raise
    finally:
        if opened is not None:
            opened.close()
    return 0


def _store_import(options: argparse.Namespace) -> int:
    """Create a store from the entries of a file."""
    return _store_add(options, new=True)


def _store_for(batch: Any, options: argparse.Namespace) -> hopmin.Store:
    """Return the store, after creating it for entries like these if it is missing."""
    from hopmin import _entries

    if os.path.exists(options.store):
        return hopmin.Store(options.store)
    if options.columns is None:
        columns = _entries.column_types(batch.metadata)
    else:
        columns = dict(column.partition("=")[::2] for column in options.columns)
    d = np.shape(batch.patterns)[1]
    return hopmin.Store(options.store, d=d, dtype=options.dtype, columns=columns, indexes=options.indexes)


def _store_search(options: argparse.Namespace) -> int:
    """Print the keys, distances and metadata of the entries nearest to the queries in a file."""
    from hopmin import _entries

    with hopmin.Store(options.store, read_only=True) as opened:
        for batch in _entries.read_entries(options.file):
            queries = np.asarray(batch.patterns, opened.dtype)
            found = opened.nearest(queries, options.k, metric=options.metric, where=options.where)
            for keys, distances in zip(found.keys.tolist(), found.distances.tolist(), strict=True):
                hits = [(key, distance) for key, distance in zip(keys, distances, strict=True) if key is not None]
                entries = opened.get([key for key, _ in hits]) if hits else None
                rows = []
                for i, (key, distance) in enumerate(hits):
                    metadata = {} if entries is None else {name: column[i] for name, column in entries.metadata.items()}
                    value = None if entries is None or entries.values is None else entries.values[i].tolist()
                    rows.append({"key": key, "distance": distance, "value": value, **metadata})
                if options.json:
                    print(json.dumps(rows, ensure_ascii=False))
                    continue
                for row in rows:
                    more = "  ".join(f"{name}={part}" for name, part in list(row.items())[2:] if part is not None)
                    print(_check.printable(f"{row['key']!s:<24} {row['distance']:<12.6g} {more}").rstrip())
                print()
    return 0


def _store_info(options: argparse.Namespace) -> int:
    """Print what a store holds."""
    with hopmin.Store(options.store, read_only=True) as opened:
        record = opened.info()
    if options.json:
        return _print_json(record)
    for name, part in record.items():
        text = ", ".join(f"{key} {kind}" for key, kind in part.items()) if isinstance(part, dict) else part
        print(f"{name:<9}{f'{text:,}' if isinstance(text, int) else text or 'none'}")
    return 0


def _store_export(options: argparse.Namespace) -> int:
    """Write the entries of a store to a file: .npz, .csv or .jsonl."""
    from hopmin import _entries

    with hopmin.Store(options.store, read_only=True) as opened:
        keys = opened.keys(options.where).tolist()
        _entries.write_entries(options.file, opened, keys, _print_progress)
    print(f"{len(keys):,} entries were written to {options.file}")
    return 0


def _store_check(options: argparse.Namespace) -> int:
    """Read and verify a store; the exit code is 1 if something is wrong."""
    with hopmin.Store(options.store) as opened:
        problems = opened.check(_print_progress)
    print("\n".join(problems) or f"{options.store} is in order")
    return 1 if problems else 0


def _print_progress(done: int, total: int | None = None) -> None:
    """Show how many are done, on a terminal."""
    if sys.stderr.isatty():
        of = "" if total is None else f" of {total:,} ({done / max(total, 1):.0%})"
        print(f"\r{done:,}{of} ", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _evidence(evidence: Any) -> str:
    if evidence.fails == 0:
        return f"none of {evidence.cases} instances fail"
    return f"{evidence.fails} of {evidence.cases} instances fail, worst {evidence.example}"


def _print_json(record: Any) -> int:
    """Print a record as JSON, which has no infinities and no NaN: they become null."""
    print(to_json(record))
    return 0


class _Bars:
    """Progress bars: one for all cells, and one for each cell that is running; lines where there is no terminal."""

    def __init__(self, total: int, workers: int, quiet: bool) -> None:
        from tqdm import tqdm

        self.done = 0
        self._terminal = sys.stderr.isatty() and not quiet
        self._quiet = quiet
        options: Any = {"dynamic_ncols": True, "disable": not self._terminal}
        self._all = tqdm(total=total, unit="cell", **options)
        form = "{desc:<50.50} {percentage:3.0f}%|{bar}|"
        self._free = [tqdm(total=1.0, leave=False, position=i + 1, bar_format=form, **options) for i in range(workers)]
        self._bars: dict[str, Any] = {}

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def progress(self, job: Any, share: float, doing: str) -> None:
        """Move the bar of a cell."""
        if job.key not in self._bars:
            self._bars[job.key] = self._free.pop(0)
        bar = self._bars[job.key]
        bar.set_description_str(f"{job.experiment}: {doing}", refresh=False)
        bar.n = share
        bar.refresh()

    def finished(self, job: Any, entry: Any) -> None:
        """Count a cell, and say so where there are no bars."""
        self.done += 1
        if bar := self._bars.pop(job.key, None):
            bar.reset()
            self._free.append(bar)
        self._all.update()
        if not self._terminal and not self._quiet:
            outcome = entry["error"] or f"{entry['seconds']:.0f} seconds"
            print(f"{self.done}/{self._all.total} {job.experiment}: {outcome}", flush=True)

    def close(self) -> None:
        """Remove the bars."""
        for bar in (*self._bars.values(), *self._free, self._all):
            bar.close()


class _Parser(argparse.ArgumentParser):
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse unknown arguments where they are: the message names the help of the sub-command."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        sys.exit(_print_error(f"{message} (see {self.prog} --help)"))


def _print_error(message: str) -> int:
    print(f"hopmin: {_check.printable(message)}", file=sys.stderr)  # it may quote a file
    return 2


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the default of every optional argument of a function."""
    parameters = inspect.signature(function).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def _given(options: argparse.Namespace, function: Callable[..., Any]) -> dict[str, Any]:
    """Return the options on the command line that are optional arguments of a function."""
    return {name: value for name, value in vars(options).items() if name in _defaults(function)}


class _HelpFormatter(argparse.HelpFormatter):
    """Show the default of every option that has one; where it depends on other options, the help text states it."""

    def __init__(self, prog: str, *, defaults: dict[str, Any], **options: Any) -> None:
        super().__init__(prog, **options)
        self._defaults = defaults

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = self._defaults.get(action.dest)
        return action.help if default is None or action.nargs == 0 else f"{action.help} (default: {default})"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="hopmin", description="Transformers understood as associative memories.")
    versions = f"{hopmin.BACKEND} core, NumPy {np.__version__}, Python {platform.python_version()}"
    parser.add_argument("--version", action="version", version=f"hopmin {hopmin.__version__} ({versions})")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        run: Callable[[argparse.Namespace], int], calls: Callable[..., Any] | None = None, **defaults: Any
    ) -> argparse.ArgumentParser:
        """Add the command that calls `run`, with its docstring as help and these defaults of its options.

        Options without one are absent unless they are given: their defaults are those of the function that `run` calls.
        """
        shown = {**(_defaults(calls) if calls else {}), **defaults}
        sub = commands.add_parser(
            run.__name__,
            help=run.__doc__,
            description=run.__doc__,
            formatter_class=partial(_HelpFormatter, defaults=shown),
            argument_default=argparse.SUPPRESS,
        )
        sub.set_defaults(command=run, **defaults)
        return sub

    integer: dict[str, Any] = {"type": int, "metavar": "N"}
    corpus: dict[str, Any] = {
        "metavar": "NAME",
        "help": "question-formation, python-topics (the help texts of Python), a text file, or a file of tokens (.npz)",
    }
    checkpoint: dict[str, Any] = {"metavar": "FILE", "help": "checkpoint written by hopmin train"}

    sub = command(
        study, corpus="question-formation", preset="quick", out="hopmin-study", seed=0, seeds=None, workers=None,
        list=False, json=False, quiet=False,
    )  # fmt: skip
    sub.set_defaults(names=())
    add = sub.add_argument
    add("names", nargs="*", metavar="NAME", help="experiments to run (default: all that the corpus allows; see --list)")
    add("--list", action="store_true", help="list the experiments and what each preset takes on this machine")
    add("--preset", choices=("smoke", "quick", "standard", "paper"), help=(
        "smoke: seconds, to check that everything runs; quick: every figure, within five minutes on two cores; "
        "standard: conclusions, within two hours; paper: the sizes of the papers, months"
    ))  # fmt: skip
    add("--corpus", **corpus)
    folder = "folder of the records, the results and the report; a study that was stopped continues there"
    add("--out", metavar="FOLDER", help=folder)
    add("--seed", **integer, help="the first seed")
    add("--seeds", **integer, help="number of seeds (default: 1 for smoke and quick, 3 for standard and paper)")
    add("--workers", **integer, help="processes (default: one per processor, at most 8)")
    add("--json", action="store_true", help="print the results as JSON, and nothing else")
    add("--quiet", action="store_true", help="print nothing")

    sub = command(report, json=False)
    add = sub.add_argument
    add("folder", metavar="FOLDER", help="folder of a study")
    add("--json", action="store_true", help="print the results as JSON, and nothing else")

    sub = command(train, Experiment.create, out="hopmin-model", resume=False)
    add = sub.add_argument
    add("--out", metavar="FOLDER", help="folder for model.npz (the checkpoint), best.npz and log.jsonl")
    add("--resume", action="store_true", help="resume from the checkpoint in --out, with its original settings")
    add("--seed", **integer, help="seed of the corpus, the model and its batches")
    add = sub.add_argument_group("corpus").add_argument
    add("--corpus", **corpus)
    add("--rows", **integer, help="training rows of question-formation (default: 20,000)")
    add("--positions", **integer, help="tokens per row of a text (default: 64)")
    add("--tokenizer", choices=TOKENIZERS, help="unit of the tokens of a text (default: characters)")
    add("--vocabulary", **integer, help="symbols of the bpe tokenizer (default: 1000)")
    orders = (
        "random: rows drawn with replacement; shuffled: each row once per epoch; "
        "contiguous: each row continues one of the batch before (files of tokens)"
    )
    add("--batches", choices=BATCH_ORDERS, help=orders)
    add = sub.add_argument_group("model").add_argument
    presets = f"architecture, and the defaults of the options below: {', '.join(PRESETS)}"
    add("--preset", choices=tuple(PRESETS), metavar="NAME", help=presets)
    add("--layers", **integer, help="transformer blocks (default: 2)")
    add("--heads", **integer, help="attention heads per block (default: 4)")
    add("--width", **integer, help="dimensions of the residual stream (default: 64)")
    add("--dropout", type=float, metavar="P", help="probability that an activation is dropped, in [0, 1) (default: 0)")
    add = sub.add_argument_group("training").add_argument
    add("--steps", **integer, help="training steps")
    add("--learning-rate", type=float, metavar="RATE", help="peak learning rate (default: 0.04 / sqrt(width))")
    add("--batch-size", **integer, help="rows per batch")
    add("--micro-batches", **integer, help="parts of a batch, one per thread; more parts need less memory")
    add("--checkpoint-every", **integer, help="steps between checkpoints")
    add("--evaluate-every", **integer, help="steps between evaluations on held-out rows; best.npz keeps the best model")
    add("--patience", **integer, help="evaluations without improvement after which training ends (default: no limit)")

    sub = command(tokenize, write_tokens)
    add = sub.add_argument
    add("--corpus", metavar="FILE", required=True, help="text file; with --tokenizer bytes, any file")
    add("--out", metavar="FILE", required=True, help="file to write, .npz")
    add("--tokenizer", choices=TOKENIZERS, help="unit of the tokens")
    add("--vocabulary", **integer, help="symbols of the bpe tokenizer")

    sub = command(evaluate, checkpoint="hopmin-model/model.npz", json=False)
    add = sub.add_argument
    add("--checkpoint", **checkpoint)
    add("--json", action="store_true", help="print a JSON record instead; null where a number is not finite")

    sub = command(generate, generate_text, checkpoint="hopmin-model/model.npz")
    add = sub.add_argument
    add("--prompt", metavar="TEXT", required=True, help="text to continue")
    add("--checkpoint", **checkpoint)
    add("--max-new-tokens", **integer, help="largest number of tokens to add")
    add("--temperature", type=float, metavar="T", help="0 takes the most likely token, 1 samples from the model")
    add("--top-k", type=int, metavar="K", help="sample only among the K most likely tokens (default: all)")
    fewest = "sample only among the fewest tokens whose probabilities sum to P (default: all)"
    add("--top-p", type=float, metavar="P", help=fewest)
    add("--seed", **integer, help="seed of the samples")

    actions = command(store).add_subparsers(required=True, metavar="ACTION")

    def action(name: str, run: Callable[[argparse.Namespace], int], **defaults: Any) -> Callable[..., Any]:
        sub = actions.add_parser(
            name, help=run.__doc__, description=run.__doc__, formatter_class=partial(_HelpFormatter, defaults=defaults)
        )
        sub.add_argument("store", metavar="STORE", help="file of the store")
        sub.set_defaults(action=run, **defaults)
        return sub.add_argument

    entries: dict[str, Any] = {"metavar": "FILE", "help": ".npy, .npz, .safetensors, .csv or .jsonl"}
    where: dict[str, Any] = {"metavar": "SQL", "help": "a condition on the metadata columns and the key"}
    for name, run in (("add", _store_add), ("import", _store_import)):
        add = action(name, run, indexes=(), dtype="float32")
        add("file", **entries)
        add("--keys", metavar="FILE", help="text file with a key for each entry, one a line")
        columns = "metadata columns of a new store, as name=text, name=integer or name=real (default: as the entries)"
        add("--columns", nargs="*", metavar="COLUMN", help=columns)
        add("--indexes", nargs="*", metavar="COLUMN", help="columns of a new store that get an index")
        add("--dtype", choices=("float32", "float64"), help="dtype of a new store")
    add = action("search", _store_search, k=10, metric="euclidean")
    add("file", **entries)
    add("-k", **integer, help="number of neighbours")
    add("--metric", choices=("euclidean", "dot", "cosine"), help="the metric")
    add("--where", **where)
    add("--json", action="store_true", help="print a line of JSON for each query")
    add = action("info", _store_info)
    add("--json", action="store_true", help="print a JSON record instead")
    add = action("export", _store_export)
    add("file", metavar="FILE", help=".npz, .csv or .jsonl")
    add("--where", **where)
    action("check", _store_check)

    sub = command(claims, cases=200, seed=0, json=False)
    add = sub.add_argument
    add("--cases", **integer, help="random instances of each statement")
    add("--seed", **integer, help="seed of the instances")
    add("--json", action="store_true", help="print a JSON record instead; null where a number is not finite")

    sub = command(conformance, implementation=None, family=None, xfails=None, list=False, json=False)
    add = sub.add_argument
    add(
        "implementation",
        nargs="?",
        metavar="PACKAGE.MODULE:CALLABLE",
        help="judged; without a callable, the module itself",
    )
    add("--family", metavar="NAME", help="judged as this family; see --list")
    add("--list", action="store_true", help="list the families and their laws")
    add("--dtype", metavar="NAME", help="float64, float32, float16 or bfloat16 (default: float64 and float32)")
    add("--tolerance", type=float, metavar="FACTOR", help="multiply the slack of every law (default: 1)")
    add("--examples", **integer, help="examples of each law (default: 100)")
    add(
        "--promises",
        action="extend",
        type=lambda names: [name.strip() for name in names.split(",") if name.strip()],
        metavar="NAME,...",
        help="legal choices that the implementation makes, such as ties,bits; may be repeated",
    )
    add("--xfails", metavar="FILE", help="laws that must fail: one a line, followed by a reason")
    add("--seed", **integer, help="seed of the examples (default: a random one, which is printed)")
    add("--json", action="store_true", help="print a JSON record instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
