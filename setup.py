"""Build the compiled modules, for Python's stable ABI; everything else is in pyproject.toml.

The extensions are optional: without a C compiler the installation succeeds, and hopmin uses their NumPy twins. For
development there are four environment variables, each "1" or unset:

    HOPMIN_SANITIZE   build with AddressSanitizer and UndefinedBehaviorSanitizer
    HOPMIN_DEBUG      check indices, and do not optimise
    HOPMIN_PLAIN      use no vector extensions, as with a compiler that has none
    HOPMIN_STRICT     treat compiler warnings, and an extension that does not compile, as errors
"""

import os
import sys
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup


def option(name):
    return os.environ.get(f"HOPMIN_{name}") == "1"


SANITIZE, DEBUG, PLAIN, STRICT = map(option, ("SANITIZE", "DEBUG", "PLAIN", "STRICT"))

macros = [("Py_LIMITED_API", "0x030B0000")]  # Python 3.11 and later
if PLAIN:
    macros.append(("PLAIN", "1"))

compile_args, link_args = [], []
if sys.platform != "win32":
    compile_args.append("-ffp-contract=off")  # no fused multiply-add: exact scores are rounded after each operation
    compile_args.append("-fno-math-errno")  # a square root is one instruction
    compile_args.append("-O0" if DEBUG else "-O1" if SANITIZE else "-O3")
    compile_args.append("-g" if DEBUG or SANITIZE else "-g0")
    if STRICT:
        compile_args += ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]
    if SANITIZE:
        compile_args += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        link_args.append("-fsanitize=address,undefined")

extensions = cythonize(
    [
        Extension(
            f"hopmin.{name}",
            [f"hopmin/{name}.pyx"],
            depends=sorted(glob("hopmin/_simd/*.h")),
            define_macros=macros,
            extra_compile_args=compile_args,
            extra_link_args=link_args,
            py_limited_api=True,
        )
        for name in ("_core", "_layers", "_buffers")
    ],
    language_level=3,
    compiler_directives={
        "boundscheck": DEBUG,
        "wraparound": DEBUG,
        "initializedcheck": DEBUG,
        "cdivision": not DEBUG,
        "autotestdict": False,  # no __test__ in the modules: the NumPy twins have the docstrings
    },
    force=DEBUG,
)
for extension in extensions:
    extension.optional = not STRICT  # not passed on by cythonize()

setup(ext_modules=extensions, options={"bdist_wheel": {"py_limited_api": "cp311"}})
