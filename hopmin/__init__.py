"""hopmin: transformers understood as associative memories.

The modules in reading order:

    numerics                  LogSumExp, softmax, entmax and their derivatives
    special                   special functions of SciPy that are needed without SciPy

    memory.reduction          the pass over the patterns that all results are computed from
    memory.energy             energies over R^d: value, gradient, weights and update
    memory.sparse             energies whose weights can be exactly zero
    memory.binary             binary energies: Hopfield 1982, Krotov-Hopfield 2016, Demircigil 2017
    memory.retrieval          retrieval: repeat the update until the state stops moving
    memory.nearest            exact nearest neighbours, the limit of infinite beta
    memory.beta               values of beta for given patterns
    memory.layered            layers of patterns with a global energy
    memory.memory             Memory: a store of patterns and values

    data.corpus               text corpora, divided into rows of tokens
    data.question_formation   a synthetic language of known entropy
    data.tokenizers           tokenizers: characters, words, bytes, byte pair encodings
    data.token_files          text and tokens larger than RAM
    data.open                 open a corpus by name

    transformer.layers        layers, forward and backward
    transformer.model         GPT
    transformer.generation    sampling tokens, with a cache of keys and values
    transformer.decoding      compiled generation of one token at a time
    transformer.training      AdamW, learning rate schedule, gradient clipping, Trainer
    transformer.data_parallel gradients of a batch, computed in parallel parts
    transformer.llama         Llama, forward only
    transformer.pretrained    GPT-2 and Llama models from files (needs hopmin[pretrained])

    paper.capacity            capacities, and the margins at which retrieval is exact
    paper.certificates        certificates that given patterns are stored
    paper.density             partition functions, mixtures and cross-entropy
    paper.scaling             relations between model size and data size
    paper.claims              the statements of the paper, each with a check

    study.grid                train transformers of several sizes on several amounts of data
    study.measure             measure a trained transformer as an associative memory
    study.figures             figures of a study (needs hopmin[study])
    study.report              results as JSON, SVG and HTML (needs hopmin[study])

    sklearn                   Memory as estimators for scikit-learn (needs hopmin[sklearn])
    testing                   property-based tests for any implementation (needs hopmin[testing])
    cli                       the hopmin command

Shape letters, used throughout: n patterns, m queries, d dimensions, v value dimensions, k neighbours, L layers; in the
transformer B batch, T positions, D width, H heads, E = D/H width of a head, V vocabulary. Rows are vectors: patterns
(n, d), queries (m, d). Wherever queries (m, d) are accepted, a single query (d,) is too; the result then lacks the axis
of length m.

Energies and entropies are in nats, distances are Euclidean. float32 in, float32 out; float64 in, float64 out; integers
become float64. Inputs are never modified. Randomness is an explicit argument `rng`, a numpy Generator or a seed.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from hopmin._backend import BACKEND as BACKEND
from hopmin._version import __version__ as __version__

if TYPE_CHECKING:
    from hopmin._config import show_config as show_config
    from hopmin._threads import get_threads as get_threads
    from hopmin._threads import set_threads as set_threads
    from hopmin.memory.beta import suggest_beta as suggest_beta
    from hopmin.memory.binary import ExponentialEnergy as ExponentialEnergy
    from hopmin.memory.binary import HopfieldEnergy as HopfieldEnergy
    from hopmin.memory.binary import PolynomialEnergy as PolynomialEnergy
    from hopmin.memory.energy import DistanceEnergy as DistanceEnergy
    from hopmin.memory.energy import DotEnergy as DotEnergy
    from hopmin.memory.energy import EuclideanEnergy as EuclideanEnergy
    from hopmin.memory.layered import LayeredMemory as LayeredMemory
    from hopmin.memory.memory import Lookup as Lookup
    from hopmin.memory.memory import Memory as Memory
    from hopmin.memory.memory import Neighbours as Neighbours
    from hopmin.memory.nearest import nearest as nearest
    from hopmin.memory.nearest import separation as separation
    from hopmin.memory.nearest import within as within
    from hopmin.memory.reduction import Packed as Packed
    from hopmin.memory.retrieval import Retrieval as Retrieval
    from hopmin.memory.retrieval import retrieve as retrieve
    from hopmin.memory.sparse import EpanechnikovEnergy as EpanechnikovEnergy
    from hopmin.memory.sparse import SparseEnergy as SparseEnergy
    from hopmin.memory.store import Store as Store
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

# The module of each public name, imported when the name is first used.
_MODULES = {
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
    "suggest_beta": "memory.beta",
    "Packed": "memory.reduction",
    "LayeredMemory": "memory.layered",
    "certify": "paper.certificates",
    "Memory": "memory.memory",
    "Lookup": "memory.memory",
    "Neighbours": "memory.memory",
    "Store": "memory.store",
    "GPT": "transformer.model",
    "GPTConfig": "transformer.model",
    "Trainer": "transformer.training",
    "set_threads": "_threads",
    "get_threads": "_threads",
    "show_config": "_config",
}

__all__ = ["BACKEND", "__version__", *_MODULES]


if not TYPE_CHECKING:  # so that type checkers report names that do not exist

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(f"module 'hopmin' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"hopmin.{_MODULES[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
