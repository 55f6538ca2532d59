"""Docstrings of public objects: there for all, and in numpydoc form for functions with more than two parameters."""

import importlib
import inspect
import pkgutil
import re

import pytest

import hopmin

MODULES = [
    module.name
    for module in pkgutil.walk_packages(hopmin.__path__, "hopmin.")
    if not any(part.startswith("_") for part in module.name.split("."))
]
CHECKS = {
    "GL07",  # sections in the wrong order
    "GL08",  # no docstring
    "PR01",  # parameters that are not documented
    "PR02",  # parameters that do not exist
    "PR03",  # parameters in the wrong order
    "PR10",  # no space before the colon of a parameter
    "RT01",  # no Returns section
    "SS03",  # a summary without a full stop
    "SS06",  # a summary of several lines
}
RIDDLES = re.compile(r"^(What|Who|Whether|How|Which|Where)\b")


def public_objects():
    """(name, object) of the public classes, functions, methods and properties that are defined in hopmin's modules."""
    for name in MODULES:
        module = importlib.import_module(name)
        for key, value in vars(module).items():
            if key.startswith("_") or getattr(value, "__module__", None) != name:
                continue
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{name}.{key}", value
            if inspect.isclass(value):
                for method, member in vars(value).items():
                    if not method.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
                        yield f"{name}.{key}.{method}", member


OBJECTS = sorted(public_objects())


def parameters(value):
    """The parameters that a call of the object takes, without self; none of a property."""
    value = getattr(value, "__func__", value)  # of class methods and static methods
    if not callable(value) or (inspect.isclass(value) and issubclass(value, tuple)):  # named tuples list their fields
        return []
    return [name for name in inspect.signature(value).parameters if name not in ("self", "cls")]


@pytest.mark.parametrize(("name", "value"), OBJECTS, ids=[name for name, _ in OBJECTS])
def test_public_objects_say_what_they_do(name, value):
    doc = inspect.getdoc(value)
    assert doc, f"{name} has no docstring"
    assert not RIDDLES.match(doc), f"{name} opens with {doc.split()[0]!r}"


LONG = [(name, value) for name, value in OBJECTS if len(parameters(value)) > 2]


@pytest.mark.parametrize(("name", "value"), LONG, ids=[name for name, _ in LONG])
def test_functions_of_many_parameters_have_numpydoc_sections(name, value):
    validate = pytest.importorskip("numpydoc.validate").validate
    errors = [f"{code}: {text}" for code, text in validate(name)["errors"] if code in CHECKS]
    assert not errors, "\n".join(errors)
