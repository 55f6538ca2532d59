"""Text is run: docstrings, chapters, the README, and the scripts that draw the figures."""

import doctest
import importlib
import pkgutil
import re
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import hopmin

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(module.name for module in pkgutil.walk_packages(hopmin.__path__, "hopmin."))
CHAPTERS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LONG = {"certified.py", "noise.py"} if hopmin.BACKEND == "numpy" else set()  # which retrieve for minutes on the twin
FIGURES = [
    pytest.param(path, id=path.name, marks=[pytest.mark.slow] * (path.name in LONG))
    for path in sorted((ROOT / "docs" / "figures").glob("*.py"))
]
NEEDS = {"pretrained.md": "gguf"}  # what the examples of a chapter import beside the libraries of the tests
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(("_core", "__main__"))])
def test_docstrings(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=FLAGS).failed == 0


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_chapters(path):
    pytest.importorskip(NEEDS.get(path.name, "hopmin"))
    assert doctest.testfile(str(path), module_relative=False, optionflags=FLAGS).failed == 0


@pytest.mark.parametrize("path", FIGURES)
def test_figures_are_drawn(path, tmp_path, monkeypatch):
    out = tmp_path / "figure.svg"
    monkeypatch.setattr(sys, "argv", [str(path), str(out)])
    runpy.run_path(str(path), run_name="__main__")
    assert ElementTree.parse(out).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert path.with_suffix(".svg").exists(), "the drawn figure is kept beside its script"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", prose):
        if "://" not in target:
            assert (path.parent / target).exists(), target
