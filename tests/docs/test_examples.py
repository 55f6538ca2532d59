"""Every example is short, states its purpose and how to run it, runs without arguments, and is listed."""

import ast
import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"
EXAMPLES = pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
PRINTS = {
    "digits.py": "79 of 100 digits are completed exactly",
    "gated_cache.py": "Is it raining?                  (not stored)",
    "judge_a_softmax_in_pytorch.py": "softmax in bfloat16: " if find_spec("torch") else "PyTorch is not installed",
    "judge_an_index.py": "expanded: as expected",
    "judge_your_attention.py": "attention: conforms\nwith_a_finite_mask: rejected",
    "soft_knn.py": "(the limit of infinite beta)",
    "store_cache.py": "What is the capital city of France?   cached, similarity 0.91",
    "store_duplicates.py": "mail-4 = mail-5: Congratulations!",
    "store_facts.py": "corrected:   eight (2006)",
    "store_labels.py": "Where do I download the app again?              account",
    "store_notes.py": "'how to bake bread'         everywhere                  bread (0.67), brot (0.77)",
    "ten_lines_of_memory.py": "retrieve: pattern 1, converged after 4 steps",
    "train_and_look_inside.py": "extraction rate               1.00       0.00",
}


@EXAMPLES
def test_an_example_runs_and_prints_its_result(path, capsys):
    runpy.run_path(str(path), run_name="__main__")
    assert PRINTS[path.name] in capsys.readouterr().out


@EXAMPLES
def test_an_example_is_short_and_says_how_to_run_it(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert f"Run: python examples/{path.name}" in ast.get_docstring(ast.parse(text))


def test_the_readme_lists_every_example():
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(FOLDER.glob("*.py")) if f"]({path.name})" not in listed] == []
