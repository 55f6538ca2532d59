"""Docstrings, chapters and the README pass as doctests, figure scripts run, and links are valid."""

import doctest
import importlib
import pkgutil
import re
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers import EXTRAS

import hopmin

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(module.name for module in pkgutil.walk_packages(hopmin.__path__, "hopmin."))
CHAPTERS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [
    *CHAPTERS,
    *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "examples/README.md")),
]
LONG = {"certified.py", "noise.py"} if hopmin.BACKEND == "numpy" else set()  # takes minutes on the NumPy twin
FIGURES = [
    pytest.param(path, id=path.name, marks=[pytest.mark.slow] * (path.name in LONG))
    for path in sorted((ROOT / "docs" / "figures").glob("*.py"))
]
NEED_AN_EXTRA = {  # the modules of hopmin that import an optional library when they are imported
    "hopmin.sklearn": "sklearn", "hopmin.study.figures": "study", "hopmin.study.report": "study",
    "hopmin.testing": "testing", "hopmin.testing.laws": "testing", "hopmin.testing.strategies": "testing",
}  # fmt: skip
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(("_core", "__main__"))])
def test_docstrings(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=FLAGS).failed == 0


def extras(path):
    """Return the extras that a page says its examples need: a chapter at the end of its header, the README anywhere."""
    text = path.read_text(encoding="utf-8")
    header = re.search(r"^Modules?: .*?(?=\n\n)", text, flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(r"need\s+the\s+extra\s+`(\w+)`", header[0] if header else text))


def hide(monkeypatch, extras):
    """Make imports of the libraries of these extras fail."""
    libraries = {library for extra in extras for library in EXTRAS[extra]}
    if "sklearn" not in extras:
        libraries -= {"scipy"}  # scikit-learn needs it too
    for name in {*libraries, *(name for name in sys.modules if name.split(".")[0] in libraries)}:
        monkeypatch.setitem(sys.modules, name, None)
    hidden = {name for name, extra in NEED_AN_EXTRA.items() if extra in extras} & sys.modules.keys()
    for name in sorted(hidden, reverse=True):  # modules before their packages
        parent, _, child = name.rpartition(".")
        monkeypatch.delattr(sys.modules[parent], child)
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_chapters(path, monkeypatch):
    """The examples use no optional library but those of the extras that the page names."""
    stated = extras(path)
    for library in (library for extra in stated for library in EXTRAS[extra]):
        pytest.importorskip(library)
    hide(monkeypatch, EXTRAS.keys() - stated)
    assert doctest.testfile(str(path), module_relative=False, optionflags=FLAGS).failed == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", FIGURES)
def test_figures_are_drawn(path, tmp_path, monkeypatch):
    out = tmp_path / "figure.svg"
    monkeypatch.setattr(sys, "argv", [str(path), str(out)])
    runpy.run_path(str(path), run_name="__main__")
    assert ElementTree.parse(out).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    committed = path.with_suffix(".svg")
    assert committed.exists(), "the figure is committed next to its script"
    assert words(committed) == words(out), "the committed figure is the one that the script draws"


def words(figure):
    """Return the labels of a figure; matplotlib draws them as paths and adds their text as comments."""
    return {
        text
        for text in re.findall(r"<!-- (.*?) -->", figure.read_text(encoding="utf-8"))
        if re.search("[a-z]{2}", text)
    }


def test_the_time_of_a_study_is_the_same_everywhere():
    pages = [ROOT / name for name in ("README.md", "docs/README.md", "docs/study.md", "hopmin/cli.py")]
    times = {page.name: re.findall(r"within (\w+)\s+minutes", page.read_text(encoding="utf-8")) for page in pages}
    assert all(times.values()), times
    assert len(set().union(*times.values())) == 1, times


def without_code(path):
    return re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(path):
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", without_code(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(path)):
        if "://" not in link:
            file, _, anchor = link.partition("#")
            target = path.parent / file if file else path
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
