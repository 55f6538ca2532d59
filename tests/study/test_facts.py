"""Invented facts are about different people, and their paraphrases end with the same object."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopmin.study.facts import RELATIONS, facts


@given(count=st.integers(1, 200), objects=st.integers(1, 30), seed=st.integers(0, 5))
def test_facts_are_about_different_people(count, objects, seed):
    found = facts(count, objects=objects, seed=seed)
    names = {tuple(t for t in prompts[0] if found.words[t].startswith(("first", "last"))) for prompts in found.prompts}
    assert len(names) == count
    assert all(len(name) == 2 for name in names)
    assert all(o in found.choices[r] for r, o in zip(found.relations, found.objects, strict=True))
    assert len(set(found.words)) == len(found.words)


def test_paraphrases_state_the_same_fact():
    found = facts(9, seed=1)
    every = np.repeat(np.arange(9), 3)
    rows = found.rows(every, np.tile(np.arange(3), 9))
    for row, i in zip(rows, every, strict=True):
        tokens = row[row >= 0]
        assert found.words[tokens[0]] == "<start>"
        assert tokens[-1] == found.objects[i]
    assert len({tuple(row) for row in rows}) == 27


def test_facts_are_reproducible_and_differ_between_seeds():
    assert np.array_equal(facts(20, seed=1).objects, facts(20, seed=1).objects)
    assert facts(20, seed=1).prompts != facts(20, seed=2).prompts
    assert facts(20, seed=1).words == facts(20, seed=2).words


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_relation_has_three_sentences_about_a_person(relation):
    assert len(relation) == 3
    assert all(sentence.count("{}") == 1 for sentence in relation)
