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
from collections.abc import Callable
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
    """

    def decorate(statement: Callable[..., None]) -> Law:
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
                    statement(*parts, **instance)
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
                    name: made if isinstance(made, st.SearchStrategy) else made(*parts) for name, made in drawn.items()
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

        taken = [p for p in inspect.signature(statement).parameters.values() if p.kind is p.POSITIONAL_ONLY]
        keyword = inspect.Parameter.KEYWORD_ONLY
        options = [
            inspect.Parameter("examples", keyword, default=EXAMPLES),
            inspect.Parameter("seed", keyword, default=None),
        ]
        judge.__signature__ = inspect.Signature([*taken, *options])  # type: ignore[attr-defined]
        made = cast(Law, judge)
        made.statement, made.examine, made.parts = statement, examine, tuple(p.name for p in taken)
        made.families, made.needs, made.promises, made.source = families, needs, promises, source
        LAWS[statement.__name__] = made
        for name in families:
            FAMILIES[name].laws.append(made)
        return made

    return decorate
