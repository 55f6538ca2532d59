"""Decoding with a cache gives the logits of the whole sequence, on both backends."""

import numpy as np
import pytest

from hopmin import _backend
from hopmin.transformer import decoding
from hopmin.transformer.generation import pad_left
from hopmin.transformer.model import GPT, GPTConfig

SIZES = {"vocabulary": 11, "positions": 8, "layers": 2, "heads": 3, "width": 12, "dtype": "float64", "init_std": 0.5}
OPTIONS = [
    {},
    {"activation": "relu", "norm": "post"},
    {"norm": "post", "bias": False},
    {"tied_embeddings": True},
    {"shared_layers": True, "position_encoding": "sinusoidal"},
]

pytestmark = pytest.mark.usefixtures("backend")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_cached_logits_are_those_of_the_whole_sequence(options):
    model = GPT(GPTConfig(**{**SIZES, **options}), rng=0)
    prompts = [np.random.default_rng(n).integers(11, size=n) for n in (5, 2, 4)]
    tokens, start = pad_left(prompts)
    cache = model._new_cache(start)
    model._next_logits(tokens, cache)
    grown = [row.tolist() for row in prompts]
    for token in (3, 0, 7):
        logits = model._next_logits(np.full((3, 1), token), cache)
        assert isinstance(cache.decoder, decoding.Decoder)
        for row, found in zip(grown, logits, strict=True):
            row.append(token)
            np.testing.assert_allclose(found, model.logits([row])[0, -1], rtol=0, atol=1e-12)
    assert cache.full


def test_parameters_may_have_any_layout():
    model = GPT(GPTConfig(**SIZES), rng=0)
    expected = model.generate([1, 2], 5)
    for name, a in model.parameters.items():
        strided = np.empty((*a.shape, 2)).T[0].T
        strided[:] = a
        model.parameters[name] = strided
    assert model.generate([1, 2], 5).tolist() == expected.tolist()


def test_support_depends_on_the_configuration_only():
    assert decoding.supports(GPTConfig(**SIZES))
    assert not decoding.supports(GPTConfig(**SIZES, attention="energy"))
    assert not decoding.supports(GPTConfig(**SIZES, hidden=0))


def test_a_full_cache_takes_no_more_tokens():
    projected, joined, values = np.zeros((1, 12)), np.zeros((1, 4)), np.zeros((1, 2, 3, 2))
    keys = np.zeros((1, 2, 2, 3)).mT
    with pytest.raises(ValueError, match=r"^cache must have a position left$"):
        _backend.layers.attend(projected, projected[0], keys, values, np.zeros(1, np.intp), 3, joined)
