"""Files of tokens, compared with the text they were written from; batches as functions of the step."""

import os

import numpy as np
import pytest
from helpers import error_message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hopmin import _files
from hopmin.data.open import open_corpus
from hopmin.data.token_files import contiguous_batches, from_tokens, shuffled_batches, write_tokens
from hopmin.data.tokenizers import TOKENIZERS, BPETokenizer, ByteTokenizer, fit_tokenizer
from hopmin.transformer.model import GPT, GPTConfig
from hopmin.transformer.training import Trainer

TEXT = "to be or not to be,  that is\n\nthe question \t whether naïve 🙂 it is nobler " * 12
REPEAT = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def available(kind):
    """Return the tokenizer's name; skip the test if its library is missing."""
    if kind == "bpe":
        pytest.importorskip("tokenizers")
    return kind


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("size", [1, 7, 64, 10**6])
def test_tokens_do_not_depend_on_the_size_of_pieces(tmp_path, monkeypatch, kind, size):
    monkeypatch.setattr(_files, "CHUNK", size)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8", newline="")
    count = write_tokens(tmp_path / "text.txt", tmp_path / "tokens.npz", available(kind), vocabulary=280)
    corpus = from_tokens(tmp_path / "tokens.npz", positions=3)
    arrays, _ = _files.map_arrays(tmp_path / "tokens.npz", "tokens")
    assert corpus.tokenizer == fit_tokenizer(kind, [TEXT], 280)
    assert arrays["tokens"].tolist() == corpus.tokenizer.encode(TEXT).tolist()
    assert len(arrays["tokens"]) == count
    assert arrays["tokens"].dtype == ("uint16" if len(corpus.tokenizer.symbols) > 256 else "uint8")


@given(text=st.text(st.sampled_from("a! \n\x0b\x0c\x1c\x1f\x85\u2028"), min_size=1), size=st.integers(1, 9))
@REPEAT
def test_a_bpe_encodes_pieces_as_it_encodes_the_whole(tmp_path, text, size):
    pytest.importorskip("tokenizers")
    bpe = BPETokenizer.train(["a!\x1c!\x1ca \n\n\x0b\x1f!\x85\u2028a" * 3], 290)
    (tmp_path / "text.txt").write_text(text, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_files, "CHUNK", size)
        write_tokens(tmp_path / "text.txt", tmp_path / "tokens.npz", bpe)
    assert _files.load_arrays(tmp_path / "tokens.npz", "tokens")[0]["tokens"].tolist() == bpe.encode(text).tolist()


@given(text=st.text(st.sampled_from("ab \n\té"), min_size=1), size=st.integers(1, 9))
@REPEAT
def test_words_are_never_split(tmp_path, text, size):
    if not text.split():
        return
    (tmp_path / "text.txt").write_text(text, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_files, "CHUNK", size)
        write_tokens(tmp_path / "text.txt", tmp_path / "tokens.npz", "words")
    arrays, records = _files.load_arrays(tmp_path / "tokens.npz", "tokens")
    assert [records["tokenizer"]["symbols"][i] for i in arrays["tokens"]] == text.split()


@pytest.fixture
def tokens(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8", newline="")
    write_tokens(tmp_path / "text.txt", tmp_path / "tokens.npz", "bytes")
    return tmp_path / "tokens.npz"


def test_rows_are_views_in_order_and_the_last_are_held_out(tokens):
    corpus, numbers = from_tokens(tokens, positions=10, held_out=0.2), ByteTokenizer().encode(TEXT)
    rows = np.concatenate([corpus.train, corpus.held_out])
    assert len(corpus.held_out) == round(0.2 * len(rows))
    assert rows[:, 0].tolist() == numbers[: 10 * len(rows) : 10].tolist()
    assert rows[:, 1:].ravel().tolist() == numbers[1 : 10 * len(rows) + 1].tolist()
    assert corpus.train.base is not None
    assert not corpus.train.flags.writeable
    assert corpus.contiguous
    assert (
        open_corpus(str(tokens), rows=1, positions=10, seed=0).train.shape
        == from_tokens(tokens, positions=10).train.shape
    )


def test_training_on_a_mapped_file_equals_that_on_an_array(tokens):
    def weights(rows):
        model = GPT(GPTConfig(256, 8, layers=1, heads=2, width=8), 0)
        losses = Trainer(model, steps=5, batch_size=4).run(shuffled_batches(rows, 4, seed=3))
        return losses, {name: p.tobytes() for name, p in model.parameters.items()}

    mapped = from_tokens(tokens, positions=8).train
    assert weights(mapped) == weights(np.array(mapped, np.int64))


def test_a_file_larger_than_memory_is_written_and_read(tmp_path, run):
    pytest.importorskip("resource")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(150_000_000)
    code = """
import resource, sys
from hopmin.data.token_files import contiguous_batches, from_tokens, write_tokens
used = int(open("/proc/self/statm").read().split()[5]) * 4096  # data: what is mapped from files does not count
resource.setrlimit(resource.RLIMIT_DATA, (used + 40_000_000, -1))
print(write_tokens(sys.argv[1], sys.argv[2], "bytes"))
rows = from_tokens(sys.argv[2], positions=100).train
print(contiguous_batches(rows, 4)(300_000).shape)
"""
    finished = run(code, tmp_path / "large", tmp_path / "tokens.npz", OPENBLAS_NUM_THREADS="1")
    assert finished.stdout.splitlines() == ["150000000", "(4, 101)"], finished.stderr


# Batches


@given(n=st.integers(1, 40), count=st.integers(1, 50), seed=st.integers(0, 10**6), epochs=st.integers(1, 3))
def test_shuffled_batches_hold_each_row_once_per_epoch(n, count, seed, epochs):
    batch = shuffled_batches(np.arange(n)[:, None], count, seed)
    steps = -(-epochs * n // count)
    seen = np.concatenate([batch(step).ravel() for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == list(range(n))
    again = shuffled_batches(np.arange(n)[:, None], count, seed)
    for step in reversed(range(steps)):  # in any order of the steps
        assert again(step).ravel().tolist() == seen[step * count : (step + 1) * count].tolist()


def test_epochs_and_seeds_have_different_orders():
    orders = [
        shuffled_batches(np.arange(50)[:, None], 50, seed)(epoch).ravel().tolist()
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(map(tuple, orders))) == 4


@given(n=st.integers(1, 60), count=st.integers(1, 20), positions=st.integers(1, 4))
def test_contiguous_batches_continue_the_batch_before(n, count, positions):
    text = np.arange(n * positions + 1)
    rows = np.lib.stride_tricks.sliding_window_view(text, positions + 1)[::positions]
    if n < count:
        with pytest.raises(ValueError, match=rf"^rows must be at least {count}, one for each of a batch; got {n}$"):
            contiguous_batches(rows, count)
        return
    batch, stretch = contiguous_batches(rows, count), n // count
    for step in range(stretch - 1):
        assert (batch(step)[:, -1] == batch(step + 1)[:, 0]).all()
    assert sorted(np.concatenate([batch(step)[:, 1:].ravel() for step in range(stretch)])) == list(
        range(1, count * stretch * positions + 1)
    )
    assert (batch(stretch) == batch(0)).all()


# Wrong arguments


@pytest.mark.parametrize("batches", [shuffled_batches, contiguous_batches])
def test_empty_rows_and_empty_batches_are_refused(batches):
    rows = np.arange(6).reshape(3, 2)
    assert error_message(ValueError, batches, rows[:0], 2) == "rows must have shape (n, T + 1), not empty; got (0, 2)"
    assert error_message(ValueError, batches, rows, 0) == "batch_size must be an integer >= 1; got 0"
    assert error_message(TypeError, batches, rows, 2.0) == "batch_size must be an integer >= 1; got 2.0"


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty").touch()
    for kind in ("bytes", "characters"):
        with pytest.raises(ValueError, match=r"^corpus must not be empty; .*empty has 0 bytes$"):
            write_tokens(tmp_path / "empty", tmp_path / "tokens.npz", kind)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_an_unusable_source_is_refused_and_leaves_no_file(tmp_path):
    (tmp_path / "latin").write_bytes(b"na\xefve")
    with pytest.raises(ValueError, match=r"^corpus must be UTF-8 text; .*latin has byte 0xef"):
        write_tokens(tmp_path / "latin", tmp_path / "tokens.npz")
    with pytest.raises(ValueError, match=r"^corpus must be a readable file; .*none: "):
        write_tokens(tmp_path / "none", tmp_path / "tokens.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["latin"]


def test_the_source_is_not_overwritten(tmp_path):
    (tmp_path / "text.npz").write_text(TEXT, encoding="utf-8")
    os.symlink("text.npz", tmp_path / "link.npz")
    for path in (tmp_path / "text.npz", tmp_path / "link.npz"):
        sentence = error_message(ValueError, write_tokens, tmp_path / "text.npz", path, "bytes")
        assert sentence == f"path must not be the corpus itself; got {path}"
    assert (tmp_path / "text.npz").read_text(encoding="utf-8") == TEXT


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="pipes have no names on this system")
@pytest.mark.parametrize("kind", ["bytes", "characters"])
def test_a_pipe_is_refused_unread(tmp_path, kind):
    reader, writer = os.pipe()
    os.write(writer, TEXT.encode())
    os.close(writer)
    with pytest.raises(
        ValueError, match=r"^corpus must be a regular file, to be read more than once; /dev/fd/\d+ is not$"
    ):
        write_tokens(f"/dev/fd/{reader}", tmp_path / "tokens.npz", kind)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == TEXT
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["text.txt", "tokens", "none/tokens.npz"])
def test_the_path_must_end_in_npz_and_its_folder_exist(tmp_path, name):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    with pytest.raises(ValueError, match=r"^path must end in \.npz, in a folder that exists; got "):
        write_tokens(tmp_path / "text.txt", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]
    assert (tmp_path / "text.txt").read_text(encoding="utf-8") == TEXT


@pytest.mark.parametrize("path", [3, True, None])
def test_numbers_are_not_paths_of_tokens(tmp_path, tokens, path):
    assert error_message(TypeError, from_tokens, path) == f"path must be a string or a path object; got {path}"
    assert (
        error_message(TypeError, write_tokens, path, tokens) == f"source must be a string or a path object; got {path}"
    )
    assert error_message(TypeError, write_tokens, tokens, path) == f"path must be a string or a path object; got {path}"


def test_a_file_of_tokens_may_be_renamed(tmp_path, tokens):
    """Only `open_corpus` goes by the suffix."""
    expected = from_tokens(tokens, positions=3).train.copy()
    tokens.rename(tmp_path / "plain")
    assert np.array_equal(from_tokens(tmp_path / "plain", positions=3).train, expected)


def test_a_file_of_another_kind_is_refused(tmp_path, tokens):
    GPT(GPTConfig(5, 3, layers=1, heads=1, width=2), 0).save(tmp_path / "model.npz")
    with pytest.raises(ValueError, match=r"model\.npz must hold a tokens in format|tokens must be a file"):
        from_tokens(tmp_path / "model.npz")
    tokens.write_bytes(tokens.read_bytes()[:-100])
    with pytest.raises(
        ValueError, match=r"^tokens must be a file that hopmin saved; .* is damaged or has another format$"
    ):
        from_tokens(tokens)
    _files.save_arrays(tokens, "tokens", {"tokens": np.zeros((3, 3), np.uint8)}, tokenizer=ByteTokenizer().record)
    with pytest.raises(ValueError, match=r"^tokens must be a file that hopmin tokenize wrote; .* is not$"):
        from_tokens(tokens)
