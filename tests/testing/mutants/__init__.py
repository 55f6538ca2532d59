"""Wrong implementations, each with the law that must reject it, and right ones that no law may reject.

A module for each family, or for a few of them, has

    RIGHT = {"in plain NumPy": softmax}                      # judged by all laws of the family that the module is named after
    MUTANTS = {"no shift": Mutant(naive, law="law_accuracy", origin="natural")}

and, if needed, `FAMILY`, the family that its implementations belong to; `PROMISES` and `FAILS`, what right
implementations promise and which laws do not hold for them, by their names.
"""

import importlib
import pkgutil
from typing import Any, NamedTuple


class Mutant(NamedTuple):
    """A wrong implementation, the name of the law that must reject it, and where the mistake was seen."""

    implementation: Any
    law: str
    origin: str  # a public reference such as "minGPT #75", or "natural"
    dtype: str | None = None  # that it is judged with, if not with the default


def modules():
    """Return the modules by family."""
    found = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return {getattr(module, "FAMILY", module.__name__.rpartition(".")[2]): module for module in found}
