"""Judge public implementations by the laws of hopmin.testing: `python -m benchmarks.conformance`.

Writes a matrix of implementations and laws, each failure with a program that shows it, as Markdown and JSON. Libraries
that are not installed are skipped, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from benchmarks._implementations import JUDGED, Judged
from hopmin.testing import Report, conformance
from hopmin.testing.conformance import Row
from hopmin.testing.registry import EXAMPLES, FAMILIES

MARKS = {"passed": "yes", "failed": "**no**", "skipped": "", "": ""}
LONGEST = 1500  # characters of a snippet that the page shows

# When a failure matters, as far as it is known: by implementation and law, the latter by its beginning.
MATTERS: dict[tuple[str, str], str] = {
    ("scikit-learn NearestNeighbors, brute", "law_nearest"):
        "It expands the square: small distances far from the origin.",
    ("scikit-learn NearestNeighbors, brute", "law_cosine"): "Vectors shorter than about 10 eps are not normalised.",
    ("PyTorch cdist", "law_nearest"): "Above 25 rows it expands the square: small distances far from the origin.",
    ("entmax", "law_entmax"):
        "At alpha = 1, where the bisection is not softmax; other orders are not affected by this.",
    ("JAX dot_product_attention", "law_attention"): "The error is that of float32, though the arguments are float64.",
}


def absent(judged: Judged) -> str:
    """Return why an implementation cannot be judged, or an empty string."""
    return "" if find_spec(judged.module) else f"{judged.distribution} is not installed"


def judge(judged: Judged, examples: int, seed: int) -> Report | str:
    """Return the report on an implementation, or why there is none."""
    options = {"examples": examples} | judged.options
    options["examples"] = min(examples, options["examples"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return conformance(judged.implementation, judged.family, seed=seed, **options)
    except Exception as error:  # an installed library that does not work, or not as it did
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of the distributions that are installed."""
    found = {}
    for name in sorted({*names, "hopmin", "numpy"}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def matrix(family: str, reports: dict[str, Report]) -> list[str]:
    """Return a table of the laws of a family, with a column for each implementation, without laws that all skip."""
    by_law = {
        law.__name__: [
            next(row.status for row in report.rows if row.law == law.__name__) for report in reports.values()
        ]
        for law in FAMILIES[family].laws
    }
    lines = [f"| {family} | " + " | ".join(reports) + " |", "| --- |" + " --- |" * len(reports)]
    for law, found in by_law.items():
        if set(found) != {"skipped"}:
            lines += [f"| `{law}` | " + " | ".join(MARKS[status] for status in found) + " |"]
    return lines


def failure(name: str, row: Row) -> list[str]:
    """Return a failure as Markdown: the statement, what was found, when it matters, and the snippet."""
    lines = ["", f"**{name}, `{row.law}`.** {' '.join(row.statement.split())}", ""]
    lines += [f"Found: {' '.join(row.message.split())[:400]}."]
    known = {text for (who, law), text in MATTERS.items() if name.startswith(who) and row.law.startswith(law)}
    lines += [f"*{text}*" for text in known if not row.law.endswith("_edges")]
    if len(row.snippet) > LONGEST:
        return [*lines, f"(The program has {len(row.snippet):,} characters; `--json` writes it.)"]
    return [*lines, "", "```python", row.snippet, "```"]


def page(reports: dict[str, Report], skipped: dict[str, str], found: dict[str, str], command: str) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Public implementations, judged by the laws", "",
        f"`{command}` wrote this page on {date.today()}, with", "",
        ", ".join(f"{name} {number}" for name, number in found.items()) + ".", "",
        "*yes*: the law held for all examples; ***no***: it did not, see below; empty: the law was skipped, because it",
        "is about a method that the implementation does not have, or a choice that it does not promise. Laws that all",
        "skip are left out. A failure is a fact about one input; often it matters at extremes only.",
        "[The chapter on laws](testing.md) explains laws, slacks and programs.",
    ]  # fmt: skip
    for family in FAMILIES:
        here = {name: report for name, report in reports.items() if report.family == family}
        if here:
            lines += ["", f"## {family}", "", *matrix(family, here)]
            for name, report in here.items():
                for row in report.failures:
                    lines += failure(name, row)
    if skipped:
        lines += ["", "## Not judged", "", *(f"- {name}: {reason}" for name, reason in skipped.items())]
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="examples of each law (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the examples (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only implementations whose name contains this")
    parser.add_argument("--quick", action="store_true", help="five examples: only checks that everything runs")
    parser.add_argument("--markdown", metavar="FILE", help="write the page here instead of printing it")
    parser.add_argument("--json", metavar="FILE", help="write all reports here")
    options = parser.parse_args(arguments)
    os.environ.setdefault("JAX_ENABLE_X64", "1")  # JAX has float64 only if it is asked for

    reports: dict[str, Report] = {}
    used = []
    skipped = {"hopfield-layers": "it returns neither energies nor the number of steps, which laws of retrieval need"}
    for judged in JUDGED:
        if options.only.lower() not in judged.name.lower():
            continue
        found = absent(judged) or judge(judged, 5 if options.quick else options.examples, options.seed)
        if isinstance(found, str):
            skipped[judged.name] = found
        else:
            reports[judged.name] = found
            used.append(judged.distribution)
        print(f"{judged.name}: {found if isinstance(found, str) else found.summary()}", file=sys.stderr, flush=True)

    installed = versions(used)
    command = "python -m benchmarks.conformance" + f" --examples {options.examples}" * (options.examples != EXAMPLES)
    text = page(reports, skipped, installed, command + f" --seed {options.seed}" * (options.seed != 0))
    if options.markdown:
        Path(options.markdown).write_text(text, encoding="utf-8")
    else:
        print(text)
    if options.json:
        record = {
            "schema": 1,
            "versions": installed,
            "skipped": skipped,
            "reports": {name: json.loads(report.to_json()) for name, report in reports.items()},
        }
        Path(options.json).write_text(json.dumps(record, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
