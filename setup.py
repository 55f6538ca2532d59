"""Builds the compiled core as one stable-ABI module. Everything else stands in pyproject.toml.

The extension is optional: without a C compiler the install succeeds and hopmin runs on its NumPy twin.
"""

import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

core = Extension(
    "hopmin._core", ["hopmin/_core.pyx"], depends=["hopmin/_tile.h", "hopmin/_tiles.h"], define_macros=[("Py_LIMITED_API", "0x030B0000")], py_limited_api=True
)
if sys.platform != "win32":
    # no fused multiply-add: it rounds (x - p)^2 differently on either side of a sum, and breaks ties that are exact
    core.extra_compile_args = ["-O3", "-ffp-contract=off"]
(core,) = cythonize([core], language_level=3)
core.optional = True  # set here: cythonize() forgets it

setup(ext_modules=[core], options={"bdist_wheel": {"py_limited_api": "cp311"}})
