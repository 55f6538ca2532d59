"""GPTs for several test files: small sizes, all options, and parameters without special values."""

import numpy as np

from hopmin.transformer.model import GPT, GPTConfig

GPT_SIZES = {"vocabulary": 11, "positions": 6, "layers": 2, "heads": 3, "width": 12}
GPT_OPTIONS = [
    {},
    {"norm": "post"},
    {"activation": "relu"},
    {"position_encoding": "sinusoidal"},
    {"tied_embeddings": False},
    {"bias": False},
    {"hidden": 5},
    {"norm": "post", "activation": "relu", "position_encoding": "sinusoidal", "tied_embeddings": False, "hidden": 7},
    {"norm": "post", "bias": False, "tied_embeddings": False, "dropout": 0.3},
    {"hidden": 0},
    {"shared_layers": True, "layers": 3},
    {"shared_layers": True, "bias": False},
    {"attention": "energy"},
    {"attention": "energy", "hidden": 0, "shared_layers": True, "eta": 1.5, "layers": 3},
    {"attention": "energy", "norm": "post", "bias": False, "tied_embeddings": False, "dropout": 0.3},
]


def drawn_gpt(seed=0, **options):
    """A float64 model none of whose parameters has a special value such as 0 or 1."""
    model = GPT(GPTConfig(**{**GPT_SIZES, "dtype": "float64", "init_std": 0.3, **options}), seed)
    rng = np.random.default_rng(seed)
    for a in model.parameters.values():
        a += rng.normal(0, 0.1, a.shape).astype(a.dtype)
    return model
