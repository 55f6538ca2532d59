"""Write what docs say about laws and mutants from the registry and from `mutants`: python tests/testing/tables.py"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import mutants  # noqa: E402

from hopmin import testing  # noqa: E402, F401 - registers the laws
from hopmin.testing.registry import FAMILIES  # noqa: E402

CHAPTER, MUTANTS = ROOT / "docs/testing.md", ROOT / "docs/mutants.md"
BEGIN, END = "<!-- laws: written by tests/testing/tables.py -->", "<!-- end of laws -->"


def cell(text):
    return " ".join(text.split()).replace("|", r"\|")


def needs(law, family):
    """What a law needs beside the implementation itself."""
    attributes = [f"`.{part}`" for part in law.parts if part != family.subject]
    methods = [f"`{need}`" for need in law.needs]
    promises = [f"promise of {promise}" for promise in law.promises]
    return ", ".join([*attributes, *methods, *promises])


def laws_table():
    """Return a table of laws for each family, in Markdown."""
    lines = [BEGIN]
    for family in FAMILIES.values():
        lines += ["", f"**{family.name}**: `{family.signature}`", "", cell(family.description), ""]
        if family.laws:
            lines += ["| law | needs | states |", "| --- | --- | --- |"]
        lines += [f"| `{law.__name__}` | {needs(law, family)} | {cell(law.__doc__)} |" for law in family.laws]
    return "\n".join([*lines, "", END])


def with_laws(chapter):
    """Return the text of the chapter with the tables in their place."""
    return re.sub(f"{BEGIN}.*{END}", lambda _: laws_table(), chapter, flags=re.DOTALL)


def mutants_page():
    """Return the page of mutants, in Markdown."""
    modules = mutants.modules()
    count = sum(len(module.MUTANTS) for module in modules.values())
    lines = [
        "# Mutants", "",
        f"These {count} implementations are wrong, most by one to three lines. Each is rejected by the law beside it, at the",
        "default number of examples; [`tests/testing/test_mutants.py`](../tests/testing/test_mutants.py) checks it, with",
        "20 seeds when slow tests are run. The origin is a public project where the mistake was seen, or natural: one",
        "that a reader of the formula may make. The implementations are in",
        "[`tests/testing/mutants/`](../tests/testing/mutants/); [the chapter on laws](testing.md) explains what a law is.",
        "`python tests/testing/tables.py` writes this page.",
    ]  # fmt: skip
    for family, module in modules.items():
        lines += ["", f"## {family}", "", "| mutant | rejected by | origin |", "| --- | --- | --- |"]
        lines += [f"| {cell(name)} | `{m.law}` | {cell(m.origin)} |" for name, m in module.MUTANTS.items()]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    CHAPTER.write_text(with_laws(CHAPTER.read_text(encoding="utf-8")), encoding="utf-8")
    MUTANTS.write_text(mutants_page(), encoding="utf-8")
