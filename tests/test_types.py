"""Public types, checked by mypy in strict mode."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hopmin

CASES = Path(__file__).with_name("typing_cases.py")
PACKAGE = Path(hopmin.__file__).resolve().parent


@pytest.fixture
def check_types(tmp_path):
    """Run mypy --strict on a file and return what it prints; only errors in that file count."""
    installed = any(
        part in ("site-packages", "dist-packages") for part in PACKAGE.parts
    )  # mypy finds the module without it
    environment = os.environ | ({} if installed else {"MYPYPATH": str(PACKAGE.parent)})
    options = ["--strict", "--config-file=", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache")]

    def check(path):
        return subprocess.run(
            [sys.executable, "-m", "mypy", *options, str(path)],
            capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
        ).stdout  # fmt: skip

    return check


def test_types_hold_and_mistakes_are_reported(check_types):
    assert check_types(CASES) == "Success: no issues found in 1 source file\n"


def test_every_public_name_is_known_to_type_checkers(check_types, tmp_path):
    path = tmp_path / "names.py"
    path.write_text("import hopmin\n\n" + "".join(f"print(hopmin.{name})\n" for name in hopmin.__all__))
    assert check_types(path) == "Success: no issues found in 1 source file\n"


def test_a_wrong_type_in_the_cases_is_found(check_types, tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(CASES.read_text(encoding="utf-8").replace("found.steps, Integers", "found.steps, Floats"))
    printed = check_types(path)
    assert "[assert-type]" in printed
    assert "Found 1 error in 1 file" in printed
