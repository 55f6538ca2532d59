"""All public objects have docstrings; functions with more than two parameters have them in numpydoc form."""

import importlib
import inspect
import pkgutil
import re

import pytest
from numpydoc.validate import validate

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
    """The public parameters that a call of the object takes, without self; none of a property."""
    value = getattr(value, "__func__", value)  # of class methods and static methods
    if not callable(value) or (inspect.isclass(value) and issubclass(value, tuple)):  # named tuples list their fields
        return []
    try:
        names = inspect.signature(value).parameters
    except ValueError:  # a class that is a plain exception or a type alias has no signature
        return []
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


@pytest.mark.parametrize(("name", "value"), OBJECTS, ids=[name for name, _ in OBJECTS])
def test_public_objects_say_what_they_do(name, value):
    doc = inspect.getdoc(value)
    assert doc, f"{name} has no docstring"
    assert not RIDDLES.match(doc), f"{name} opens with {doc.split()[0]!r}"


# The docstrings of laws and properties are statements; the module docstrings explain the arguments.
STATEMENTS = ("hopmin.paper.properties.", "hopmin.testing.laws.")
LONG = [(name, value) for name, value in OBJECTS if len(parameters(value)) > 2 and not name.startswith(STATEMENTS)]


@pytest.mark.parametrize(("name", "value"), LONG, ids=[name for name, _ in LONG])
def test_functions_of_many_parameters_have_sections(name, value):
    found = validate(name)
    errors = dict(found["errors"])
    if inspect.isclass(value):  # a class that holds results lists attributes, in an order of its own
        attributes = inspect.getdoc(value).partition("Attributes\n-----")[2]
        if all(re.search(rf"\b{parameter}\b", attributes) for parameter in parameters(value)):
            errors.pop("PR01", None)
        errors.pop("PR03", None)
    assert not CHECKS & errors.keys(), "\n".join(f"{code}: {errors[code]}" for code in CHECKS & errors.keys())
