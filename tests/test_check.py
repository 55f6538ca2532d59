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

PACKAGES = ("numerics", "special", "memory", "paper")
RAGGED = [[1.0, 2.0], [3.0]]
WILD = {
    "None": None, "an int": 3, "a negative float": -1.5, "a str": "a", "empty": [], "ragged": RAGGED, "bool": True,
    "objects": np.array([object(), None]), "complex": np.array([[1j]]), "NaN": np.nan, "infinity": np.inf,
    "a huge int": 10**400, "huge": np.full((2, 2), 1e300), "vector": np.arange(3.0), "matrix": np.eye(2),
    "words": np.array(["euclidean", "dot"]), "three axes": np.zeros((2, 2, 2)), "a dict": {}, "a type": int,
}  # fmt: skip
SENTENCE = re.compile(r"^[\w ,.]+ must [^\n]+$")
# Parts of the library that other parts call with arguments already checked
INTERNAL = ("memory.reduction.", "memory.energy.covariance", "memory.energy.in_chunks", "memory.energy.all_scores", "memory.energy.half_square", "memory.energy.scaled_softmax")


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


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wild_arguments_raise_sentences(name):
    function = FUNCTIONS[name]
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    found = []
    for wild in parameters:
        for kind, value in WILD.items():
            arguments = [
                value if p is wild else example(p.name)
                for p in parameters
                if p.kind != p.KEYWORD_ONLY and (p is wild or p.default is p.empty)
            ]
            # an optional positional argument before the wild one would shift it
            options = {}
            if wild.kind == wild.KEYWORD_ONLY or wild.default is not wild.empty:
                arguments = [example(p.name) for p in parameters if p.kind != p.KEYWORD_ONLY and p.default is p.empty]
                options = {wild.name: value}
            options |= {p.name: example(p.name) for p in parameters if p.kind == p.KEYWORD_ONLY and p.default is p.empty and p is not wild}
            if problem := complaint(function, arguments, options):
                found.append(f"{wild.name} = {kind}: {problem}")
    assert found == []
