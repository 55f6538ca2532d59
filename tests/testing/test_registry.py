"""The registry: laws belong to families, know their parts, and can be run with a seed or on one instance."""

import inspect

import numpy as np
import pytest
import tables
from hypothesis import strategies as st

from hopmin import testing
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


def test_the_chapter_lists_the_laws_of_the_registry():
    """Otherwise: python tests/testing/tables.py."""
    chapter = tables.CHAPTER.read_text(encoding="utf-8")
    assert tables.with_laws(chapter) == chapter
    assert tables.laws_table() in chapter
