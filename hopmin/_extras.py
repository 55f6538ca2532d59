"""Optional libraries: a missing one raises an error with the command that installs it [`needed_by`]."""

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtra(ModuleNotFoundError):
    """A library of an extra is not installed."""


@contextmanager
def needed_by(what: str, extra: str) -> Iterator[None]:
    """Raise `MissingExtra` with one sentence if an import in the `with` block finds no such library."""
    try:
        yield
    except ModuleNotFoundError as error:
        library = str(error.name).partition(".")[0]
        command = f'python -m pip install "hopmin[{extra}]"'
        raise MissingExtra(f"{what} needs {library}: {command}", name=library) from None
