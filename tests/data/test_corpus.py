"""The grammar against what is published, its entropy against counting and drawing, and every split of every corpus."""

import itertools
import math
import string

import numpy as np
import pytest
from helpers import complaint
from hypothesis import example, given
from hypothesis import strategies as st

from hopmin.data import question_formation as corpora
from hopmin.data.corpus import from_file, from_text, inputs_and_targets, python_topics
from hopmin.data.open import open_corpus
from hopmin.data.question_formation import END, Grammar, question_formation, question_grammar
from hopmin.data.tokenizers import SymbolTokenizer

AUXILIARIES = ("do", "does", "don't", "doesn't")
RELATIVES = ("who", "that")


@pytest.fixture(scope="module")
def questions():
    return question_formation(3000, dev=200, test=500, generalization=300)


@pytest.fixture(scope="module")
def splits(questions):
    """Name -> rows as (input words, task, output words)."""

    def parsed(row):
        first, *words, last = questions.tokenizer.decode(row).split()
        assert (first, last) == (END, END)
        stop = words.index(".")
        return words[:stop], words[stop + 1], words[stop + 2 :]

    return {name: [parsed(row) for row in rows] for name, rows in questions.splits.items()}


# Sentences read without the grammar: a relative clause has one auxiliary, so the main one is the first or the second.


def has_clause(words):
    return words[2] in RELATIVES


def auxiliaries(words):
    return [i for i, word in enumerate(words) if word in AUXILIARIES]


def main_auxiliary(words):
    return auxiliaries(words)[1 if has_clause(words) else 0]


def test_there_are_68_words_and_an_end(questions):
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
    """What becomes of a symbol, with the shares, in whole thousandths."""
    return {" ".join(side): round(1000 * p) for p, side in grammar.rules[symbol]}


@pytest.mark.parametrize("x", ["S", "P"])
def test_the_published_weights_are_those_of_the_grammar(x):
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
def test_the_released_weights_are_those_of_the_files(x):
    grammar = question_grammar("released")
    assert structure(grammar, f"Subject_{x}") == {f"Plain_{x}": 710, f"Det N_{x} Subject_clause_{x}": 290}
    assert structure(grammar, f"Plain_{x}") == {f"Det N_{x}": 704, f"Det N_{x} Prep Det N": 296}
    assert structure(grammar, f"VP_{x}") == {f"Main_{x} V_intrans": 220, f"Main_{x} V_trans Object": 780}
    assert list(structure(grammar, f"Object_{x}").values()) == [300, 300, 400]
    assert list(structure(grammar, f"Subject_clause_{x}").values()) == [250, 255, 255, 240]
    assert list(structure(grammar, f"Object_clause_{x}").values()) == [520, 120, 120, 240]


def test_a_question_is_asked_of_every_sentence_that_allows_it():
    # half of all sentences want a question, and those with a clause in the subject are refused: 1 to 2/3, or 3 to 2
    assert structure(question_grammar("published"), "ROW") == {"DECL . decl": 600, "QUEST . quest": 400}


# Entropy


def derivations(grammar, symbol):
    """Every string of a small grammar, with its probability."""
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


def test_entropy_and_length_are_what_enumeration_gives():
    strings = derivations(SMALL, "S")
    assert len({words for words, _ in strings}) == len(strings)  # one derivation each
    assert "never" not in {word for words, _ in strings for word in words}
    # sums of some forty terms of order one
    assert math.fsum(p for _, p in strings) == pytest.approx(1, rel=1e-14)
    assert SMALL.entropy("S") == pytest.approx(-math.fsum(p * math.log(p) for _, p in strings), rel=1e-14)
    assert SMALL.length("S") == pytest.approx(math.fsum(p * len(words) for words, p in strings), rel=1e-14)


@pytest.mark.parametrize("rules", [{"S": {"a S": 1, "a": 1}}, {"S": {"T": 1}, "T": {"b S": 1}}], ids=str)
def test_a_grammar_that_leads_back_to_itself_is_refused(rules):
    expected = "rules must not lead from a symbol back to itself; got a recursive grammar"
    assert complaint(ValueError, Grammar, rules) == expected


def test_a_word_has_no_entropy_and_length_one():
    assert (SMALL.entropy("b"), SMALL.length("b")) == (0, 1)


@given(st.integers(0, 2**32))
def test_a_drawn_string_costs_minus_the_logarithm_of_its_probability(seed):
    words, nats = SMALL.sample("S", np.random.default_rng(seed))
    assert nats == pytest.approx(-math.log(dict(derivations(SMALL, "S"))[tuple(words)]), rel=1e-13)


def test_strings_are_drawn_as_often_as_they_are_probable():
    rng, n = np.random.default_rng(0), 4000
    drawn = [tuple(SMALL.sample("S", rng)[0]) for _ in range(n)]
    for words, p in derivations(SMALL, "S"):
        assert abs(drawn.count(words) - n * p) < 4 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize(("mix", "with_end", "without"), [("published", 0.987, 1.037), ("released", 0.992, 1.040)])
def test_the_entropy_of_a_token_is_the_published_one(mix, with_end, without):
    grammar = question_grammar(mix)
    nats, tokens = grammar.entropy("ROW"), 2 * grammar.length("ROW")  # input with task, output with <end>: as many
    assert round(nats / tokens, 3) == with_end
    if mix == "published":
        assert round(nats / (tokens - 1), 3) == without


@pytest.mark.parametrize("mix", ["published", "released"])
@pytest.mark.parametrize("start", ["ROW", "GENERALIZATION"])
def test_drawn_rows_have_the_exact_entropy_and_length(mix, start):
    grammar, rng, n = question_grammar(mix), np.random.default_rng(0), 5000
    drawn = [grammar.sample(start, rng) for _ in range(n)]
    for exact, seen in (
        (grammar.entropy(start), [nats for _, nats in drawn]),
        (grammar.length(start), [len(words) for words, _ in drawn]),
    ):
        assert abs(np.mean(seen) - exact) < 4 * np.std(seen) / math.sqrt(n)


def test_the_corpus_knows_its_entropy(questions):
    grammar = question_grammar()
    assert questions.entropy == grammar.entropy("ROW") / (2 * grammar.length("ROW"))
    assert question_formation(5, mix="released", dev=1, test=1, generalization=1).entropy != questions.entropy


def test_a_smaller_lexicon_makes_a_language_of_lower_entropy(questions):
    small = question_formation(50, dev=5, test=5, generalization=5, nouns=2, verbs=1)
    assert small.entropy < 0.8 * questions.entropy
    assert len(small.tokenizer.symbols) == 69 - 2 * 11 - 2 * 8


def readings(grammar, symbol, words, start=0):
    """Every way to read a symbol from words[start:], as (where it ends, with what probability)."""
    if symbol not in grammar.rules:
        return [(start + 1, 1.0)] if words[start : start + 1] == [symbol.lstrip("^")] else []
    found = []
    for p, side in grammar.rules[symbol]:
        partial = [(start, p)]
        for part in side:
            partial = [(end, q * r) for at, q in partial for end, r in readings(grammar, part, words, at)]
        found += partial
    return found


@pytest.mark.parametrize(("name", "start"), [("dev", "ROW"), ("generalization", "GENERALIZATION")])
def test_every_row_has_one_reading_and_the_floor_is_what_they_cost(questions, splits, name, start):
    grammar, nats, tokens = question_grammar(), [], 0
    for words, task, answer in splits[name]:
        row = [*words, ".", task]
        ((_, probability),) = [reading for reading in readings(grammar, start, row) if reading[0] == len(row)]
        nats.append(-math.log(probability))
        tokens += len(row) + len(answer) + 1  # and <end>
    assert questions.floors[name] == pytest.approx(math.fsum(nats) / tokens, rel=1e-12)


# The rows


def test_every_row_is_an_exact_copy_or_moves_the_main_auxiliary(splits):
    for rows in splits.values():
        for words, task, answer in rows:
            main = main_auxiliary(words)
            moved = [words[main], *words[:main], *words[main + 1 :], "?"]
            assert answer == {"decl": [*words, "."], "quest": moved}[task]


@pytest.mark.parametrize("name", ["train", "dev", "test"])
def test_questions_have_no_clause_in_their_subject_where_they_are_learned(splits, name):
    tasks = {(task, has_clause(words)) for words, task, _ in splits[name]}
    assert tasks == {("decl", True), ("decl", False), ("quest", False)}


def test_generalization_asks_what_training_never_shows(splits):
    kinds = set()
    for words, task, _ in splits["generalization"]:
        first, main = (words[i] for i in auxiliaries(words))  # so there is no third, and no clause in the object
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


def test_no_row_comes_twice(questions):
    rows = [tuple(row[row >= 0]) for name in ("train", "dev", "test") for row in questions.splits[name]]
    assert len(set(rows)) == len(rows) == 3000 + 200 + 500
    apart = {tuple(row[row >= 0]) for row in questions.splits["generalization"]}
    assert len(apart) == 300
    assert not apart & set(rows)


def test_train_and_held_out_are_the_splits_of_that_name(questions):
    assert questions.train is questions.splits["train"]
    assert questions.held_out is questions.splits["test"]
    assert {name: len(rows) for name, rows in questions.splits.items()} == {
        "train": 3000, "dev": 200, "test": 500, "generalization": 300
    }  # fmt: skip
    assert questions.floors.keys() == questions.splits.keys()


def lengths(grammar, symbol):
    """The fewest and the most words under a symbol."""
    if symbol not in grammar.rules:
        return 1, 1
    sides = [[lengths(grammar, part) for part in side] for _, side in grammar.rules[symbol]]
    return min(sum(least for least, _ in side) for side in sides), max(sum(most for _, most in side) for side in sides)


def test_rows_have_12_to_36_tokens_to_predict(questions):
    least, most = lengths(question_grammar(), "ROW")
    assert (2 * least, 2 * most) == (12, 36)
    counts = (np.concatenate(list(questions.splits.values()))[:, 1:] >= 0).sum(axis=1)
    assert counts.min() == 12
    assert counts.max() <= 36


def test_one_seed_is_one_corpus():
    first, again, other = (question_formation(20, dev=2, test=2, generalization=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_equal(first.splits, again.splits)
    assert first.floors == again.floors
    assert first.train.shape != other.train.shape or (first.train != other.train).any()


def test_more_rows_than_the_language_has_are_refused(monkeypatch):
    two = Grammar({"ROW": {"Det ^do . decl": 1}, "Det": {"my": 1, "our": 1}, "GENERALIZATION": {"my ^do . quest": 1}})
    monkeypatch.setattr(corpora, "question_grammar", lambda *_, **__: two)
    sentence = complaint(ValueError, question_formation, 1, dev=1, test=1, generalization=1)
    assert sentence == "rows must be fewer than the lexicon allows; got 3, and found 2"


# Symbols


@given(st.text(min_size=1))
def test_characters_come_back(text):
    tokenizer = SymbolTokenizer.characters(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert list(tokenizer.symbols) == sorted(set(text))


@given(st.lists(st.text(string.ascii_letters + "<>'?.", min_size=1), min_size=1))
def test_words_come_back_with_single_spaces(words):
    tokenizer = SymbolTokenizer.words("  ".join(words))
    assert tokenizer.decode(tokenizer.encode("\n".join(words))) == " ".join(words)


@given(st.lists(st.text("abc", min_size=1), min_size=1, unique=True), st.data())
def test_numbers_come_back(symbols, data):
    tokenizer = SymbolTokenizer(tuple(symbols), " ")
    numbers = data.draw(st.lists(st.integers(0, len(symbols) - 1)))
    assert tokenizer.encode(tokenizer.decode(numbers)).tolist() == numbers


def test_padding_is_left_out_of_the_text():
    assert SymbolTokenizer(("a", "b"), " ").decode([1, 0, -1, -1]) == "b a"


def test_an_unknown_symbol_is_named():
    assert (
        complaint(ValueError, SymbolTokenizer.characters("abc").encode, "abxc")
        == "text must be made of the tokenizer's 3 symbols; got 'x'"
    )
    assert (
        complaint(ValueError, SymbolTokenizer.words("to be").encode, "to not be")
        == "text must be made of the tokenizer's 2 symbols; got 'not'"
    )


@pytest.mark.parametrize("symbols", [(), ("a", "a")])
def test_symbols_must_be_distinct_and_some(symbols):
    assert complaint(ValueError, SymbolTokenizer, symbols) == f"symbols must be distinct and at least one; got {len(symbols)}"


# Plain text

TEXT = "".join(chr(0x4E00 + i) for i in range(1000))  # no symbol twice, so that every row can be told


@given(st.integers(1, 99), st.floats(0, 0.99), st.integers(0, 2**32))
@example(99, 0.0, 0)
@example(99, 0.99, 0)
def test_text_is_cut_into_rows_that_are_trained_on_or_held_out(positions, share, seed):
    corpus = from_text(TEXT, positions=positions, held_out=share, seed=seed)
    count = 999 // positions
    tokens = corpus.tokenizer.encode(TEXT)
    expected = {tuple(tokens[i * positions : (i + 1) * positions + 1]) for i in range(count)}
    train, held_out = ({tuple(row) for row in rows} for rows in (corpus.train, corpus.held_out))
    assert train | held_out == expected
    assert not train & held_out
    assert train
    assert len(held_out) == min(count - 1, max(1, round(share * count)))


def test_one_seed_is_one_split():
    first, again, other = (from_text(TEXT, positions=5, seed=seed).held_out for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_first_rows_are_from_all_over_the_text():
    starts = from_text(TEXT, positions=5).train[:50, 0]
    assert abs(starts.mean() - 500) < 4 * math.sqrt(1000**2 / 12 / 50)  # four standard errors of an even spread


def test_words_may_be_the_symbols_of_a_text():
    corpus = from_text("to be or not to be " * 20, positions=3, tokenizer="words")
    assert corpus.tokenizer.symbols == ("be", "not", "or", "to")
    assert {corpus.tokenizer.decode(row) for row in corpus.train} <= {"to be or not", "not to be to"}


def test_a_text_has_no_known_entropy():
    corpus = from_text(TEXT)
    assert corpus.entropy is None
    assert not corpus.floors


@pytest.mark.parametrize(("length", "enough"), [(80, False), (81, True)])
def test_ten_rows_are_enough(length, enough):
    if enough:
        assert len(from_text(TEXT[:length], positions=8).train) == 9
    else:
        assert complaint(ValueError, from_text, TEXT[:length], positions=8) == "corpus must have more than 80 characters; got 80"


def test_too_few_words_are_counted_as_words():
    assert complaint(ValueError, from_text, "to be", positions=4, tokenizer="words") == "corpus must have more than 40 words; got 2"


def test_a_text_file_is_its_text(tmp_path):
    path = tmp_path / "naïve.txt"
    path.write_text(TEXT, encoding="utf-8")
    corpus = from_file(path, positions=7)
    assert corpus.name == "naïve.txt"
    np.testing.assert_array_equal(corpus.train, from_text(TEXT, positions=7).train)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"caf\xe9 " * 99, "corpus must be UTF-8 text; {} has byte 0xe9 at 3"),
        (b"", "corpus must not be empty; {} holds no text"),
        (b" \n\t ", "corpus must not be empty; {} holds no text"),
        (b"short", "corpus must have more than 640 characters; got 5"),
    ],
)
def test_a_file_without_a_text_to_learn_is_refused(tmp_path, content, sentence):
    path = tmp_path / "text"
    path.write_bytes(content)
    assert complaint(ValueError, from_file, path) == sentence.format(path)


def test_a_missing_file_is_refused(tmp_path):
    path = tmp_path / "none"
    assert complaint(ValueError, from_file, path) == f"corpus must be a readable text file; {path}: No such file or directory"


def test_a_folder_is_no_text(tmp_path):
    assert complaint(ValueError, from_file, tmp_path) == f"corpus must be a readable text file; {tmp_path}: Is a directory"


def test_python_brings_enough_english_to_learn():
    corpus = python_topics(positions=32)
    assert len(corpus.train) > 10_000
    assert corpus.train.shape[1] == 33
    assert "assert" in corpus.tokenizer.decode(corpus.train.ravel())


# Corpora by name


def test_question_formation_has_the_rows_asked_for():
    corpus = open_corpus("question-formation", rows=30, positions=1, seed=3)
    assert (corpus.name, len(corpus.train), len(corpus.held_out)) == ("question-formation", 30, 1000)
    np.testing.assert_array_equal(corpus.train, open_corpus("question-formation", rows=30, positions=1, seed=3).train)


def test_a_text_has_rows_as_long_as_asked_for(tmp_path):
    (tmp_path / "text").write_text("to be or not to be " * 20)
    assert open_corpus(str(tmp_path / "text"), rows=1, positions=12, seed=0).train.shape[1] == 13
    assert open_corpus("python-topics", rows=1, positions=12, seed=0).train.shape[1] == 13


def test_a_corpus_that_is_no_file_is_named():
    sentence = complaint(ValueError, open_corpus, "none such", rows=1, positions=12, seed=0)
    assert sentence == "corpus must be a readable text file; none such: No such file or directory"


# Complaints


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rows": 0}, "rows must be an integer >= 1; got 0"),
        ({"dev": -1}, "dev must be an integer >= 1; got -1"),
        ({"test": 0}, "test must be an integer >= 1; got 0"),
        ({"generalization": 0}, "generalization must be an integer >= 1; got 0"),
        ({"mix": "other"}, "mix must be one of 'published', 'released'; got 'other'"),
        ({"nouns": 14}, "nouns must be an integer from 1 to 13; got 14"),
        ({"verbs": 0}, "verbs must be an integer from 1 to 9; got 0"),
    ],
    ids=str,
)
def test_a_wrong_wish_for_question_formation_is_named(options, sentence):
    assert complaint(ValueError, question_formation, **options) == sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"positions": 0}, "positions must be an integer >= 1; got 0"),
        ({"held_out": 1.0}, "held_out must be a number in [0, 1); got 1.0"),
    ],
    ids=str,
)
def test_a_wrong_wish_for_a_text_is_named(options, sentence):
    assert complaint(ValueError, from_text, TEXT, **options) == sentence


@pytest.mark.parametrize("make", [lambda: question_formation(5, seed=-1), lambda: from_text(TEXT, seed=-1)])
def test_a_negative_seed_is_named(make):
    assert complaint(ValueError, make) == "seed must be a numpy Generator or a seed, an integer >= 0; got -1"


# Batches


@given(st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=7), min_size=1, max_size=5), st.integers(0, 3))
def test_a_batch_pairs_each_token_with_the_next(rows, more):
    width = max(map(len, rows))
    padded = np.array([row + [-1] * (width + more - len(row)) for row in rows])
    before = padded.copy()
    tokens, targets = inputs_and_targets(padded)
    assert tokens.shape == targets.shape == (len(rows), width - 1)  # no column of padding alone
    for row, seen, wanted in zip(rows, tokens, targets, strict=True):
        n = len(row) - 1
        assert seen[:n].tolist() == row[:-1]
        assert wanted.tolist() == row[1:] + [-1] * (width - 1 - n)
    assert tokens.min() >= 0  # what stands where nothing is counted is still a token
    np.testing.assert_array_equal(padded, before)


def test_a_tokenizer_separates_words_by_blanks_or_not_at_all():
    assert complaint(ValueError, SymbolTokenizer, ("a", "b"), ",") == "separator must be one of '', ' '; got ','"


def test_a_number_without_a_symbol_is_named():
    assert complaint(ValueError, SymbolTokenizer(("a", "b")).decode, [0, 2]) == "numbers must be below 2; got 2"
