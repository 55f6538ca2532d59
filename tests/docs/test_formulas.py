r"""Formulas are written so that GitHub and MyST both show them.

GitHub's Markdown looks inside `$...$`: it drops the backslash of `\,` and `\{`, and takes `*` and `_` for emphasis. It
leaves fences with the language `math` alone, so displayed formulas stand in these.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "benchmarks", "examples", "hopmin") for page in (ROOT / folder).rglob("*.md")),
    ]
)

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", flags=re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?s)(.?)\$([^$]+)\$(?=(.?))")
ANYWHERE = {
    "a macro that GitHub refuses": r"\\(operatorname|def|newcommand|require|href)\b",
    "a tag of HTML": r"<\S",
}
IN_TEXT = ANYWHERE | {
    "a backslash before punctuation": r"\\[!-/:-@\[-`{-~]",
    "a line break": r"\n",
    "a space at an end": r"^\s|\s$",
    "emphasis, deletion or code": r"[*~`]",
    "a link": r"\]\(",
}


def faults(text):
    """Yield what GitHub would show wrongly in a page of Markdown, each as (fault, formula)."""
    for language, formula in FENCE.findall(text):
        if language == "math":
            yield from ((name, formula) for name, fault in ANYWHERE.items() if re.search(fault, formula))
    text = re.sub(r"(`+)[^`].*?\1", "``", FENCE.sub("", text))
    for block in re.split(r"\n\s*\n|\n(?=\|)", text):  # a formula ends with its paragraph or its row of a table
        if "$$" in block:
            yield "a displayed formula outside a fence", block
        elif block.count("$") % 2:
            yield "a dollar without a partner", block
        elif "$" in block:
            for before, formula, after in INLINE.findall(block):
                yield from ((name, formula) for name, fault in IN_TEXT.items() if re.search(fault, formula))
                if not re.fullmatch(r"[\s(]?", before):
                    yield f"{before} before the formula", formula
                if re.fullmatch(r"[\w*$]", after):
                    yield f"{after} after the formula", formula
                if block.startswith("|") and "|" in formula:
                    yield "the border of a cell", formula
            if emphasis := re.search(r"(?s)(?<!\w)_(?=\S).+?(?<=\S)_(?!\w)", block):
                yield "emphasis between underscores", emphasis[0]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_formulas_are_shown(path):
    assert not list(faults(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "text",
    [
        r"the set $\{1, 2\}$",
        r"an integral $f(x)\,dx$",
        r"half of it, $50\%$",
        r"the $r$th power",
        r"a name$x$",
        r"-$x$",
        r"a $ x $ with spaces",
        "a sum $a +\nb$",
        r"the conjugates $a^*$ and $b^*$",
        r"*a rate of $x$* at most",
        r"a code $`x`$",
        r"a value $E[x](t)$",
        r"a bound $a<b$",
        r"two bars, $\bar{x}_i$ and $x_{i}$",
        r"a function $\operatorname{erf}(x)$",
        r"prices of $5, or less",
        "text\n$$x$$\nmore text",
        "$$\nx\n$$",
        "| a | b |\n|---|---|\n| $|x|$ | 1 |",
        "```math\n\\operatorname{erf}(x)\n```",
        "- item\n\n  ```math\n  a<b\n  ```",
    ],
)
def test_faulty_formulas_are_found(text):
    assert list(faults(text))


@pytest.mark.parametrize(
    "text",
    [
        r"The update is $T(x) = \sum_i p_i \rho_i$, a mean ($p$ sums to 1).",
        r"Where $a < b$ and $c_{ij} \ge \lbrace 0 \rbrace$: $x'$.",
        "```math\n\\{x_i\\}_{i=1}^n,\\; \\bar{x}_i, x^*, \\begin{cases} a & b \\\\ c & d \\end{cases}\n```",
        "| a | b |\n|---|---|\n| $x$ | $\\beta$ |",
        "`echo $HOME` and ``f`$x`` are code",
        "```sh\necho $HOME $$\n```",
    ],
)
def test_sound_formulas_pass(text):
    assert not list(faults(text))
