"""Question Formation: the grammar as published, its entropy compared with counting and sampling, and its rows."""

import itertools
import math
from typing import get_args

import numpy as np
import pytest
from helpers import error_message
from hypothesis import given
from hypothesis import strategies as st

from hopmin.data import question_formation as module
from hopmin.data.question_formation import END, MIXES, Grammar, Mix, question_formation, question_grammar

AUXILIARIES = ("do", "does", "don't", "doesn't")
RELATIVES = ("who", "that")


@pytest.fixture(scope="module")
def questions():
    return question_formation(3000, dev=200, test=500, generalization=300)


@pytest.fixture(scope="module")
def splits(questions):
    """The rows of each split as (input words, task, output words)."""

    def parsed(row):
        first, *words, last = questions.tokenizer.decode(row).split()
        assert (first, last) == (END, END)
        stop = words.index(".")
        return words[:stop], words[stop + 1], words[stop + 2 :]

    return {name: [parsed(row) for row in rows] for name, rows in questions.splits.items()}


# Sentences parsed without the grammar: a relative clause has one auxiliary, so the main one is the first or second.


def has_clause(words):
    return words[2] in RELATIVES


def auxiliaries(words):
    return [i for i, word in enumerate(words) if word in AUXILIARIES]


def main_auxiliary(words):
    return auxiliaries(words)[1 if has_clause(words) else 0]


def test_the_vocabulary_is_68_words_and_end(questions):
    words = questions.tokenizer.symbols
    assert len(words) == 69
    assert words[0] == END
    assert {".", "?", "decl", "quest", "high_five", "walruses", "tyrannosauruses", "newts"} < set(words)
    assert not any("^" in word for word in words)


def test_the_lexicon_has_its_published_sizes():
    rules = question_grammar().rules
    sizes = {symbol: len(rules[symbol]) for symbol in ("Det", "N_S", "N_P", "V_intrans", "V_trans", "Prep", "Rel")}
    assert sizes == {"Det": 6, "N_S": 13, "N_P": 13, "V_intrans": 9, "V_trans": 9, "Prep": 8, "Rel": 2}
    for symbol in (*sizes, "N", "Aux_S", "Aux_P", "Main_S", "Main_P", "Object"):
        assert len({p for p, _ in rules[symbol]}) == 1  # uniform in every slot
    assert {side[0] for _, side in rules["Aux_S"]} == {"does", "doesn't"}
    assert {side[0] for _, side in rules["Aux_P"]} == {"do", "don't"}


def structure(grammar, symbol):
    """Return the right-hand sides of a symbol and their probabilities, in thousandths."""
    return {" ".join(side): round(1000 * p) for p, side in grammar.rules[symbol]}


@pytest.mark.parametrize("x", ["S", "P"])
def test_published_weights_are_those_of_the_grammar(x):
    grammar = question_grammar("published")
    assert structure(grammar, f"Subject_{x}") == {f"Plain_{x}": 667, f"Det N_{x} Subject_clause_{x}": 333}
    assert structure(grammar, f"Plain_{x}") == {f"Det N_{x}": 500, f"Det N_{x} Prep Det N": 500}
    assert structure(grammar, f"VP_{x}") == {f"Main_{x} V_intrans": 500, f"Main_{x} V_trans Object": 500}
    assert set(structure(grammar, f"Object_{x}").values()) == {333}
    for role in ("Subject", "Object"):
        assert structure(grammar, f"{role}_clause_{x}") == {
            f"Rel Aux_{x} V_intrans": 333,
            "Rel Det N_S Aux_S V_trans": 167,
            "Rel Det N_P Aux_P V_trans": 167,
            f"Rel Aux_{x} V_trans Det N": 333,
        }


@pytest.mark.parametrize("x", ["S", "P"])
def test_released_weights_are_those_of_the_files(x):
    grammar = question_grammar("released")
    assert structure(grammar, f"Subject_{x}") == {f"Plain_{x}": 710, f"Det N_{x} Subject_clause_{x}": 290}
    assert structure(grammar, f"Plain_{x}") == {f"Det N_{x}": 704, f"Det N_{x} Prep Det N": 296}
    assert structure(grammar, f"VP_{x}") == {f"Main_{x} V_intrans": 220, f"Main_{x} V_trans Object": 780}
    assert list(structure(grammar, f"Object_{x}").values()) == [300, 300, 400]
    assert list(structure(grammar, f"Subject_clause_{x}").values()) == [250, 255, 255, 240]
    assert list(structure(grammar, f"Object_clause_{x}").values()) == [520, 120, 120, 240]


def test_every_sentence_that_allows_it_can_be_a_question():
    # half of all sentences are drawn as questions, but none with a clause in the subject is kept: 1 to 2/3, or 3 to 2
    assert structure(question_grammar("published"), "ROW") == {"DECL . decl": 600, "QUEST . quest": 400}


# Entropy


def derivations(grammar, symbol):
    """Return every string of a small grammar and its probability."""
    if symbol not in grammar.rules:
        return [((symbol,), 1.0)]
    found = []
    for p, side in grammar.rules[symbol]:
        for parts in itertools.product(*(derivations(grammar, part) for part in side)):
            words = tuple(word for part, _ in parts for word in part)
            found.append((words, p * math.prod(q for _, q in parts)))
    return found


SMALL = Grammar(
    {
        "S": {"A B": 3, "A": 1, "B B B": 2, "never": 0},
        "A": {"a": 1, "x B": 2},
        "B": {"b": 5, "c d": 1, "e": 2},
    }
)


def test_entropy_and_length_equal_those_by_enumeration():
    strings = derivations(SMALL, "S")
    assert len({words for words, _ in strings}) == len(strings)  # one derivation each
    assert "never" not in {word for words, _ in strings for word in words}
    # sums of some forty terms of order one
    assert math.fsum(p for _, p in strings) == pytest.approx(1, rel=1e-14)
    assert SMALL.entropy("S") == pytest.approx(-math.fsum(p * math.log(p) for _, p in strings), rel=1e-14)
    assert SMALL.length("S") == pytest.approx(math.fsum(p * len(words) for words, p in strings), rel=1e-14)


@pytest.mark.parametrize("rules", [{"S": {"a S": 1, "a": 1}}, {"S": {"T": 1}, "T": {"b S": 1}}], ids=str)
def test_a_recursive_grammar_is_refused(rules):
    expected = "rules must not lead from a symbol back to itself; got a recursive grammar"
    assert error_message(ValueError, Grammar, rules) == expected


def test_a_word_has_no_entropy_and_length_one():
    assert (SMALL.entropy("b"), SMALL.length("b")) == (0, 1)


@given(st.integers(0, 2**32))
def test_sample_returns_the_negative_log_probability(seed):
    words, nats = SMALL.sample("S", np.random.default_rng(seed))
    assert nats == pytest.approx(-math.log(dict(derivations(SMALL, "S"))[tuple(words)]), rel=1e-13)


def test_strings_are_sampled_with_their_probability():
    rng, n = np.random.default_rng(0), 4000
    drawn = [tuple(SMALL.sample("S", rng)[0]) for _ in range(n)]
    for words, p in derivations(SMALL, "S"):
        assert abs(drawn.count(words) - n * p) < 4 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize(("mix", "with_end", "without"), [("published", 0.987, 1.037), ("released", 0.992, 1.040)])
def test_the_entropy_per_token_has_its_known_value(mix, with_end, without):
    grammar = question_grammar(mix)
    nats, tokens = (
        grammar.entropy("ROW"),
        2 * grammar.length("ROW"),
    )  # the input with its task is as long as the output with <end>
    assert round(nats / tokens, 3) == with_end
    if mix == "published":
        assert round(nats / (tokens - 1), 3) == without


@pytest.mark.parametrize("mix", ["published", "released"])
@pytest.mark.parametrize("start", ["ROW", "GENERALIZATION"])
def test_sampled_rows_have_the_exact_entropy_and_length(mix, start):
    grammar, rng, n = question_grammar(mix), np.random.default_rng(0), 5000
    drawn = [grammar.sample(start, rng) for _ in range(n)]
    for exact, seen in (
        (grammar.entropy(start), [nats for _, nats in drawn]),
        (grammar.length(start), [len(words) for words, _ in drawn]),
    ):
        assert abs(np.mean(seen) - exact) < 4 * np.std(seen) / math.sqrt(n)


def test_the_corpus_has_the_entropy_of_its_grammar(questions):
    grammar = question_grammar()
    assert questions.entropy == grammar.entropy("ROW") / (2 * grammar.length("ROW"))
    assert question_formation(5, mix="released", dev=1, test=1, generalization=1).entropy != questions.entropy


def test_a_smaller_lexicon_has_a_lower_entropy(questions):
    small = question_formation(50, dev=5, test=5, generalization=5, nouns=2, verbs=1)
    assert small.entropy < 0.8 * questions.entropy
    assert len(small.tokenizer.symbols) == 69 - 2 * 11 - 2 * 8


def parses(grammar, symbol, words, start=0):
    """Return every derivation of a prefix of words[start:] from a symbol, as (end, probability)."""
    if symbol not in grammar.rules:
        return [(start + 1, 1.0)] if words[start : start + 1] == [symbol.lstrip("^")] else []
    found = []
    for p, side in grammar.rules[symbol]:
        partial = [(start, p)]
        for part in side:
            partial = [(end, q * r) for at, q in partial for end, r in parses(grammar, part, words, at)]
        found += partial
    return found


@pytest.mark.parametrize(("name", "start"), [("dev", "ROW"), ("generalization", "GENERALIZATION")])
def test_rows_have_one_derivation_and_give_the_floor(questions, splits, name, start):
    grammar, nats, tokens = question_grammar(), [], 0
    for words, task, answer in splits[name]:
        row = [*words, ".", task]
        ((_, probability),) = [parse for parse in parses(grammar, start, row) if parse[0] == len(row)]
        nats.append(-math.log(probability))
        tokens += len(row) + len(answer) + 1  # and <end>
    assert questions.floors[name] == pytest.approx(math.fsum(nats) / tokens, rel=1e-12)


# The rows


def test_rows_copy_the_input_or_move_the_main_auxiliary(splits):
    for rows in splits.values():
        for words, task, answer in rows:
            main = main_auxiliary(words)
            moved = [words[main], *words[:main], *words[main + 1 :], "?"]
            assert answer == {"decl": [*words, "."], "quest": moved}[task]


@pytest.mark.parametrize("name", ["train", "dev", "test"])
def test_training_questions_have_no_clause_in_the_subject(splits, name):
    tasks = {(task, has_clause(words)) for words, task, _ in splits[name]}
    assert tasks == {("decl", True), ("decl", False), ("quest", False)}


def test_generalization_questions_have_a_subject_clause(splits):
    kinds = set()
    for words, task, _ in splits["generalization"]:
        first, main = (words[i] for i in auxiliaries(words))  # no third, so no clause in the object
        assert task == "quest"
        assert has_clause(words)
        assert {first, main} in ({"do", "don't"}, {"does", "doesn't"})
        kinds.add((words[3] in AUXILIARIES, auxiliaries(words)[1] - auxiliaries(words)[0], main))
    assert {main for *_, main in kinds} == set(AUXILIARIES)
    assert {kind[:2] for kind in kinds} == {
        (True, 2),
        (True, 4),
        (False, 2),
    }  # that does V, that does V Det N, that Det N does V


def test_rows_are_distinct(questions):
    rows = [tuple(row[row >= 0]) for name in ("train", "dev", "test") for row in questions.splits[name]]
    assert len(set(rows)) == len(rows) == 3000 + 200 + 500
    apart = {tuple(row[row >= 0]) for row in questions.splits["generalization"]}
    assert len(apart) == 300
    assert not apart & set(rows)


def test_train_and_held_out_are_splits(questions):
    assert questions.train is questions.splits["train"]
    assert questions.held_out is questions.splits["test"]
    assert {name: len(rows) for name, rows in questions.splits.items()} == {
        "train": 3000, "dev": 200, "test": 500, "generalization": 300
    }  # fmt: skip
    assert questions.floors.keys() == questions.splits.keys()


def lengths(grammar, symbol):
    """Return the lowest and the highest number of words derived from a symbol."""
    if symbol not in grammar.rules:
        return 1, 1
    sides = [[lengths(grammar, part) for part in side] for _, side in grammar.rules[symbol]]
    return min(sum(least for least, _ in side) for side in sides), max(sum(most for _, most in side) for side in sides)


def test_rows_have_12_to_36_targets(questions):
    least, most = lengths(question_grammar(), "ROW")
    assert (2 * least, 2 * most) == (12, 36)
    counts = (np.concatenate(list(questions.splits.values()))[:, 1:] >= 0).sum(axis=1)
    assert counts.min() == 12
    assert counts.max() <= 36


def test_a_seed_determines_the_corpus():
    first, again, other = (question_formation(20, dev=2, test=2, generalization=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_equal(first.splits, again.splits)
    assert first.floors == again.floors
    assert first.train.shape != other.train.shape or (first.train != other.train).any()


def test_more_rows_than_strings_are_refused(monkeypatch):
    two = Grammar({"ROW": {"Det ^do . decl": 1}, "Det": {"my": 1, "our": 1}, "GENERALIZATION": {"my ^do . quest": 1}})
    monkeypatch.setattr(module, "question_grammar", lambda *_, **__: two)
    sentence = error_message(ValueError, question_formation, 1, dev=1, test=1, generalization=1)
    assert sentence == "rows must be fewer than the lexicon allows; got 3, and found 2"


# Wrong arguments


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rows": 0}, "rows must be an integer >= 1; got 0"),
        ({"dev": -1}, "dev must be an integer >= 1; got -1"),
        ({"test": 0}, "test must be an integer >= 1; got 0"),
        ({"generalization": 0}, "generalization must be an integer >= 1; got 0"),
        ({"mix": "other"}, "mix must be one of 'published', 'released'; got 'other'"),
        ({"nouns": 0}, "nouns must be an integer >= 1; got 0"),
        ({"verbs": 0}, "verbs must be an integer >= 1; got 0"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options, sentence):
    assert error_message(ValueError, question_formation, **options) == sentence


def test_the_names_of_mixes_are_those_of_their_type():
    assert get_args(Mix) == tuple(MIXES)


def test_a_negative_seed_is_refused():
    sentence = error_message(ValueError, question_formation, 5, seed=-1)
    assert sentence == "seed must be a numpy Generator or a seed, an integer >= 0; got -1"


def test_a_larger_lexicon_has_more_words_and_more_entropy():
    """Ten times the nouns and verbs: each adds log 10 nats to its place."""
    grammars = {size: question_grammar(nouns=13 * size, verbs=9 * size) for size in (1, 10)}
    one, ten = (dict(grammar.rules) for grammar in grammars.values())
    assert (len(one["N_S"]), len(ten["N_S"]), len(ten["N_P"]), len(ten["V_trans"])) == (13, 130, 130, 90)
    assert len({side[0] for _, side in ten["N_S"]} | {side[0] for _, side in ten["N_P"]}) == 260
    for symbol in ("N_S", "N_P", "V_trans", "V_intrans"):
        assert grammars[10].entropy(symbol) == pytest.approx(grammars[1].entropy(symbol) + math.log(10))
