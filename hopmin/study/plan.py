"""What a study runs: its settings [`Settings`], the experiments [`experiments`], and their cells [`plan`].

An experiment is one module of `hopmin/study/experiments/`. The first paragraph of its docstring is the question, the
second says what each outcome would mean, and it defines

- METHOD, PAPER, CONTROL, CAVEATS: one or two sentences each, for the report
- NUMBER: its place in the report, and TEXT: whether it also runs on a text of unknown entropy
- cells(settings): the configurations to run, as JSON objects that hold everything `run` needs
- cost(cell): what a cell takes
- run(cell, progress): the record of a cell, a JSON object; it depends on the cell alone
- findings(records): numbers with intervals [`Finding`], the first of which answers the question
- table(records): the measurements behind the findings, as rows of one header
- panels(records): the figures [`Panel`]

A new file in that folder is a new experiment.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, get_args

from hopmin import _check
from hopmin.study import experiments as package

FORMAT = 2  # of cells and records: a change of what `run` returns needs a new number
Cell: TypeAlias = dict[str, Any]
Record: TypeAlias = dict[str, Any]
Progress: TypeAlias = Callable[[float, str], None]  # the fraction done, and what is being done
Preset = Literal["smoke", "quick", "standard", "paper"]


@dataclass(frozen=True)
class Settings:
    """The settings of a study.

    Parameters
    ----------
    preset : {"smoke", "quick", "standard", "paper"}
        Sizes: to test that everything runs, for every figure within minutes, for conclusions, or those of the papers.
    corpus : str
        "question-formation", or the path of a text or of a file of tokens.
    seed : int
        The first seed.
    seeds : int, optional
        Number of seeds where a conclusion depends on them; by default 1 for smoke and quick, 3 for standard and paper.
    pretrained : str, optional
        A pretrained model that takes part, as `hopmin.study.pretrained.installed` names it; by default none does.

    Raises
    ------
    ValueError, TypeError
        If the preset is unknown or a number is out of range.
    """

    preset: Preset = "quick"
    corpus: str = "question-formation"
    seed: int = 0
    seeds: int | None = None
    pretrained: str | None = None

    def __post_init__(self) -> None:
        _check.choice("preset", self.preset, get_args(Preset))
        _check.integer("seed", self.seed, 0)
        if self.seeds is not None:
            _check.integer("seeds", self.seeds)

    @property
    def all_seeds(self) -> range:
        """The seeds, from `seed` on."""
        count = self.seeds or (3 if self.preset in ("standard", "paper") else 1)
        return range(self.seed, self.seed + count)

    @property
    def grammar(self) -> bool:
        """True if the corpus is drawn from the grammar of Question Formation, so that its entropy is known."""
        return self.corpus == "question-formation"


class Cost(NamedTuple):
    """The work of a cell: training on `tokens` tokens of a model with `parameters` parameters, and other work.

    `seconds` is the time of the other work on the machine of the README.
    """

    parameters: int = 0
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Finding:
    """A result of an experiment: a number with an interval, and a sentence.

    Attributes
    ----------
    id : str
        Name of the finding, unique in its experiment.
    text : str
        The sentence, which contains the number.
    value : float or None
        The number; None if the records do not determine it.
    low, high : float or None
        Its 95% interval; None where no interval can be given, as for a single seed.
    n : int
        Number of observations behind it.
    expected : str
        What the paper, theory or the control predicts.
    """

    id: str
    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    expected: str = ""


class Panel(NamedTuple):
    """A figure of a report: its title, a text for those who cannot see it, and the drawing (a matplotlib Figure)."""

    title: str
    alt: str
    figure: Any


class Experiment(Protocol):
    """The contents of an experiment's module; see the top of this module."""

    __name__: str
    __doc__: str | None
    NUMBER: int
    TEXT: bool
    METHOD: str
    PAPER: str
    CONTROL: str
    CAVEATS: str

    def cells(self, settings: Settings) -> list[Cell]:
        """Return the configurations to run."""
        ...

    def cost(self, cell: Cell) -> Cost:
        """Return the work of a cell."""
        ...

    def run(self, cell: Cell, progress: Progress) -> Record:
        """Return the record of a cell, which depends on the cell alone."""
        ...

    def findings(self, records: Sequence[Record]) -> list[Finding]:
        """Return the findings, the first of which answers the question; any part of the records has some."""
        ...

    def table(self, records: Sequence[Record]) -> tuple[list[str], list[list[Any]]]:
        """Return the header and the rows of the measurements."""
        ...

    def panels(self, records: Sequence[Record]) -> list[Panel]:
        """Return the figures."""
        ...


@cache
def experiments() -> dict[str, Experiment]:
    """Return the experiments by name, in the order of the report."""
    found: dict[str, Any] = {
        module.name: import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    }
    return dict(sorted(found.items(), key=lambda item: item[1].NUMBER))


def question(experiment: Experiment) -> str:
    """Return the question of an experiment: the first paragraph of its docstring."""
    return " ".join((experiment.__doc__ or "").partition("\n\n")[0].split())


def outcomes(experiment: Experiment) -> str:
    """Return what each outcome of an experiment would mean: the second paragraph of its docstring."""
    return " ".join((experiment.__doc__ or "").split("\n\n")[1].split())


class Job(NamedTuple):
    """A cell of an experiment."""

    experiment: str
    cell: Cell

    @property
    def key(self) -> str:
        """A hash of the configuration, by which a journal knows the record."""
        text = json.dumps([FORMAT, self.experiment, self.cell], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def plan(settings: Settings, names: Sequence[str] = ()) -> list[Job]:
    """Return the cells of the named experiments, or of all that can run on the corpus.

    Parameters
    ----------
    settings : Settings
    names : sequence of str
        Names of experiments.

    Returns
    -------
    list of Job
        In the order of the report.

    Raises
    ------
    ValueError
        If there is no experiment of a name, or it needs the grammar and the corpus is another.
    """
    available = experiments()
    for name in names:
        _check.choice("experiment", name, available)
        if not (settings.grammar or available[name].TEXT):
            raise ValueError(f"corpus must be question-formation for experiment {name!r}; got {settings.corpus}")
    chosen = [name for name, e in available.items() if (name in names if names else settings.grammar or e.TEXT)]
    return [Job(name, cell) for name in chosen for cell in available[name].cells(settings)]
