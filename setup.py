"""Builds the compiled parts for the stable ABI: core, layers, buffers. Everything else stands in pyproject.toml.

The extensions are optional: without a C compiler the install succeeds and hopmin runs on its NumPy twin. For those who
work on it, four variables, each "1" or absent:

    HOPMIN_SANITIZE   AddressSanitizer and UndefinedBehaviorSanitizer watch every access
    HOPMIN_DEBUG      indices are checked, nothing is optimised
    HOPMIN_PLAIN      no vectors, as for a compiler that has none
    HOPMIN_STRICT     warnings are errors
"""

import os
import sys
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

SANITIZE, DEBUG, PLAIN, STRICT = (
    os.environ.get(f"HOPMIN_{name}") == "1" for name in ("SANITIZE", "DEBUG", "PLAIN", "STRICT")
)

headers = sorted(glob("hopmin/_simd/*.h"))
core = Extension("hopmin._core", ["hopmin/_core.pyx"], depends=headers)
layers = Extension("hopmin._layers", ["hopmin/_layers.pyx"], depends=headers)
buffers = Extension("hopmin._buffers", ["hopmin/_buffers.pyx"])
for extension in (core, layers, buffers):
    extension.py_limited_api = True
    extension.define_macros = [("Py_LIMITED_API", "0x030B0000")] + PLAIN * [("PLAIN", "1")]
    if sys.platform == "win32":
        continue
    # no fused multiply-add but where the tile asks for one: exact scores are rounded after each operation
    extension.extra_compile_args = ["-ffp-contract=off", "-O0" if DEBUG else "-O1" if SANITIZE else "-O3"]
    extension.extra_compile_args += ["-g" if DEBUG or SANITIZE else "-g0"]
    extension.extra_compile_args += ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"] * STRICT
    if SANITIZE:
        extension.extra_compile_args += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        extension.extra_link_args = ["-fsanitize=address,undefined"]
checks = dict.fromkeys(["boundscheck", "wraparound", "initializedcheck"], DEBUG)
directives = {**checks, "cdivision": not DEBUG, "autotestdict": False}
extensions = cythonize([core, layers, buffers], language_level=3, compiler_directives=directives, force=DEBUG)
for extension in extensions:
    extension.optional = True  # set here: cythonize() forgets it

setup(ext_modules=extensions, options={"bdist_wheel": {"py_limited_api": "cp311"}})
