"""The registry: laws belong to families, know their parts, and can be run with a seed or on one instance."""

import inspect

import helpers
import numpy as np
import pytest
import tables
from hypothesis import strategies as st

from hopmin import testing
from hopmin.testing import registry
from hopmin.testing.compare import at_most
from hopmin.testing.registry import FAMILIES, law

LAWS = {law.__name__: law for family in FAMILIES.values() for law in family.laws}


@pytest.fixture
def positive():
    """A law that belongs to no family."""

    @law(x=st.integers(0, 1000))
    def law_positive(function, /, x):
        """f(x) is positive."""
        at_most(1, function(x), 0, "f(x)")

    return law_positive


def test_every_law_states_an_equation_and_is_public():
    for name, each in LAWS.items():
        assert inspect.getdoc(each).endswith("."), name
        assert name.startswith("law_")
        assert getattr(testing, name) is each
        assert name in testing.__all__


def test_a_law_is_listed_once_in_each_of_its_families():
    for family in FAMILIES.values():
        names = [each.__name__ for each in family.laws]
        assert len(set(names)) == len(names)
        assert all(family.name in each.families for each in family.laws)


def test_the_parts_of_a_law_are_positional_only(positive):
    assert positive.parts == ("function",)
    assert list(inspect.signature(positive).parameters) == ["function", "examples", "seed"]
    assert list(inspect.signature(positive.statement).parameters) == ["function", "x"]


def test_a_law_reports_the_smallest_instance(positive):
    outcome = positive.examine(lambda x: 500 - x)
    assert outcome.instance == {"x": 500}
    assert outcome.error.left == 1
    with pytest.raises(AssertionError):
        positive(lambda x: 500 - x)


def test_the_number_of_examples_is_that_asked_for(positive):
    assert positive.examine(lambda x: 1, examples=17).examples == 17


def test_a_seed_repeats_the_examples(positive):
    def drawn(seed):
        seen = []
        positive(lambda x: seen.append(x) or 1, examples=20, seed=seed)
        return seen

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_a_statement_takes_one_instance(positive):
    positive.statement(np.exp, x=3)


def stated(softmax, /, x):
    """A statement."""


def test_a_law_that_cannot_be_judged_is_refused():
    def without_docstring(softmax, /, x):
        pass

    def without_parts(softmax, x):
        """A statement."""

    def law_softmax(softmax, /, x):
        """Another statement than hopmin's."""

    x = st.integers()
    refused = {
        "needs and promises must be tuples of names; got a str": (TypeError, stated, {"x": x, "needs": "foo"}),
        "needs and promises must be tuples": (TypeError, stated, {"x": x, "promises": "bar"}),
        "x must be a search strategy or a function that returns one; got 3": (TypeError, stated, {"x": 3}),
        "a parameter, after /, for each strategy; y has none": (ValueError, stated, {"x": x, "y": x}),
        "a strategy for each parameter after /; x has none": (ValueError, stated, {}),
        "without_docstring must have a docstring": (ValueError, without_docstring, {"x": x}),
        "without_parts must have a positional-only parameter": (ValueError, without_parts, {"x": x}),
        "law_softmax must be a new name; hopmin.testing.laws.numerics has": (ValueError, law_softmax, {"x": x}),
    }
    for sentence, (error, statement, options) in refused.items():
        assert sentence in helpers.error_message(error, lambda s=statement, o=options: law("softmax", **o)(s))
    assert "families of a law must be of logsumexp, " in helpers.error_message(ValueError, law, "soft", x=x)
    assert testing.law_softmax in FAMILIES["softmax"].laws


def test_a_law_that_is_defined_again_replaces_itself():
    before = list(FAMILIES["softmax"].laws)
    try:
        first, second = (law("softmax", x=st.integers())(stated) for _ in range(2))
        assert FAMILIES["softmax"].laws == [*before, second]
        assert first is not second
    finally:
        FAMILIES["softmax"].laws[:] = before
        registry.LAWS.pop("stated")


def test_the_chapter_lists_the_laws_of_the_registry():
    """Otherwise: python tests/testing/tables.py."""
    chapter = tables.CHAPTER.read_text(encoding="utf-8")
    assert tables.with_laws(chapter) == chapter
    assert tables.laws_table() in chapter
