"""The registry of families and laws: what an implementation is judged as, and by which statements.

A family says how an implementation is called; a law belongs to one or more families. Everything that lists laws
(`conformance`, the table in the docs, the tests of hopmin) reads them from here.
"""

from __future__ import annotations

import copy
import functools
import inspect
import secrets
import unittest
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from hopmin._extras import needed_by
from hopmin.testing.compare import mapped
from hopmin.testing.strategies import asked_dtypes, rounded_to_bfloat16

with needed_by("hopmin.testing", "testing"):
    import hypothesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

FAMILIES: dict[str, Family] = {}
LAWS: dict[str, Law] = {}
EXAMPLES = 100
# Machines differ in speed, so there is no deadline; only one failure is reported.
SETTINGS: dict[str, Any] = {"deadline": None, "report_multiple_bugs": False, "suppress_health_check": list(HealthCheck)}


@dataclass(frozen=True)
class Family:
    """A kind of implementation, and the laws that judge it.

    Attributes
    ----------
    name : str
        The name that `conformance` takes.
    subject : str
        The parameter of a law that stands for the implementation itself.
    signature : str
        How the implementation is called, as error messages show it.
    description : str
        What the implementation does, and which further attributes or methods are judged if it has them.
    probe : callable
        Calls the implementation on the smallest input and returns the object whose methods the laws need.
    laws : list of Law
        In the order in which they are judged.
    """

    name: str
    subject: str
    signature: str
    description: str
    probe: Callable[[Any], Any]
    laws: list[Law] = field(default_factory=list)


class Outcome(NamedTuple):
    """The outcome of a law.

    Attributes
    ----------
    examples : int
        Number of examples run.
    error : Exception or None
        What was raised for the smallest failing instance.
    instance : dict of str to object
        That instance, as it was before the call; empty if the law held.
    seed : int
        Repeats the examples.
    steady : bool
        False if the same instance failed once and passed once.
    """

    examples: int
    error: Exception | None
    instance: dict[str, Any]
    seed: int
    steady: bool = True


class NotJudged(unittest.SkipTest):
    """A law cannot judge this implementation; Hypothesis ends it at once, without a failure."""


class Law(Protocol):
    """A law: call it with an implementation, or call its `statement` with an implementation and one instance.

    Attributes
    ----------
    statement : callable
        Takes the implementation's parts, positional only, and one instance; raises AssertionError.
    parts : tuple of str
        The names of the positional-only parameters.
    families : tuple of str
        The families that the law belongs to.
    needs : tuple of str
        Methods that the implementation must have; without them the law is skipped.
    promises : tuple of str
        Legal choices that the law is about, such as "ties" or "bits"; it is skipped unless they are promised.
    source : str
        Where the statement, or the mistake that it catches, comes from.
    """

    __name__: str
    statement: Callable[..., None]
    parts: tuple[str, ...]
    families: tuple[str, ...]
    needs: tuple[str, ...]
    promises: tuple[str, ...]
    source: str
    examine: Callable[..., Outcome]

    def __call__(self, *implementation: Any, examples: int = EXAMPLES, seed: int | None = None) -> None:
        """Raise AssertionError if the implementation fails on one of the drawn examples."""


def family(name: str, signature: str, description: str, *, probe: Callable[[Any], Any], subject: str = "") -> Family:
    """Register a family.

    Parameters
    ----------
    name, signature, description, probe
        See `Family`.
    subject : str
        The parameter of a law that stands for the implementation; by default the name of the family.

    Returns
    -------
    Family
    """
    FAMILIES[name] = Family(name, subject or name, signature, inspect.cleandoc(description), probe)
    return FAMILIES[name]


def name_of(implementation: Any) -> str:
    """Return a name of an implementation that is the same in every process.

    >>> name_of(functools.partial(np.sum, axis=0))
    'numpy.sum'
    """
    while isinstance(implementation, functools.partial):
        implementation = implementation.func
    name = getattr(implementation, "__qualname__", None) or getattr(implementation, "__name__", None)
    module = getattr(implementation, "__module__", None) if name else type(implementation).__module__
    name = name or type(implementation).__qualname__
    return name if module in (None, "__main__", "builtins") else f"{module}.{name}"


def _in_the_asked_dtypes(value: Any) -> Any:
    """Return a leaf of an instance, rounded if bfloat16 is judged; refuse an array of float64 if that is not."""
    if isinstance(value, np.ndarray):
        if value.dtype == np.float64 and "float64" not in asked_dtypes():
            raise NotJudged("its instances are of float64")
        if value.dtype == np.float32 and asked_dtypes() == ("bfloat16",):
            return rounded_to_bfloat16(value)
    return value


def without_exit(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function; if it raises SystemExit, raise a RuntimeError instead, which does not end the run.

    Parameters
    ----------
    function : callable
    *arguments, **options
        Passed to the function.

    Returns
    -------
    object
        What the function returns.

    Raises
    ------
    RuntimeError
        If the function raises SystemExit.
    """
    try:
        return function(*arguments, **options)
    except SystemExit as error:
        raise RuntimeError(f"the implementation raised SystemExit({error.code!r})").with_traceback(
            error.__traceback__
        ) from None


def _checked_parts(statement: Callable[..., None], drawn: Iterable[str]) -> list[inspect.Parameter]:
    """Return the positional-only parameters of a statement that can be a law."""
    name, parameters = statement.__name__, inspect.signature(statement).parameters.values()
    taken = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not taken:
        raise ValueError(f"{name} must have a positional-only parameter, before /, that stands for the implementation")
    if unknown := [each for each in drawn if each not in named]:
        raise ValueError(f"{name} must have a parameter, after /, for each strategy; {', '.join(unknown)} has none")
    if missing := [each for each, p in named.items() if p.default is p.empty and each not in drawn]:
        raise ValueError(f"{name} must have a strategy for each parameter after /; {', '.join(missing)} has none")
    if not (statement.__doc__ or "").strip():
        raise ValueError(f"{name} must have a docstring, which states the law")
    if name in LAWS and not _origins(statement) & _origins(LAWS[name].statement):
        raise ValueError(f"{name} must be a new name; {LAWS[name].statement.__module__} has a law of that name")
    return taken


def _origins(statement: Callable[..., None]) -> set[tuple[str, str]]:
    """Return where a statement is defined: its name in its module, and in its file, which may be run as __main__."""
    file = statement.__code__.co_filename if inspect.isfunction(statement) else statement.__module__
    return {(place, statement.__qualname__) for place in (statement.__module__, file)}


def law(
    *families: str,
    needs: tuple[str, ...] = (),
    promises: tuple[str, ...] = (),
    source: str = "",
    **drawn: st.SearchStrategy[Any] | Callable[..., st.SearchStrategy[Any]],
) -> Callable[[Callable[..., None]], Law]:
    """Make a law of a statement, and add it to its families.

    The statement's positional-only parameters are the implementation's parts, the others are drawn.

    Parameters
    ----------
    *families : str
        Names of registered families.
    needs, promises, source
        See `Law`.
    **drawn : search strategy, or function that returns one
        Draws each parameter that is not positional only. A function is called with the implementation's parts.

    Returns
    -------
    callable
        A decorator, which returns a `Law`.

    Raises
    ------
    ValueError, TypeError
        If a family is unknown, the statement's parameters are not those drawn, it has no docstring or no
        positional-only parameter, or its name is that of another law. The same statement, defined again as when its
        module is reloaded, replaces the law.
    """
    if isinstance(needs, str) or isinstance(promises, str):
        raise TypeError("needs and promises must be tuples of names; got a str")
    for name in families:
        if name not in FAMILIES:
            raise ValueError(f"families of a law must be of {', '.join(FAMILIES)}; got {name!r}")
    for name, made in drawn.items():
        if not (isinstance(made, st.SearchStrategy) or callable(made)):
            raise TypeError(f"{name} must be a search strategy or a function that returns one; got {made!r}")

    def decorate(statement: Callable[..., None]) -> Law:
        taken = _checked_parts(statement, drawn)

        def examine(*parts: Any, examples: int = EXAMPLES, seed: int | None = None, shrink: bool = True) -> Outcome:
            # Made here, because settings may be changed after the import. A seed alone decides what is drawn, without
            # the failures of earlier runs.
            phases = [phase for phase in Phase if phase is not Phase.explain and (shrink or phase is not Phase.shrink)]
            options: dict[str, Any] = {"max_examples": examples, "phases": phases} | SETTINGS
            if seed is None:
                seed = secrets.randbits(32)
            else:
                options["database"] = None
            ran, failing, raised = 0, {}, None

            def holds(**instance: Any) -> None:
                nonlocal ran, failing, raised
                instance = mapped(_in_the_asked_dtypes, instance)
                ran += 1
                kept = copy.deepcopy(instance)  # an implementation may change its arguments
                try:
                    without_exit(statement, *parts, **instance)
                except Exception as error:
                    failing, raised = kept, error
                    raise

            # Hypothesis stores failures by source and signature: each law and implementation has its own.
            holds.__name__ = statement.__name__
            holds.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
                [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in drawn],
                return_annotation=f"{statement.__name__} of {name_of(parts[0])}",
            )
            try:
                strategies = {
                    name: made if isinstance(made, st.SearchStrategy) else without_exit(made, *parts)
                    for name, made in drawn.items()
                }
                seeded = hypothesis.seed(seed)(given(**strategies)(holds))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", hypothesis.errors.HypothesisWarning)  # such as that of a large repr
                    settings(**options)(seeded)()  # outside, because a seed switches the database off
            except hypothesis.errors.Flaky:
                return Outcome(ran, raised, failing, seed, steady=False)
            except Exception as error:
                return Outcome(ran, error, failing, seed)
            return Outcome(ran, None, {}, seed)

        @functools.wraps(statement)
        def judge(*parts: Any, examples: int = EXAMPLES, seed: int | None = None) -> None:
            outcome = examine(*parts, examples=examples, seed=seed)
            if outcome.error is not None:
                outcome.error.add_note(f"These examples are drawn again with seed={outcome.seed}.")
                raise outcome.error

        keyword = inspect.Parameter.KEYWORD_ONLY
        options = [
            inspect.Parameter("examples", keyword, default=EXAMPLES),
            inspect.Parameter("seed", keyword, default=None),
        ]
        judge.__signature__ = inspect.Signature([*taken, *options])  # type: ignore[attr-defined]
        made = cast(Law, judge)
        made.statement, made.examine, made.parts = statement, examine, tuple(p.name for p in taken)
        made.families, made.needs, made.promises, made.source = families, tuple(needs), tuple(promises), source
        for each in FAMILIES.values():
            each.laws[:] = [law for law in each.laws if law.__name__ != statement.__name__]
        LAWS[statement.__name__] = made
        for name in dict.fromkeys(families):
            FAMILIES[name].laws.append(made)
        return made

    return decorate
