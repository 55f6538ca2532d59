"""hopmin: transformers understood as associative memories.

In reading order:

    numerics             LogSumExp, softmax and their derivatives
    special              the few special functions that need no SciPy
    memory.reduction     the one walk over the patterns that everything below is read off
    memory.energy        energies: value, gradient, weights and update as one object
    memory.sparse        energies whose weights can be exactly zero
    memory.binary        the binary ancestors: Hopfield 1982, Krotov-Hopfield 2016, Demircigil 2017
    memory.retrieval     update until still
    memory.nearest       the hard limit: nearest neighbours
    memory.layered       layers put together: layer energies, global energy, majorization-minimization
    memory.memory        Memory: patterns and values one can add to, remove from, save, map from disk
    data.corpus          languages to learn, from any text
    data.question_formation  a language whose entropy is known
    transformer.layers   each layer's backward under its forward
    transformer.model    a GPT made of them
    transformer.training AdamW, schedule, clipping, the loop
    transformer.llama    a Llama, forward only
    paper.capacity       capacity and its margins, in closed form
    paper.certificates   what can be promised about given patterns
    paper.density        partition functions, mixtures, cross-entropy
    paper.scaling        model size and data size, as the paper chains them
    paper.claims         the paper's statements, each with a check one can run
    study                how far trained transformers behave as associative memories
    sklearn              the memory as scikit-learn's estimators (needs scikit-learn)
    testing              laws that judge any implementation, ours or yours (needs hypothesis)

Shape letters, used throughout: n patterns, m queries, d dimensions, v value dimensions, k neighbours, L layers; in the
transformer B batch, T positions, D width, H heads, E = D/H width of a head, V vocabulary. Rows are vectors: patterns
(n, d), queries (m, d). A single vector (d,) is welcome wherever queries are, and gives a result without the m.

Energies and entropies are in nats, distances Euclidean. float32 in, float32 out; float64 in, float64 out; integers
become float64. Inputs are never changed; randomness is an explicit `rng`, a numpy Generator or a seed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hopmin._backend import BACKEND
from hopmin._version import __version__

if TYPE_CHECKING:
    from hopmin._config import show_config as show_config
    from hopmin._threads import get_threads as get_threads
    from hopmin._threads import set_threads as set_threads
    from hopmin.memory.binary import ExponentialEnergy as ExponentialEnergy
    from hopmin.memory.binary import HopfieldEnergy as HopfieldEnergy
    from hopmin.memory.binary import PolynomialEnergy as PolynomialEnergy
    from hopmin.memory.energy import DistanceEnergy as DistanceEnergy
    from hopmin.memory.energy import DotEnergy as DotEnergy
    from hopmin.memory.energy import EuclideanEnergy as EuclideanEnergy
    from hopmin.memory.layered import LayeredMemory as LayeredMemory
    from hopmin.memory.memory import Lookup as Lookup
    from hopmin.memory.memory import Memory as Memory
    from hopmin.memory.nearest import nearest as nearest
    from hopmin.memory.nearest import separation as separation
    from hopmin.memory.nearest import within as within
    from hopmin.memory.reduction import Packed as Packed
    from hopmin.memory.retrieval import Retrieval as Retrieval
    from hopmin.memory.retrieval import retrieve as retrieve
    from hopmin.memory.sparse import EpanechnikovEnergy as EpanechnikovEnergy
    from hopmin.memory.sparse import SparseEnergy as SparseEnergy
    from hopmin.numerics import entmax as entmax
    from hopmin.numerics import log_softmax as log_softmax
    from hopmin.numerics import logsumexp as logsumexp
    from hopmin.numerics import softmax as softmax
    from hopmin.numerics import softmax_derivative as softmax_derivative
    from hopmin.numerics import tsallis_entropy as tsallis_entropy
    from hopmin.paper.certificates import certify as certify
    from hopmin.transformer.model import GPT as GPT
    from hopmin.transformer.model import GPTConfig as GPTConfig
    from hopmin.transformer.training import Trainer as Trainer

# Public name -> where it lives. Each module is imported when a name of it is first asked for.
_HOME = {
    "logsumexp": "numerics",
    "softmax": "numerics",
    "log_softmax": "numerics",
    "softmax_derivative": "numerics",
    "entmax": "numerics",
    "tsallis_entropy": "numerics",
    "DistanceEnergy": "memory.energy",
    "DotEnergy": "memory.energy",
    "EuclideanEnergy": "memory.energy",
    "SparseEnergy": "memory.sparse",
    "EpanechnikovEnergy": "memory.sparse",
    "HopfieldEnergy": "memory.binary",
    "PolynomialEnergy": "memory.binary",
    "ExponentialEnergy": "memory.binary",
    "retrieve": "memory.retrieval",
    "Retrieval": "memory.retrieval",
    "nearest": "memory.nearest",
    "within": "memory.nearest",
    "separation": "memory.nearest",
    "Packed": "memory.reduction",
    "LayeredMemory": "memory.layered",
    "certify": "paper.certificates",
    "Memory": "memory.memory",
    "Lookup": "memory.memory",
    "GPT": "transformer.model",
    "GPTConfig": "transformer.model",
    "Trainer": "transformer.training",
    "set_threads": "_threads",
    "get_threads": "_threads",
    "show_config": "_config",
}

__all__ = ["BACKEND", "__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hopmin' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"hopmin.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
