"""Reports: a row for each law, every status, snippets that run; a pytest item for each law; one sentence for bad input."""

import contextlib
import functools
import importlib
import inspect
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import helpers
import mutants
import numpy as np
import pytest
from hypothesis import strategies as st

import hopmin
from hopmin import testing
from hopmin.testing import conformance, conformance_tests, registry
from hopmin.testing.compare import at_most, close
from hopmin.testing.conformance import STATUSES, Bench, literal
from hopmin.testing.laws import layers
from hopmin.testing.registry import FAMILIES, Family, law

CHAPTER = Path(__file__).parents[2] / "docs/testing.md"


class Doubles:
    """An implementation of the family below: doubles its argument."""

    def __call__(self, x):
        return 2 * x

    def half(self, x):
        return x / 3  # wrong


def doubles(x):
    return 2 * x


@pytest.fixture(autouse=True)
def double(monkeypatch):
    """A family with a law for each way in which a law can end; of 0, 1 and 2, so that everything is fast."""

    def probe(implementation):
        implementation(np.ones(1))
        return implementation

    family = Family("double", "double", "double(x) -> array", "Doubles an array.", probe)
    monkeypatch.setitem(FAMILIES, "double", family)
    arrays = st.sampled_from([[1.0], [1.0, 0.5]]).map(np.array)

    @law("double", x=arrays, source="a textbook")
    def law_sum(double, /, x):
        """f(x) = x + x."""
        close(double(x), x + x, 0, "f(x)")

    @law("double", x=arrays)
    def law_small(double, /, x):
        """f(x) <= 1."""
        at_most(double(x), 1.0, 0.25, "f(x)")

    @law("double", needs=("half",), x=arrays)
    def law_half(double, /, x):
        """half(f(x)) = x."""
        close(double.half(double(x)), x, 0, "half of f(x)")

    @law("double", promises=("bits",), x=arrays)
    def law_bits(double, /, x):
        """f(x) is exact."""

    @law("double", x=arrays)
    def law_other(double, other, /, x):
        """f(x) = other(x)."""

    @law("double", x=arrays)
    def law_raises(double, /, x):
        """f takes a list of lists."""
        double([["a"], None].index("b"))

    return family


def statuses(report):
    return {row.law: row.status for row in report.rows}


def test_a_report_has_a_row_for_each_law_and_never_stops():
    report = conformance(doubles, "double", seed=0, examples=5)
    assert statuses(report) == {
        "law_sum": "passed", "law_small": "failed", "law_half": "skipped", "law_bits": "skipped", "law_other": "skipped",
        "law_raises": "failed",
    }  # fmt: skip
    reasons = {row.law: row.reason for row in report.rows if row.reason}
    assert reasons == {
        "law_half": "there is no method half",
        "law_bits": "'bits' is not promised",
        "law_other": "the implementation has no attribute other",
    }
    assert not report.passed


def test_methods_and_promises_add_laws():
    found = statuses(conformance(Doubles(), "double", promises=["bits"], seed=0, examples=5))
    assert (found["law_half"], found["law_bits"]) == ("failed", "passed")


def test_a_failure_has_the_numbers_and_the_smallest_input():
    row = conformance(doubles, "double", seed=0, examples=5).rows[1]
    assert (row.left, row.right, row.slack) == (2.0, 1.0, 0.25)
    assert row.statement == "f(x) <= 1."
    assert row.instance == {"x": "np.array([1.0])"}
    assert 1 < row.examples < 50
    assert "f(x): 2 must be at most 1 (tolerance 0.25)" in row.message


def test_an_exception_in_the_implementation_names_its_line():
    row = conformance(lambda x: 2 * x if x.size == 1 else 1 / 0, "double", seed=0, examples=20).rows[0]
    assert re.fullmatch(r"raises ZeroDivisionError: .* \(test_conformance.py, line \d+\)", row.message)


def test_an_implementation_that_is_not_deterministic_is_told():
    calls = []

    def unsteady(x):
        calls.append(x)
        return 2 * x + (len(calls) == 4)

    row = conformance(unsteady, "double", seed=0, examples=9).rows[0]
    assert row.status == "failed"
    assert row.message.endswith("called again with the same input, it held: the implementation is not deterministic")


def test_a_strategy_that_cannot_be_made_is_a_failure():
    @registry.law("double", x=lambda double: double.inputs)
    def law_inputs(double, /, x):
        """f(x) for its own inputs."""

    row = conformance(doubles, "double", seed=0, examples=5).rows[-1]
    assert (row.status, row.snippet) == ("failed", "")
    assert "has no attribute 'inputs'" in row.message


def test_draws_are_new_unless_a_seed_is_given(double, monkeypatch):
    """In continuous integration too, where Hypothesis would draw the same examples each time."""
    import hypothesis

    monkeypatch.setenv("CI", "true")
    seen = []

    @registry.law("double", x=st.integers(0, 10**9))
    def law_seen(double, /, x):
        """Anything."""
        seen.append(x)

    before = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.register_profile("repeats", derandomize=True)
    hypothesis.settings.load_profile("repeats")
    try:
        rows = [Bench(doubles, "double", examples=5).judge(law_seen, seed) for seed in (None, None, 3, 3)]
    finally:
        hypothesis.settings.load_profile(before)
    assert seen[:5] != seen[5:10]
    assert seen[10:15] == seen[15:]
    assert rows[0].seed != rows[1].seed
    again = len(seen)
    Bench(doubles, "double", examples=5).judge(law_seen, rows[0].seed)
    assert seen[again:] == seen[:5]


def test_failures_of_implementations_are_stored_apart(double, tmp_path):
    """A passing run must not erase what another law or implementation has to try again."""
    import hypothesis
    from hypothesis.database import DirectoryBasedExampleDatabase

    before = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.register_profile("stored", derandomize=False, database=DirectoryBasedExampleDatabase(tmp_path))
    hypothesis.settings.load_profile("stored")

    @registry.law("double", x=st.integers(0, 10**9))
    def law_rare(double, /, x):
        """f(x) has no 777 in it."""
        assert "777" not in str(double(x))

    def right(x):
        return 0

    try:
        failed = Bench(doubles, "double", examples=3000).judge(law_rare)
        assert failed.status == "failed"
        Bench(right, "double", examples=20).judge(law_rare)
        Bench(doubles, "double", examples=20).judge(double.laws[0])
        assert Bench(doubles, "double", examples=1).judge(law_rare).instance == failed.instance
    finally:
        hypothesis.settings.load_profile(before)


def test_an_exception_is_a_failure():
    row = conformance(doubles, "double", seed=0, examples=5).rows[5]
    assert re.fullmatch(r"raises ValueError: 'b' is not in list \(test_conformance.py, line \d+\)", row.message)
    assert row.left is None


def test_expected_failures_are_strict():
    reasons = {"law_small": "doubles", "law_sum": "not so", "law_raises": "known"}
    report = conformance(doubles, "double", expected_failures=reasons, seed=0, examples=5)
    assert statuses(report) | {"law_sum": "unexpectedly passed", "law_small": "expected to fail"} == statuses(report)
    assert [row.law for row in report.failures] == ["law_sum"]
    del reasons["law_sum"]
    assert conformance(doubles, "double", expected_failures=reasons, seed=0, examples=5).passed


def test_a_tolerance_multiplies_slacks_and_a_seed_repeats_a_run():
    assert statuses(conformance(doubles, "double", tolerance=4.1, examples=5))["law_small"] == "passed"
    first = conformance(doubles, "double", examples=5)
    again = conformance(doubles, "double", examples=5, seed=first.seed)
    assert [(row.law, row.examples, row.instance) for row in first.rows] == [
        (row.law, row.examples, row.instance) for row in again.rows
    ]


def test_a_report_without_a_judged_law_does_not_pass(double):
    del double.laws[:2], double.laws[3:]  # those that are left are skipped
    report = conformance(doubles, "double", seed=0)
    assert {row.status for row in report.rows} == {"skipped"}
    assert not report.passed


def test_reports_print_as_text_and_markdown():
    report = conformance(doubles, "double", seed=0, examples=5)
    text, markdown = str(report), report.to_markdown()
    assert "law_small" in text.splitlines()[4]
    assert text.splitlines()[-1] == "1 passed, 2 failed, 3 skipped of 6 laws"
    assert all(line in text for line in ("    f(x) <= 1.", "    left 2.0, right 1.0, slack 0.25"))
    assert "| law_bits | skipped | 0 | 0.00 | 'bits' is not promised |" in markdown
    with pytest.raises(AssertionError, match="law_small: failed"):
        report.raise_if_failed()


def test_the_json_record_has_the_documented_fields():
    record = json.loads(conformance(doubles, "double", seed=0, examples=5).to_json())
    assert (record["schema"], record["passed"], record["family"], record["seed"]) == (1, False, "double", 0)
    assert {row["status"] for row in record["laws"]} <= set(STATUSES)
    documented = CHAPTER.read_text(encoding="utf-8").split("## The JSON record")[1].split("\n## ")[0]
    for name in {*record, *record["laws"][0]}:
        assert f"`{name}`" in documented, name


def test_numbers_that_are_not_finite_are_strings_in_json():
    report = conformance(lambda x: x + np.inf, "double", seed=0, examples=5)
    assert json.loads(report.to_json())["laws"][1]["left"] == "inf"


def naive(a, axis=None):
    with np.errstate(over="ignore"):
        return np.log(np.exp(a).sum(axis))


@pytest.mark.parametrize(
    ("implementation", "family", "name"),
    [(naive, "logsumexp", "law_logsumexp"), (hopmin.DotEnergy, "energy", "law_large_beta_nearest")],
)
def test_a_snippet_runs_in_a_fresh_interpreter(run, implementation, family, name):
    row = Bench(implementation, family, promises=("nearest",)).judge(testing.LAWS[name], seed=3)
    snippet = row.snippet
    if implementation is naive:  # a module of tests is not importable by its name
        snippet = re.sub("from .*naive as implementation", "implementation = lambda a, axis=None: np.log(np.exp(a).sum(axis))", snippet)
    finished = run(snippet, PYTHONWARNINGS="ignore")
    assert finished.stderr == ""
    assert finished.stdout == f"{row.message}\n"


def shown(row, implementation):
    """Run a snippet, with the implementation in the place that it leaves, and return what it prints or raises."""
    printed = io.StringIO()
    program = "\n".join(line for line in row.snippet.splitlines() if " = ...  # put yours here" not in line)
    with contextlib.redirect_stdout(printed), np.errstate(all="ignore"):
        try:
            exec(program, {"implementation": implementation, row.law: registry.LAWS[row.law]})
        except Exception as error:
            return repr(error)
    return printed.getvalue()


FAMILIES_WITH_MUTANTS = [(family, name) for family, module in mutants.modules().items() for name in [*module.MUTANTS][::9]]


@pytest.mark.parametrize(("family", "name"), FAMILIES_WITH_MUTANTS, ids=map("-".join, FAMILIES_WITH_MUTANTS))
def test_snippets_of_every_family_run(family, name):
    """The snippet of a failing function or object shows what the row says."""
    mutant = mutants.modules()[family].MUTANTS[name]
    (rule,) = (rule for rule in FAMILIES[family].laws if rule.__name__ == mutant.law)
    row = Bench(mutant.implementation, family, promises=rule.promises).judge(rule, seed=0)
    assert len(row.snippet.splitlines()) <= 20
    assert "that is not shown here" not in row.snippet
    if row.left is None:
        assert row.message.split("(")[0].removeprefix("raises ").split(":")[0] in shown(row, mutant.implementation)
    else:
        assert row.message in shown(row, mutant.implementation)


def test_a_snippet_has_the_tolerance_and_bfloat16():
    row = conformance(lambda x: x + 10, "double", tolerance=2, seed=0, examples=5).rows[1]
    assert row.slack == 0.5
    assert "(tolerance 0.5)" in shown(row, lambda x: x + 10)
    assert "with tolerance(2):" in row.snippet


OWN = """
from hypothesis import strategies as st
from hopmin.testing.compare import at_most
from hopmin.testing.registry import law

@law(x=st.integers(1, 9))
def law_own(double, /, x):
    \"\"\"f(x) <= 0.\"\"\"
    at_most(double(x), 0, 0, "f(x)")

def own(x):
    return 2 * x
"""


def test_a_snippet_imports_a_law_of_ones_own(run, tmp_path, monkeypatch):
    (tmp_path / "own_laws.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("own_laws")
    row = Bench(own.own, "double").judge(own.law_own, seed=0)
    assert "from own_laws import law_own\n" in row.snippet
    finished = run(row.snippet, PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert finished.stdout == f"{row.message}\n", finished.stderr
    first = own.law_own
    assert importlib.reload(own).law_own is registry.LAWS["law_own"] is not first
    monkeypatch.setattr(own.law_own.statement, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "law_own", own.law_own, raising=False)
    assert "# law_own: define it above" in Bench(own.own, "double").judge(own.law_own, seed=0).snippet


def test_an_exit_of_the_implementation_is_a_failure():
    def exits(x):
        return 2 * x if x[0] < 1 or len(x) == 1 else sys.exit(3)

    row = conformance(exits, "double", seed=0, examples=20).rows[0]
    assert row.status == "failed"
    assert "the implementation raised SystemExit(3) (test_conformance.py, line " in row.message
    refused = helpers.error_message(TypeError, conformance, lambda x: sys.exit(3), "double")
    assert refused.endswith("<lambda>: its call raises SystemExit: 3")


class Module:
    """What a module of somebody's may hold."""

    bound = Doubles()
    partial = functools.partial(doubles)


instance, partial = Doubles(), functools.partial(doubles)


@pytest.mark.parametrize("implementation", [doubles, instance, partial, Module.__init__])
def test_a_snippet_imports_what_has_a_name(implementation):
    from hopmin.testing.conformance import _import

    names = {}
    exec("\n".join(_import(implementation)), names)
    assert names["implementation"] is implementation
    assert _import(lambda x: x)[0].startswith("implementation = ...  # put yours here: ")


@pytest.mark.parametrize(
    "value",
    [
        np.array([0.1, -0.0, np.inf, np.nan, 1e-300]), np.float32([0.1, 1 / 3, 1e30]), np.float16([0.1]), np.arange(3),
        np.zeros((0, 3), np.float32), np.full((3, 4), 0.1), np.array(2.5), np.array([[True], [False]]),
        np.array([1.5, 2.0], ">f8"), {"a": (1, [2.0, "b"])}, testing.Problem(np.eye(2), np.eye(2), 1e3), np.float32(0.1),
        (1.0,), None, -np.inf,
    ],
    ids=str,
)  # fmt: skip
def test_literals_are_exact(value):
    made = eval(literal(value), {"np": np, "Problem": testing.Problem})
    if isinstance(value, np.ndarray | np.generic):
        assert (made.dtype, made.shape, made.tobytes()) == (value.dtype, value.shape, value.tobytes())
    else:
        np.testing.assert_equal(made, value)


def test_arguments_are_shown_as_drawn_even_if_changed():
    def overwrites(x):
        x *= 2
        return x

    assert conformance(overwrites, "double", seed=0, examples=5).rows[0].instance == {"x": "np.array([1.0])"}


REFUSED = {
    "family must be one of logsumexp, ": (ValueError, doubles, "triple", {}),
    "expected_failures must be laws of double: law_sum, ": (ValueError, doubles, "double", {"expected_failures": ["law_x"]}),
    "dtype must be of float64, float32, float16, or bfloat16 alone; got 'int8'": (ValueError, doubles, "double", {"dtype": "int8"}),
    "keeps: float64, float32, float16; got bfloat16": (ValueError, doubles, "double", {"dtype": "bfloat16"}),
    "promises must be those that laws are about: ": (ValueError, doubles, "double", {"promises": ["speed"]}),
    "tolerance must be positive; got 0": (ValueError, doubles, "double", {"tolerance": 0}),
    "examples must be a positive integer; got 0": (ValueError, doubles, "double", {"examples": 0}),
    "implementation must be double(x) -> array; got <lambda>: its call raises TypeError": (TypeError, lambda: 1, "double", {}),
    "implementation must be double(x) -> array; got <lambda>: its call returns None": (TypeError, lambda x: None, "double", {}),
    "value(queries, patterns) -> (m,); got <lambda>: its call raises AttributeError: 'dict' object has no attribute": (
        TypeError, lambda beta: {}, "energy", {}),
    "seed must be a non-negative integer; got 'x'": (ValueError, doubles, "double", {"seed": "x"}),
    "batched must be True except for logsumexp": (ValueError, doubles, "attention", {"batched": False}),
}  # fmt: skip


@pytest.mark.parametrize("sentence", REFUSED)
@pytest.mark.parametrize("judge", [conformance, conformance_tests])
def test_bad_input_gets_one_sentence(sentence, judge):
    error, implementation, family, options = REFUSED[sentence]
    assert sentence in helpers.error_message(error, judge, implementation, family, **options)


def test_only_the_dtypes_asked_for_are_drawn():
    seen = set()

    @registry.law("double", dtype=testing.strategies.dtypes())
    def law_dtypes(double, /, dtype):
        """Anything."""
        seen.add(double(np.ones(1, dtype)).dtype.name)

    conformance(doubles, "double", seed=0)
    assert seen == {"float64", "float32"}
    seen.clear()
    report = conformance(doubles, "double", dtype="float16", seed=0)
    assert seen == {"float16"}
    assert report.rows[0].reason == "its instances are of float64"


TESTS = """
import numpy as np
from hopmin.testing import conformance_tests

def naive(a, axis=None):
    with np.errstate(over="ignore"):
        return np.log(np.exp(a).sum(axis))

test_fails = conformance_tests(naive, "logsumexp", examples=50, seed=0)
test_known = conformance_tests(naive, "logsumexp", examples=50, seed=0, expected_failures={"law_logsumexp": "no shift"})
test_strict = conformance_tests(naive, "logsumexp", examples=9, expected_failures={"law_logsumexp_array": "not so"})
"""


def pytest_run(folder, *options):
    (folder / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *options]
    environment = {**os.environ, "CI": "true", "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "stored")}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, env=environment).stdout


def test_pytest_has_an_item_for_each_law(tmp_path):
    out = pytest_run(tmp_path, "-k", "law_logsumexp")
    assert "FAILED test_it.py::test_fails[law_logsumexp]" in out
    assert "XFAIL test_it.py::test_known[law_logsumexp] - no shift" in out
    assert "law_logsumexp.statement(" in out


@pytest.mark.slow
def test_pytest_stops_distributes_and_is_strict(tmp_path):
    assert "1 failed" in pytest_run(tmp_path, "-x", "-k", "test_fails").splitlines()[-1]
    out = pytest_run(tmp_path, "-n", "2", "-k", "test_strict")
    assert "[XPASS(strict)] not so" in out
    assert "FAILED test_it.py::test_strict[law_logsumexp_array]" in out


class TestInAClass:
    """As the chapter says."""

    test_softmax = staticmethod(conformance_tests(hopmin.softmax, "softmax", examples=5))


def test_the_chapter_names_the_options_and_the_kinds_of_layers():
    chapter = CHAPTER.read_text(encoding="utf-8")
    options = [p.name for p in inspect.signature(conformance).parameters.values() if p.kind is p.KEYWORD_ONLY]
    listed = chapter.split("It takes the options of `conformance`:")[1].split(". ")[0]
    assert re.findall(r"`(\w+)`", listed) == options
    listed = chapter.split("The keys of `layers.KINDS` are ")[1].split("\n\n")[0]
    assert re.findall(r"`(\w+)`", listed) == list(layers.KINDS)


test_a_right_softmax = conformance_tests(hopmin.softmax, "softmax", examples=20)
