"""Opening corpora by name."""

import numpy as np
import pytest
from helpers import error_message

from hopmin.data.open import open_corpus


def test_question_formation_has_the_requested_rows():
    corpus, again = (open_corpus("question-formation", rows=30, positions=1, seed=3) for _ in range(2))
    assert (corpus.name, len(corpus.train), len(corpus.held_out)) == ("question-formation", 30, 1000)
    np.testing.assert_array_equal(corpus.train, again.train)


def test_a_text_has_rows_of_the_requested_length(tmp_path):
    (tmp_path / "text").write_text("to be or not to be " * 20)
    assert open_corpus(str(tmp_path / "text"), rows=1, positions=12, seed=0).train.shape[1] == 13
    assert open_corpus("python-topics", rows=1, positions=12, seed=0).train.shape[1] == 13


@pytest.mark.parametrize("name", [3, True, None, b"text"])
def test_only_a_name_or_a_path_opens_a_corpus(name):
    sentence = error_message(TypeError, open_corpus, name, rows=10, positions=4, seed=0)
    assert sentence == f"corpus must be a string or a path object; got {name!r}"


def test_a_missing_file_is_refused():
    sentence = error_message(ValueError, open_corpus, "none such", rows=1, positions=12, seed=0)
    assert sentence == "corpus must be a readable text file; none such: No such file or directory"


@pytest.mark.parametrize("name", ["question-formation", "tokens.npz"])
def test_a_tokenizer_is_refused_for_a_corpus_with_its_own(name):
    sentence = error_message(ValueError, open_corpus, name, rows=1, positions=12, seed=0, tokenizer="bytes")
    assert sentence == f"tokenizer must not be given for a corpus that has its own; got 'bytes' for {name}"
