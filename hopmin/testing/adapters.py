"""Adapters at the edge: the laws speak NumPy, an implementation may speak PyTorch, JAX or any array API.

- find out which arrays an implementation takes, and convert them [`adapt`, `Adapted`]
- a function of one vector as a function of arrays [`one_by_one`]

Nothing is imported: the library is found from what the implementation returns for a probe, or, if it does not take
NumPy's arrays, among the modules that its own module has imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from hopmin.testing.compare import as_tuple, mapped
from hopmin.testing.registry import Family, NotJudged
from hopmin.testing.strategies import Array, asked_dtypes

KNOWN = ("torch", "jax.numpy", "cupy", "mlx.core", "dpnp", "array_api_strict")  # tried if they have been imported


class Adapted:
    """An implementation in another array library, called with NumPy arrays and returning them.

    Arrays inside of tuples, lists and dicts are converted too, and objects and functions that are returned are adapted.
    Arrays share memory where the library allows it, so that an implementation that changes its input is found out.

    Parameters
    ----------
    implementation : object
        A callable, a module or any other object.
    namespace : module or None
        Has `asarray`, such as `torch` or `jax.numpy`; None converts nothing.
    returned : list, optional
        Keeps the results before they are converted.
    strict : bool
        Whether an array that the library would store in another dtype is refused with `NotJudged`.
    """

    def __init__(
        self, implementation: Any, namespace: Any, returned: list[Any] | None = None, *, strict: bool = True
    ) -> None:
        self._implementation, self._namespace, self._strict = implementation, namespace, strict
        self._returned: list[Any] = [] if returned is None else returned

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the implementation with converted arguments, and convert the result back."""
        arguments, options = mapped(self._to, (arguments, options))
        result = self._implementation(*arguments, **options)
        self._returned.append(result)
        return mapped(self._back, result)

    def __getattr__(self, name: str) -> Any:
        return mapped(self._back, getattr(self._implementation, name))

    def __len__(self) -> int:
        return len(self._implementation)

    def __repr__(self) -> str:
        return repr(self._implementation)

    def _to(self, value: Any) -> Any:
        if isinstance(value, Adapted):
            return value._implementation
        converted = self._namespace is not None and isinstance(value, np.ndarray)
        return to_namespace(value, self._namespace, strict=self._strict) if converted else value

    def _back(self, value: Any) -> Any:
        if is_foreign(value):
            return to_numpy(value)
        plain = value is None or isinstance(value, np.ndarray | np.generic | str | bytes | int | float | type)
        return value if plain else Adapted(value, self._namespace, strict=self._strict)


def is_foreign(value: Any) -> bool:
    """Return whether a value is an array of a library other than NumPy."""
    own = isinstance(value, np.ndarray | np.generic | type | ModuleType)
    return not own and (hasattr(value, "__array_namespace__") or hasattr(value, "__dlpack__"))


def to_namespace(a: Array, namespace: Any, *, strict: bool = True) -> Any:
    """Return a NumPy array as an array of another library.

    Parameters
    ----------
    a : array
    namespace : module
        Has `asarray`.
    strict : bool
        Whether to refuse an array whose dtype would change.

    Returns
    -------
    array
        Of bfloat16 if that is judged and `a` is of float32.

    Raises
    ------
    NotJudged
        If the dtype would change.
    """
    a = a.astype(a.dtype.newbyteorder("="), copy=False)
    if not (a.flags.c_contiguous and a.flags.writeable) or min(a.strides, default=0) < 0:
        a = a.copy()  # what PyTorch cannot share, or only with a warning; a single element may have negative strides
    made = namespace.asarray(a)
    if "float" in a.dtype.name:
        if asked_dtypes() == ("bfloat16",) and a.dtype == np.float32:
            return _cast(made, namespace.bfloat16)
        if strict and not str(made.dtype).endswith(a.dtype.name):
            raise NotJudged(f"it needs {a.dtype.name}, which the implementation does not keep")
    return made


def to_numpy(value: Any) -> Array:
    """Return an array of another library as a NumPy array; one of bfloat16 as float32."""
    if hasattr(value, "detach"):  # PyTorch
        value = value.detach().cpu()
    if str(value.dtype).endswith("bfloat16"):
        return np.asarray(_cast(value, "float32"), np.float32)
    a = np.asarray(value)
    return np.from_dlpack(value) if a.dtype == object else a


def _cast(value: Any, dtype: Any) -> Any:
    if hasattr(value, "detach"):
        return value.float() if dtype == "float32" else value.to(dtype)
    return value.astype(dtype)


def adapt(implementation: Any, family: Family, *, batched: bool = True) -> tuple[Any, Any]:
    """Return the implementation as the laws call it, and what its family's probe makes of it.

    An implementation that takes and returns NumPy arrays is returned as it is.

    Parameters
    ----------
    implementation : object
        What is judged.
    family : Family
        What it is judged as.
    batched : bool
        False if it is a function of one vector; see `one_by_one`.

    Returns
    -------
    tuple of (implementation, object)

    Raises
    ------
    TypeError
        If it cannot be called as the family's signature says, in any of the libraries.
    """
    queue: list[Any] = [None]
    refusal = ""
    while queue:
        namespace = queue.pop(0)
        returned: list[Any] = []
        watched: Any = Adapted(implementation, namespace, returned, strict=False)
        called = watched if batched else one_by_one(watched, family.name)
        try:
            made = family.probe(called)
        except Exception as error:  # whatever an implementation raises for arrays that are not its own
            queue += _candidates(implementation) if namespace is None else []  # now, as the call may have imported them
            refusal = refusal or f"its call raises {type(error).__name__}: {' '.join(str(error).split())}"
            continue
        leaves: list[Any] = []
        mapped(leaves.append, returned)
        if returned and returned[0] is None:
            refusal = refusal or "its call returns None"
            continue
        other = next((_namespace(leaf) for leaf in leaves if is_foreign(leaf)), None)
        if namespace is None and other is not None:
            queue = [other, *(module for module in queue if module is not other)]
            continue
        judged = implementation if namespace is None else Adapted(implementation, namespace)
        if not batched:
            judged = one_by_one(judged, family.name)
        return judged, family.probe(judged) if namespace is None else made
    got = getattr(implementation, "__name__", None) or type(implementation).__name__
    raise TypeError(f"implementation must be {family.signature}; got {got}: {refusal}")


def keeps(implementation: Any, dtype: str) -> bool:
    """Return whether the arrays that an adapted implementation is called with can have a dtype."""
    namespace = getattr(implementation, "_namespace", None)
    if namespace is None:
        return dtype != "bfloat16"
    if dtype == "bfloat16":
        return hasattr(namespace, "bfloat16")
    try:
        return str(namespace.asarray(np.zeros(1, dtype)).dtype).endswith(dtype)
    except (TypeError, ValueError):
        return False


def _candidates(implementation: Any) -> list[Any]:
    """Return the array libraries that the implementation's own module has imported, and known ones that are loaded."""
    function = getattr(implementation, "func", implementation)  # of a functools.partial
    home = sys.modules.get(getattr(function, "__module__", None) or type(function).__module__)
    names = getattr(function, "__globals__", None) or vars(home or ModuleType("none"))
    own = [value for value in list(names.values()) if isinstance(value, ModuleType) and hasattr(value, "asarray")]
    known = [sys.modules[name] for name in KNOWN if name in sys.modules]
    return [module for module in dict.fromkeys([*own, *known]) if module is not np]


def _namespace(value: Any) -> Any:
    if hasattr(value, "__array_namespace__"):
        return value.__array_namespace__()
    return sys.modules[type(value).__module__.partition(".")[0]]


def one_by_one(implementation: Any, family: str) -> Any:
    """Return a function of arrays that calls a function of one vector for each vector.

    Parameters
    ----------
    implementation : callable
        A function of a vector (n,), for the families logsumexp, softmax and log_softmax; a function of one query (d,)
        and more for nearest; what returns an energy whose methods take one query, for energy.
    family : str
        The name of one of these families.

    Returns
    -------
    callable
    """
    if family in ("logsumexp", "softmax", "log_softmax"):
        return _along_an_axis(implementation)
    if family == "nearest":
        return _for_each_query(implementation)
    if family == "energy":
        return lambda beta: _Rows(implementation(beta))
    families = "logsumexp, softmax, log_softmax, nearest and energy"
    raise ValueError(f"batched must be True except for {families}; got False for {family}")


def _along_an_axis(function: Callable[[Array], Any]) -> Callable[..., Any]:
    def along(a: Array, axis: int | None = None) -> Any:
        if axis is not None:
            return np.apply_along_axis(function, axis, a)
        result = np.asarray(function(np.ravel(a)))
        return result.reshape(np.shape(a)) if result.ndim else result[()]

    return along


def _for_each_query(function: Callable[..., Any], paired: bool = False) -> Callable[..., Any]:
    def each(queries: Array, other: Any, *rest: Any) -> Any:
        if np.ndim(queries) == 1:
            return function(queries, other, *rest)
        rows = [function(x, other[i] if paired else other, *rest) for i, x in enumerate(queries)]
        stacked = tuple(np.stack(part) for part in zip(*map(as_tuple, rows), strict=True))
        return stacked if isinstance(rows[0], tuple) else stacked[0]

    return each


class _Rows:
    """An energy whose methods take one query each, called for all of them."""

    def __init__(self, energy: Any) -> None:
        self._energy = energy

    def __getattr__(self, name: str) -> Any:
        return _for_each_query(getattr(self._energy, name), paired=name == "guaranteed_decrease")
