"""Whatever the arguments, public functions raise ValueError or TypeError with a sentence of hopmin's, or return."""

import importlib
import inspect
import pkgutil
import re
import typing
import warnings

import numpy as np
import pytest

import hopmin
from hopmin.special import log_noncentral_chi2

PACKAGES = ("numerics", "special", "memory", "paper")
RAGGED = [[1.0, 2.0], [3.0]]
WILD = {
    "None": None, "an int": 3, "a negative float": -1.5, "a str": "a", "empty": [], "ragged": RAGGED, "bool": True,
    "objects": np.array([object(), None]), "complex": np.array([[1j]]), "NaN": np.nan, "infinity": np.inf,
    "a huge int": 10**400, "huge": np.full((2, 2), 1e300), "vector": np.arange(3.0), "matrix": np.eye(2),
    "words": np.array(["euclidean", "dot"]), "three axes": np.zeros((2, 2, 2)), "a dict": {}, "a type": int,
}  # fmt: skip
SENTENCE = re.compile(r"^[\w ,.\[\]]+ must [^\n]+$")
# Parts of the library that other parts call with arguments already checked
INTERNAL = ("memory.reduction.", "memory._allowed.", "memory._database.", "memory._packed_file.", "memory.memory.looked_up", "memory._directions.", "memory.retrieval.abbreviated", "memory.retrieval.shortened", *(f"memory.energy.{name}" for name in ("all_scores", "covariance", "half_square", "in_chunks", "scaled_softmax")))


def public_functions():
    """Yield the name of each public function and method, and a function of its arguments."""
    x = np.array([[0.2, 1.0], [-1.0, 1.0]])
    for module in pkgutil.walk_packages(hopmin.__path__, "hopmin."):
        if not any(re.match(rf"hopmin\.{package}\b", module.name) for package in PACKAGES) or "properties" in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if name.startswith("_") or getattr(value, "__module__", "") != module.name:
                continue
            if not (inspect.isclass(value) or inspect.isfunction(value)) or typing.get_origin(value):
                continue
            if inspect.isclass(value) and (issubclass(value, (tuple, dict, type)) or getattr(value, "_is_protocol", False)):
                continue
            yield f"{module.name}.{name}", value
            if name.endswith("Energy"):
                try:
                    energy = value()
                except TypeError:
                    continue
                for method, function in inspect.getmembers(energy, inspect.ismethod):
                    if not method.startswith("_"):
                        yield f"{module.name}.{name}.{method}", function
    memory = hopmin.Memory(x, values=np.arange(2.0))
    for method in ("add", "remove", "replace", "nearest", "within", "lookup", "retrieve", "update", "weights", "energies"):
        yield f"Memory.{method}", getattr(memory, method)


FUNCTIONS = {name: function for name, function in public_functions() if not name.removeprefix("hopmin.").startswith(INTERNAL)}


def example(name):
    """An argument that most functions accept under this name."""
    x = np.array([[0.2, 1.0], [-1.0, 1.0]])
    return {
        "queries": x, "patterns": np.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]]), "a": x, "X": x, "p": x[0], "u": x[0],
        "values": np.eye(3), "x": x, "anchor": x[0], "state": x[0],
    }.get(name, 1)  # fmt: skip


def complaint(function, arguments, options):
    """Return what is wrong with how the call fails, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            function(*arguments, **options)
    except (ValueError, TypeError) as error:
        sentence = str(error)
        if not SENTENCE.match(sentence):
            return f"{type(error).__name__}: {sentence}"
    except NotImplementedError:
        pass
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def calls(function):
    """Yield the name of an argument and of a wild value, and the call in which that argument has this value."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = [p for p in parameters if p.default is p.empty]
    positional = {p.name for p in parameters if p.kind == p.POSITIONAL_ONLY}
    for wild in parameters:
        for kind, value in WILD.items():
            if wild.name == "progress" and kind == "a type":
                continue  # a function, whose own error is raised
            given = {p.name: example(p.name) for p in required} | {wild.name: value}
            yield wild.name, kind, [given.pop(name) for name in [*given] if name in positional], given


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wild_arguments_raise_sentences(name):
    found = [
        f"{argument} = {kind}: {problem}"
        for argument, kind, arguments, options in calls(FUNCTIONS[name])
        if (problem := complaint(FUNCTIONS[name], arguments, options))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: hopmin.softmax(np.eye(2), axis=3), "axis must be None, an integer or a tuple of different integers from -2 to 1; got 3"),
        (lambda: hopmin.softmax_derivative(np.eye(2), [1.0, 2.0, 3.0]), "weights and direction must have shapes that broadcast to one; got (2, 2) and (3,)"),
        (lambda: hopmin.logsumexp([1.0], b=[[1.0, 2.0], [3.0]]), "b must be a rectangular array; got rows of different lengths"),
        (lambda: hopmin.nearest([[1.0]], [[1.0]], metric=np.array(["dot", "dot"])), "metric must be one of 'euclidean', 'dot', 'cosine'; got array(['dot', 'dot'], dtype='<U3')"),
        (lambda: hopmin.DistanceEnergy(np.eye(2)), "beta must be a finite number > 0; got array([[1., 0.], [0., 1.]])"),
        (lambda: hopmin.DistanceEnergy().guaranteed_decrease(RAGGED, RAGGED), "queries must be a rectangular array; got rows of different lengths"),
        (lambda: hopmin.LayeredMemory([np.eye(2)]).surrogate(np.eye(2), 1.0), "anchors must have the shape of queries, (2, 2), or (2,); got ()"),
        (lambda: log_noncentral_chi2(2, 1.0, [1e300]), "centres must be numbers at most 1e+12 / z, in a vector (n,); got shape (1,) and values up to 1e+300"),
        (lambda: hopmin.nearest([[1.0]], [[1.0]], 10**5000), "k must be an integer from 1 to 1; got a number too large for a float"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_told(call, sentence):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value) == sentence
