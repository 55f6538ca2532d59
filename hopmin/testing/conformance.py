"""Judge an implementation by all laws of its family: a report, or a pytest item for each law.

    from hopmin.testing import conformance
    print(conformance(my_softmax, "softmax"))

- a report, which never stops at the first failure [`conformance`, `Report`, `Row`]
- the same as a parametrized test [`conformance_tests`]
- one law at a time [`Bench`]
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import secrets
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hopmin._extras import needed_by
from hopmin._version import __version__
from hopmin.testing import compare
from hopmin.testing.adapters import Adapted, adapt, keeps
from hopmin.testing.families import subject
from hopmin.testing.registry import EXAMPLES, FAMILIES, Family, Law, NotJudged, Outcome, name_of, without_exit
from hopmin.testing.strategies import DTYPES, Array, only_dtypes

with needed_by("hopmin.testing", "testing"):
    import hypothesis

SCHEMA = 1
STATUSES = ("passed", "failed", "expected to fail", "unexpectedly passed", "skipped")
LONGEST_SNIPPET = 4000  # characters that a report prints; the JSON record has all
LONGEST_NOTE = 100  # characters in a table
HERE = (Path(__file__).parent, Path(__file__).parent / "laws", Path(hypothesis.__file__).parent)


@dataclass(frozen=True)
class Row:
    """The judgement of one law.

    Attributes
    ----------
    law : str
        Its name.
    status : str
        One of `STATUSES`.
    reason : str
        Why it was skipped, or why it was expected to fail.
    statement, source : str
        The law in words and symbols, with the error model that its slack comes from; and where the law comes from.
    seconds, examples : float, int
        Time taken, and number of examples run, including those of shrinking.
    seed : int or None
        Draws the same examples again; None if it was skipped.
    message : str
        What failed; empty if nothing did.
    left, right, slack : float or None
        The two numbers compared, and the slack between them; None if shapes, dtypes or bits differ, or an error was
        raised.
    instance : dict of str to str
        The smallest input found, each argument as a Python expression.
    snippet : str
        A program that shows the failure without Hypothesis.
    """

    law: str
    status: str
    reason: str = ""
    statement: str = ""
    source: str = ""
    seconds: float = 0.0
    examples: int = 0
    seed: int | None = None
    message: str = ""
    left: float | None = None
    right: float | None = None
    slack: float | None = None
    instance: Mapping[str, str] | None = None
    snippet: str = ""

    def describe(self) -> str:
        """Return the failure as text: the statement, the numbers, the smallest input, and a snippet."""
        title = f"{self.law}: {self.status}, seed {self.seed}"
        lines = [title, *(textwrap.indent(part, "    ") for part in (self.statement, self.message))]
        if self.left is not None:
            lines += [f"    left {self.left!r}, right {self.right!r}, slack {self.slack!r} (see the statement)"]
        shown = self.snippet
        if len(shown) > LONGEST_SNIPPET:
            shown = f"(a snippet of {len(shown):,} characters: Row.snippet, or to_json())"
        return "\n".join([*lines, "", textwrap.indent(shown, "    ")])


@dataclass(frozen=True)
class Report:
    """The judgement of an implementation, a row for each law of its family.

    `str(report)` is a table, with the details of each failure below it.

    Attributes
    ----------
    implementation, family : str
        What was judged, and as what.
    dtypes : tuple of str
        The dtypes that were drawn.
    tolerance, examples, seed
        As in `conformance`; the seed repeats the run.
    rows : tuple of Row
        In the order of the family's laws.
    """

    implementation: str
    family: str
    dtypes: tuple[str, ...]
    tolerance: float
    examples: int
    seed: int
    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """True if all laws held or failed as expected, and at least one was not skipped."""
        return not self.failures and any(row.status != "skipped" for row in self.rows)

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows of laws that failed, or passed though they were expected to fail."""
        return tuple(row for row in self.rows if row.status in ("failed", "unexpectedly passed"))

    def __str__(self) -> str:
        cells = [("law", "status", "examples", "seconds", ""), *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        table = [
            "  ".join(f"{c:{a}{w}}" for c, a, w in zip(line, "<<>><", widths, strict=True)).rstrip() for line in cells
        ]
        failed = [row.describe() for row in self.rows if row.status == "failed"]
        return "\n\n".join([self._title(), "\n".join(table), *failed, self.summary()])

    def to_markdown(self) -> str:
        """Return the report as a table in Markdown, with the snippets of failures below it."""
        lines = [
            f"**{self._title()}**",
            "",
            "| law | status | examples | seconds | |",
            "| --- | --- | ---: | ---: | --- |",
        ]
        lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in _cells(row)) + " |" for row in self.rows]
        for row in self.rows:
            if row.status == "failed":
                lines += ["", f"`{row.law}`: {' '.join(row.statement.split())}"]
                lines += ["", f"Found: {' '.join(row.message.split())}", "", "```python", row.snippet, "```"]
        return "\n".join([*lines, "", self.summary()])

    def to_json(self) -> str:
        """Return the report as JSON; docs/testing.md describes it. Numbers that are not finite are strings."""
        record = {
            "schema": SCHEMA,
            "hopmin": __version__,
            "numpy": np.__version__,
            "passed": self.passed,
            **asdict(self),
        }
        record["laws"] = record.pop("rows")
        return json.dumps(compare.mapped(_as_json, record), indent=1, allow_nan=False)

    def raise_if_failed(self) -> None:
        """Raise AssertionError with the report unless it `passed`."""
        if not self.passed:
            raise AssertionError(str(self))

    def _title(self) -> str:
        return f"{self.implementation} as {self.family}, {' and '.join(self.dtypes)}, seed {self.seed}"

    def summary(self) -> str:
        """Return how many laws have each status, as a line."""
        counts = [(sum(row.status == status for row in self.rows), status) for status in STATUSES]
        return ", ".join(f"{count} {status}" for count, status in counts if count) + f" of {len(self.rows)} laws"


def _cells(row: Row) -> tuple[str, ...]:
    note = row.message if row.status == "failed" else row.reason
    short = textwrap.shorten(note, LONGEST_NOTE, placeholder=" ...")
    return row.law, row.status, str(row.examples), f"{row.seconds:.2f}", short


def _as_json(value: Any) -> Any:
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def conformance(
    implementation: Any,
    family: str,
    *,
    dtype: str | Iterable[str] | None = None,
    tolerance: float = 1.0,
    examples: int = EXAMPLES,
    promises: Iterable[str] = (),
    expected_failures: Mapping[str, str] | Iterable[str] = (),
    seed: int | None = None,
    batched: bool = True,
) -> Report:
    """Judge an implementation by all laws of a family.

    A law that cannot judge it is skipped with a reason: a method is missing, a promise was not made, or the dtype is
    not one that the law draws.

    Parameters
    ----------
    implementation : object
        As the family's signature says; arrays may be those of NumPy, PyTorch, JAX or any array API.
    family : str
        One of `registry.FAMILIES`.
    dtype : str or iterable of str, optional
        float64, float32, float16, or bfloat16 alone; by default those of float64 and float32 that are kept.
    tolerance : float
        Multiplies the slack of every law.
    examples : int
        Number of examples of each law.
    promises : iterable of str
        Legal choices that the implementation makes, such as "ties" or "bits"; laws about others are skipped.
    expected_failures : iterable of str, or dict of str to str
        Names of laws that must fail, with reasons.
    seed : int, optional
        Repeats a run; by default a random one, which the report states, in continuous integration too.
    batched : bool
        False if the implementation is a function of one vector; see `adapters.one_by_one`.

    Returns
    -------
    Report

    Raises
    ------
    ValueError, TypeError
        If the family, a law, a promise or a dtype is unknown, or the implementation cannot be called as its family's
        signature says.

    Examples
    --------
    >>> import numpy as np
    >>> def naive(a, axis=None):
    ...     return np.log(np.exp(a).sum(axis))
    >>> report = conformance(naive, "logsumexp", seed=0)
    >>> report.passed
    False
    """
    _check_seed(seed)
    bench = Bench(
        implementation,
        family,
        dtype=dtype,
        tolerance=tolerance,
        examples=examples,
        promises=promises,
        expected_failures=expected_failures,
        batched=batched,
    )
    seed = secrets.randbits(32) if seed is None else seed
    rows = tuple(bench.judge(law, seed) for law in bench.family.laws)
    return Report(bench.name, family, bench.dtypes, float(tolerance), examples, seed, rows)


def conformance_tests(implementation: Any, family: str, **options: Any) -> Callable[[Law], None]:
    """Return a pytest function with an item for each law, named by it.

    Laws in `expected_failures` are expected to fail, strictly: a pass is an error. Skipped laws are skipped.

        test_mine = conformance_tests(my_softmax, "softmax", expected_failures={"law_accuracy": "float32 inside"})

    Parameters
    ----------
    implementation, family
        As for `conformance`.
    **options
        Of `conformance`. Without a seed, new examples are drawn after failures of earlier runs, which Hypothesis
        stores; a failure states the seed.

    Returns
    -------
    callable
        Assign it to a name that begins with `test`.
    """
    import pytest

    seed = _check_seed(options.pop("seed", None))
    bench = Bench(implementation, family, **options)

    def item(law: Law) -> Any:
        reason = bench.expected.get(law.__name__)
        marks = [] if reason is None else [pytest.mark.xfail(strict=True, reason=reason)]
        return pytest.param(law, id=law.__name__, marks=marks)

    @pytest.mark.parametrize("law", [item(law) for law in bench.family.laws])
    def test(law: Law) -> None:
        row = bench.judge(law, seed)
        if row.status == "skipped":
            pytest.skip(row.reason)
        if row.message:
            raise AssertionError(row.describe())

    test.__doc__ = f"{bench.name} conforms to the laws of {family}."
    return test


class Bench:
    """An implementation, adapted and ready to be judged by one law at a time.

    Parameters
    ----------
    implementation, family, dtype, tolerance, examples, promises, expected_failures, batched
        As for `conformance`.

    Attributes
    ----------
    name : str
        A name of the implementation, the same in every process.
    family : Family
        What it is judged as.
    dtypes : tuple of str
        The dtypes asked for that it keeps.
    expected : dict of str to str
        Laws that must fail, with reasons.
    """

    def __init__(
        self,
        implementation: Any,
        family: str,
        *,
        dtype: str | Iterable[str] | None = None,
        tolerance: float = 1.0,
        examples: int = EXAMPLES,
        promises: Iterable[str] = (),
        expected_failures: Mapping[str, str] | Iterable[str] = (),
        batched: bool = True,
    ) -> None:
        if family not in FAMILIES:
            raise ValueError(f"family must be one of {', '.join(FAMILIES)}; got {family!r}")
        self.family: Family = FAMILIES[family]
        if isinstance(expected_failures, str) or isinstance(promises, str):
            raise TypeError("expected_failures and promises must be collections of names; got a str")
        if not isinstance(expected_failures, Mapping):
            expected_failures = dict.fromkeys(expected_failures, "")
        self.expected = dict(expected_failures)
        self.promises = tuple(promises)
        laws = [law.__name__ for law in self.family.laws]
        _check_names("expected_failures", self.expected, laws, f"laws of {family}")
        known = sorted({promise for each in FAMILIES.values() for law in each.laws for promise in law.promises})
        _check_names("promises", self.promises, known, "those that laws are about")
        if not tolerance > 0:
            raise ValueError(f"tolerance must be positive; got {tolerance}")
        if not (isinstance(examples, int) and examples > 0):
            raise ValueError(f"examples must be a positive integer; got {examples!r}")
        self.asked = _dtypes(dtype)
        self.implementation, self.name, self.batched = implementation, name_of(implementation), batched
        self.tolerance, self.examples = tolerance, examples
        with only_dtypes(*self.asked or DTYPES[:2]), np.errstate(all="ignore"):
            try:
                self.adapted, self.made = adapt(implementation, self.family, batched=batched)
            except SystemExit as error:
                raised = f"its call raises SystemExit: {error.code}"
                raise TypeError(f"implementation must be {self.family.signature}; got {self.name}: {raised}") from None
        kept = [name for name in self.asked or DTYPES[:2] if keeps(self.adapted, name)]
        if not kept or (self.asked and len(kept) < len(self.asked)):
            able = ", ".join(name for name in DTYPES if keeps(self.adapted, name))
            asked = " and ".join(self.asked or DTYPES[:2])
            raise ValueError(f"dtype must be one that {self.name} keeps: {able}; got {asked}")
        self.dtypes = tuple(kept)

    def judge(self, law: Law, seed: int | None = None, *, shrink: bool = True) -> Row:
        """Judge by one law.

        Parameters
        ----------
        law : Law
            One of the family.
        seed : int, optional
            By default Hypothesis chooses the examples.
        shrink : bool
            Whether to look for a smaller input after a failure.

        Returns
        -------
        Row
        """
        name = law.__name__
        row = Row(name, "skipped", statement=inspect.cleandoc(law.__doc__ or ""), source=law.source)
        parts, expressions, missing = self._parts(law)
        if missing:
            return replace(row, reason=missing)
        started = time.perf_counter()
        with ExitStack() as stack:
            stack.enter_context(only_dtypes(*self.dtypes))
            stack.enter_context(compare.tolerance(self._factor()))
            stack.enter_context(np.errstate(all="ignore"))
            outcome = law.examine(*parts, examples=self.examples, seed=seed, shrink=shrink)
            if isinstance(outcome.error, NotJudged):
                return replace(row, reason=str(outcome.error))
            seconds, reason = time.perf_counter() - started, self.expected.get(name)
            status = _status(outcome.error is not None, reason is not None)
            row = replace(row, status=status, reason=reason or "", seconds=seconds)
            row = replace(row, examples=outcome.examples, seed=outcome.seed)
            return row if outcome.error is None else self._with_failure(row, law, outcome, parts, expressions)

    def _factor(self) -> float:
        """Return what multiplies slacks: those of float32 are 2**16 times too narrow for bfloat16."""
        return self.tolerance * (2**16 if self.dtypes == ("bfloat16",) else 1)

    def _parts(self, law: Law) -> tuple[tuple[Any, ...], list[str], str]:
        """Return the parts that a law takes, Python expressions of them, and a reason if one is missing."""
        for promise in law.promises:
            if promise not in self.promises:
                return (), [], f"{promise!r} is not promised"
        for need in law.needs:
            if not hasattr(self.made, need):
                return (), [], f"there is no method {need}"
        parts, expressions = [], []
        for part in law.parts:
            if part == self.family.subject:
                parts.append(subject(self.adapted, part))
                attribute = hasattr(self.adapted, part)
            elif attribute := hasattr(self.adapted, part):
                parts.append(getattr(self.adapted, part))
            else:
                return (), [], f"the implementation has no attribute {part}"
            expressions.append(f"implementation.{part}" if attribute else "implementation")
        return tuple(parts), expressions, ""

    def _with_failure(
        self, row: Row, law: Law, outcome: Outcome, parts: tuple[Any, ...], expressions: list[str]
    ) -> Row:
        error = outcome.error
        message = str(error) if isinstance(error, AssertionError) else _raised(error)
        if not outcome.steady:
            message += "; called again with the same input, it held: the implementation is not deterministic"
        instance = {name: literal(value) for name, value in outcome.instance.items()}
        numbers: dict[str, Any] = {name: getattr(error, name, None) for name in ("left", "right", "slack")}
        kinds = {kind.__name__: kind for kind in _named_tuples(outcome.instance)}
        snippet = self._snippet(law, instance, expressions, kinds, numbers["left"] is not None) if instance else ""
        if instance and not _fails(law, parts, instance, kinds):
            snippet += "\n# It needs a memory layout, an object or an earlier call that is not shown here."
        return replace(row, message=message or repr(error), instance=instance, snippet=snippet, **numbers)

    def _snippet(
        self, law: Law, instance: Mapping[str, str], expressions: list[str], kinds: Mapping[str, type], numbers: bool
    ) -> str:
        arguments = [*expressions, *(f"{name}={value}" for name, value in instance.items())]
        own = law.statement.__module__.partition(".")[0] != "hopmin"
        public = ["Violation"] * numbers + [law.__name__] * (not own) + [name for name in kinds if name == "Problem"]
        lines = ["import numpy as np"]
        lines += [f"from hopmin.testing import {', '.join(public)}"] if public else []
        lines += _import_law(law) if own else []
        lines += [f"from {kind.__module__} import {name}" for name, kind in kinds.items() if name not in public]
        lines += _import(self.implementation)
        if isinstance(self.adapted, Adapted) or not self.batched:
            lines += ["from hopmin.testing import adapters, registry"]
            family = f"registry.FAMILIES[{self.family.name!r}]"
            lines += [f"implementation, _ = adapters.adapt(implementation, {family}, batched={self.batched})"]
        inside = []
        if self._factor() != 1:
            lines += ["from hopmin.testing.compare import tolerance"]
            inside += [f"tolerance({self._factor()!r})"]
        if self.dtypes == ("bfloat16",):
            lines += ["from hopmin.testing.strategies import only_dtypes"]
            inside += ["only_dtypes('bfloat16')"]
        call = [f"{law.__name__}.statement(", *(f"    {argument}," for argument in arguments), ")"]
        if len(call) > 6:
            call = [f"{law.__name__}.statement({', '.join(arguments)})"]
        if inside:
            call = [f"with {', '.join(inside)}:", *(f"    {line}" for line in call)]
        if numbers:
            call = ["try:", *(f"    {line}" for line in call), "except Violation as found:"]
            call += ["    print(found)"]
        return "\n".join([*lines, "", *call])


def _raised(error: BaseException | None) -> str:
    """Return an exception as a sentence, with the last line of the implementation that it passed."""
    frames = traceback.extract_tb(error.__traceback__) if error else []
    own = [(path, frame.lineno) for frame in frames if (path := Path(frame.filename)).parent not in HERE]
    lines = [f"{path.name}, line {line}" for path, line in own if path.parent == own[0][0].parent]
    return f"raises {type(error).__name__}: {error}{f' ({lines[-1]})' if lines else ''}"


def _named_tuples(value: Any) -> Iterator[type]:
    """Yield the types of named tuples in nested containers."""
    if hasattr(value, "_fields"):
        yield type(value)
    if isinstance(value, dict):
        value = value.values()
    if not isinstance(value, np.ndarray | str) and isinstance(value, Iterable):
        for part in value:
            yield from _named_tuples(part)


def _fails(law: Law, parts: tuple[Any, ...], instance: Mapping[str, str], kinds: Mapping[str, type]) -> bool:
    """Return whether the law fails on an instance written as Python expressions, as the snippet has it."""
    try:
        arguments = {name: eval(value, {"np": np, **kinds}) for name, value in instance.items()}
    except (SyntaxError, NameError):  # an object that no expression makes
        return False
    try:
        without_exit(law.statement, *parts, **arguments)
    except Exception:  # whatever an implementation raises
        return True
    return False


def _status(failed: bool, expected: bool) -> str:
    if expected:
        return "expected to fail" if failed else "unexpectedly passed"
    return "failed" if failed else "passed"


def _check_names(argument: str, given: Iterable[str], known: Iterable[str], what: str) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{argument} must be {what}: {', '.join(known) or 'none'}; got {name!r}")


def _dtypes(dtype: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of the dtypes asked for, none for the default."""
    if dtype is None:
        return ()
    given = [dtype] if isinstance(dtype, str | type | np.dtype) else list(dtype)
    names = tuple(name if isinstance(name, str) else np.dtype(name).name for name in given)
    if not names or not set(names) <= set(DTYPES) or ("bfloat16" in names and len(names) > 1):
        raise ValueError(f"dtype must be of {', '.join(DTYPES[:3])}, or bfloat16 alone; got {dtype!r}")
    return names


def _check_seed(seed: Any) -> int | None:
    if seed is not None and not (isinstance(seed, int) and seed >= 0):
        raise ValueError(f"seed must be a non-negative integer; got {seed!r}")
    return seed


def _import(implementation: Any) -> list[str]:
    """Return the lines that make `implementation` a name, or a comment that asks for them."""
    if inspect.ismodule(implementation):
        return [f"import {implementation.__name__} as implementation"]
    function = implementation.func if isinstance(implementation, functools.partial) else implementation
    module = getattr(function, "__module__", None) or type(function).__module__
    known = vars(sys.modules[module]) if module in sys.modules else {}
    for name in (getattr(function, "__qualname__", ""), *list(known)):
        if _attribute(known, name) is implementation:
            if module == "__main__":
                return [f"implementation = {name}  # define it above"]
            if "." in name:
                return [f"import {module}", f"implementation = {module}.{name}"]
            return [f"from {module} import {name} as implementation"]
    return [f"implementation = ...  # put yours here: {name_of(implementation)}"]


def _import_law(law: Law) -> list[str]:
    """Return the line that imports a law of one's own, or a comment that asks for it."""
    name, module = law.__name__, law.statement.__module__
    if _attribute(vars(sys.modules[module]) if module in sys.modules else {}, name) is not law:
        return [f"{name} = ...  # put yours here: {module}.{law.statement.__qualname__}"]
    return [f"# {name}: define it above" if module == "__main__" else f"from {module} import {name}"]


def _attribute(known: Mapping[str, Any], path: str) -> Any:
    """Return what a dotted name stands for among the names known, or None."""
    first, *rest = path.split(".")
    return functools.reduce(lambda found, name: getattr(found, name, None), rest, known.get(first))


def literal(value: Any) -> str:
    """Return a Python expression of a value, exact to the last bit; NumPy is called np.

    >>> literal(np.array([0.1, np.inf], np.float32))
    "np.array([0.1, np.inf], 'float32')"
    """
    match value:
        case np.ndarray():
            return _array(value)
        case np.generic():
            return f"np.{value.dtype.type.__name__}({_number(value)})"
        case float():
            return _number(np.float64(value))
        case tuple() if hasattr(value, "_fields"):
            parts = ", ".join(f"{name}={literal(getattr(value, name))}" for name in value._fields)
            return f"{type(value).__name__}({parts})"
        case list() | tuple():
            inside = ", ".join(map(literal, value))
            return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' * (len(value) == 1)})"
        case dict():
            return "{" + ", ".join(f"{name!r}: {literal(part)}" for name, part in value.items()) + "}"
    return repr(value)


def _array(a: Array) -> str:
    dtype = repr(a.dtype.name if a.dtype.isnative else a.dtype.str)
    if not a.size:
        return f"np.zeros({a.shape}, {dtype})"
    flat = a.ravel()
    if a.size > 8 and (flat.view(f"V{a.itemsize}") == flat.view(f"V{a.itemsize}")[0]).all():
        return f"np.full({a.shape}, {_number(flat[0])}, {dtype})"

    def nested(part: Array) -> str:
        return _number(part[()]) if part.ndim == 0 else "[" + ", ".join(map(nested, part)) + "]"

    return f"np.array({nested(np.asarray(a))}{'' if a.dtype == np.float64 and a.dtype.isnative else ', ' + dtype})"


def _number(value: Any) -> str:
    """Return a NumPy number: the shortest decimals that give the same bits."""
    if value.dtype.kind != "f":
        return repr(value.item())
    if not np.isfinite(value):
        return {"inf": "np.inf", "-inf": "-np.inf"}.get(str(value), "np.nan")
    short = str(value.astype(value.dtype.newbyteorder("=")))
    return short if value.dtype.type(float(short)) == value else repr(float(value))
