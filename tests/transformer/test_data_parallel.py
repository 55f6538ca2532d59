"""A batch in parts has the gradient of the whole batch, bit for bit the same for any number of threads."""

import numpy as np
import pytest
from helpers import error_message
from hypothesis import given, settings
from hypothesis import strategies as st

from hopmin.transformer.data_parallel import DataParallel
from hopmin.transformer.model import GPT, GPTConfig
from hopmin.transformer.training import Trainer


def made(**options):
    sizes = {"vocabulary": 7, "positions": 6, "layers": 2, "heads": 2, "width": 8, "dtype": "float64", "init_std": 0.4}
    return GPT(GPTConfig(**{**sizes, **options}), 0)


def drawn(seed, rows=9, padded=True):
    rng = np.random.default_rng(seed)
    tokens, targets = rng.integers(7, size=(2, rows, 6))
    if padded:
        targets[rng.random((rows, 6)) < 0.6] = -1  # so that parts, and rows, have different numbers of targets
        targets[rng.integers(rows), 0] = 3
    return tokens, targets


def assert_close(found, expected, relative):
    assert found[0] == pytest.approx(expected[0], rel=relative)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert np.abs(found[1][name] - gradient).max() <= relative * max(1, np.abs(gradient).max()), name


@given(st.integers(1, 12), st.integers(0, 10**6), st.booleans())
@settings(max_examples=30)
def test_parts_have_the_gradient_of_the_whole(count, seed, padded):
    model = made()
    assert_close(
        DataParallel(model, count)(*drawn(seed, padded=padded)),
        model.loss_and_gradients(*drawn(seed, padded=padded)),
        1e-12,
    )


def test_a_part_without_targets_contributes_nothing():
    model, (tokens, targets) = made(), drawn(0, rows=4, padded=False)
    targets[2:] = -1
    assert_close(DataParallel(model, 4)(tokens, targets), model.loss_and_gradients(tokens[:2], targets[:2]), 1e-12)


def test_each_part_draws_dropout_from_a_child_generator():
    model, (tokens, targets) = made(dropout=0.3), drawn(1, rows=4, padded=False)
    found = DataParallel(model, 2)(tokens, targets, np.random.default_rng(5))
    parts = [
        model.loss_and_gradients(tokens[i : i + 2], targets[i : i + 2], rng)
        for i, rng in zip((0, 2), np.random.default_rng(5).spawn(2), strict=True)
    ]
    mean = {name: (parts[0][1][name] + parts[1][1][name]) / 2 for name in parts[0][1]}
    assert_close(found, ((parts[0][0] + parts[1][0]) / 2, mean), 1e-12)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_number_of_threads_changes_no_bit(threads, count):
    runs, rows = [], np.random.default_rng(0).integers(7, size=(20, 7))
    rows[::3, 4:] = -1
    for number in (1, 2, 5):
        threads(number)
        trainer = Trainer(made(dtype="float32", dropout=0.2, width=64), steps=5, batch_size=8, micro_batches=count)
        losses = trainer.run(rows)
        runs.append((losses, {name: p.tobytes() for name, p in trainer.model.parameters.items()}))
    assert runs[0] == runs[1] == runs[2]


def test_there_are_no_more_parts_than_rows():
    model, batch = made(), drawn(2, rows=2)
    assert_close(DataParallel(model, 50)(*batch), model.loss_and_gradients(*batch), 1e-12)


def test_gradients_remain_valid_after_the_next_call():
    data_parallel = DataParallel(made(), 2)
    _, gradients = data_parallel(*drawn(3))
    before = {name: g.tobytes() for name, g in gradients.items()}
    data_parallel(*drawn(4))
    assert {name: g.tobytes() for name, g in gradients.items()} == before


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((3, 2), TypeError, "model must be a GPT; got 3"),
        ((made(), 0), ValueError, "micro_batches must be an integer >= 1; got 0"),
        ((made(), 2.0), TypeError, "micro_batches must be an integer >= 1; got 2.0"),
    ],
    ids=["model", "none", "float"],
)
def test_wrong_arguments_are_refused(arguments, error, sentence):
    assert error_message(error, DataParallel, *arguments) == sentence


def test_an_error_in_a_part_is_raised():
    model = made()
    with pytest.raises(ValueError, match="targets must have shape"):
        DataParallel(model, 2)(np.zeros((2, 3), int), np.zeros((2, 2), int))
    del model.parameters["layers.1.expand.weight"]
    with pytest.raises(KeyError):
        DataParallel(model, 2)(*drawn(5))
