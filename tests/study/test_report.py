"""The report contains every figure and the numbers of the record, loads nothing, and shows no NaN; its files parse."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from hopmin.data.question_formation import question_formation
from hopmin.study import figures
from hopmin.study.grid import Preset, study
from hopmin.study.report import FIGURES, facts, percent, summary, svg, write_report, write_results

TINY = Preset(models=((1, 1, 4), (2, 2, 8)), rows=(4, 16), amounts=2, steps=3, batch_size=4, measured=8)


@pytest.fixture(scope="module")
def record():
    return study(question_formation(16, dev=1, test=10, generalization=1), TINY, 0)


@pytest.fixture(scope="module")
def incomplete(record):
    """Return a record of one run: unknown entropy, too few rows to measure distances, a name to escape."""
    corpus = {**record["corpus"], "name": "<b>&'x.txt", "entropy": None, "held_out_floor": None}
    run = {**record["runs"][0], "distances": [], "untrained": {**record["runs"][0]["untrained"], "distances": []}}
    return {**record, "complete": False, "corpus": corpus, "runs": [run]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, record):
    folder = tmp_path_factory.mktemp("report")
    assert write_report(record, folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def short_page(tmp_path_factory, incomplete):
    return write_report(incomplete, tmp_path_factory.mktemp("report")).read_text(encoding="utf-8")


@pytest.fixture(params=["whole", "short"])
def page(request, folder, short_page):
    return (folder / "report.html").read_text(encoding="utf-8") if request.param == "whole" else short_page


class Elements(HTMLParser):
    """The tags of a page with their attributes; checks that tags are closed in order."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open, self.words = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)


def text_of(page):
    return " ".join(" ".join(Elements(page).words).split())


def test_a_report_is_a_page_and_one_file_per_figure(folder):
    assert {path.name for path in folder.iterdir()} == {"report.html", *(f"{name}.svg" for name in FIGURES)}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_file_is_svg_without_nan(folder, name):
    content = (folder / f"{name}.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
    assert not re.search(r"\b(nan|inf)\b", content, re.IGNORECASE)


def test_the_page_contains_every_figure(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    for name in FIGURES:
        content = (folder / f"{name}.svg").read_text(encoding="utf-8")
        assert content[content.index("<svg") :].strip() in page


def test_the_page_is_valid_html_with_one_section_per_figure(page):
    elements = Elements(page)
    assert elements.open == []
    assert [tag for tag, _ in elements.found].count("svg") == len(FIGURES)
    assert [tag for tag, _ in elements.found].count("section") == len(FIGURES) + 1  # the last one is the table


def test_the_page_loads_nothing(page):
    elements = Elements(page).found
    assert not {tag for tag, _ in elements} & {"script", "link", "img", "image", "iframe", "object", "embed", "base"}
    ids = {attributes["id"] for _, attributes in elements if "id" in attributes}
    for _, attributes in elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            assert attributes.get(name, "#")[0] == "#"
            assert attributes.get(name, "#")[1:] in {"", *ids}
    assert {target[0] for target in re.findall(r"url\(\s*['\"]?([^)'\"]*)", page)} <= {"#"}
    assert "@import" not in page
    assert page.lower().count("<!doctype") == 1
    assert "<?xml" not in page


def test_the_page_shows_no_nan_and_nothing_undefined(page):
    assert not re.search(r"\b(nan|inf)\b", page, re.IGNORECASE)
    assert not re.search(r"\b(None|Undefined)\b", text_of(page))


def test_the_table_has_one_row_per_run(record, folder, short_page):
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert [tag for tag, _ in Elements(page).found].count("tr") == 1 + len(record["runs"])
    assert [tag for tag, _ in Elements(short_page).found].count("tr") == 1 + 1
    for run in record["runs"]:
        assert f"<td>{run['cross_entropy']['held_out']:.3f}</td>" in page


def test_names_are_escaped(short_page):
    assert "<b>" not in short_page
    assert "A study of <b>&'x.txt with hopmin" in text_of(short_page)


def test_an_unfinished_study_says_so(folder, short_page):
    assert "The study was interrupted" in text_of(short_page)
    assert "interrupted" not in text_of((folder / "report.html").read_text(encoding="utf-8"))


def test_unknown_quantities_are_reported_as_unknown(short_page):
    assert "The entropy of this corpus is not known." in text_of(short_page)
    assert "Too few rows to measure." in text_of(short_page)


def test_the_same_record_gives_the_same_svg(record):
    assert svg(figures.extraction(record)) == svg(figures.extraction(record))


def test_results_contain_the_record(record, tmp_path):
    write_results(record, tmp_path)
    content = (tmp_path / "results.json").read_text(encoding="utf-8")
    assert json.loads(content) == json.loads(json.dumps(record))
    assert content.endswith("}\n")


# The numbers in the text


def record_of(runs, entropy=1.0, floor=1.1):
    """Return a record of runs (width, rows, training loss, held-out loss, two extraction rates, last batch loss)."""
    return {
        "corpus": {"entropy": entropy, "held_out_floor": floor},
        "runs": [
            {
                "number": number, "width": width, "parameters": 100 * width, "rows": rows, "tokens": 20 * rows, "curve": [4.0, last],
                "cross_entropy": {"train": train, "held_out": held_out},
                "extraction_rate": {"train": known, "held_out": new},
                "distances": [1.0, 4.0, 6.0] if rows > 10 else [], "predicted_radius": width / 8,
                "head_agreement": [[known, 0.5]], "head_chance": 0.125,
                "untrained": {"distances": [2.0], "head_agreement": [[0.25]]},
            }
            for number, (width, rows, train, held_out, known, new, last) in enumerate(runs)
        ],
    }  # fmt: skip


RUNS = [
    (16, 2000, 1.05, 1.3, 0.5, 0.375, 1.2),
    (8, 10, 0.6, 2.5, 0.75, 0.0, 1.01),
    (16, 10, 0.5, 2.75, 1.0, 0.0, 0.99),
    (8, 2000, 1.2, 1.25, 0.25, 0.25, 1.4),
]


def test_the_summary_describes_the_largest_model():
    assert summary(record_of(RUNS)) == (
        "Trained on 10 rows, the largest model completes 100% of them from their first half, and 0% of held-out rows. "
        "Trained on 2,000, it completes 50% and 38%, and its held-out cross-entropy is 1.300 nats per token; the entropy "
        "of the language is 1.000."
    )
    assert summary(record_of(RUNS, entropy=None)).endswith("its held-out cross-entropy is 1.300 nats per token.")


def test_facts_are_computed_from_the_runs():
    found = facts(record_of(RUNS))
    places = {name: (found[name]["width"], found[name]["rows"]) for name in ("least", "most", "best", "worst")}
    assert places == {"least": (16, 10), "most": (16, 2000), "best": (8, 2000), "worst": (16, 10)}
    assert found["below_entropy"] == 2  # on all training rows, as in the table; one is below it on its last batch
    assert found["below_floor"] == 3
    assert found["measured_rows"] == 3
    assert found["radius_ratios"] == {3: 4 / 2 / 1, 0: 4 / 2 / 2}
    assert found["untrained_ratios"] == [2 / 2 / 1, 2 / 2 / 2]
    assert sorted(found["agreement"]) == [0.25, 0.5, 0.5, 0.5, 0.5, 0.5, 0.75, 1.0]
    assert (found["median_agreement"], found["untrained_agreement"], found["chance"]) == (0.5, 0.25, 0.125)


def test_no_run_is_below_an_unknown_entropy():
    found = facts(record_of(RUNS, entropy=None, floor=None))
    assert (found["below_entropy"], found["below_floor"]) == (0, 0)


@pytest.mark.parametrize(("fraction", "text"), [(0, "0%"), (0.004, "0%"), (0.996, "100%"), (1, "100%")])
def test_fractions_are_whole_percentages(fraction, text):
    assert percent(fraction) == text
