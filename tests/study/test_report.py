"""The report: everything in it comes from the results, and it is a page that anybody can read, anywhere."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from hopmin.study import report
from hopmin.study.plan import Settings, experiments, plan
from hopmin.study.report import answer, write_report
from hopmin.study.results import results, settings_record
from hopmin.study.runner import run

VOID = {"meta", "link", "br", "hr", "img", "input", "path", "use", "rect"}


def entries(jobs):
    found = {}
    for job in jobs:
        _, record, error, _ = run(job, None, lambda *_: None)
        entry = {"key": job.key, "experiment": job.experiment, "cell": job.cell, "record": record, "error": error, "seconds": 0.1}
        found[job.key] = json.loads(json.dumps(entry))
    return found


@pytest.fixture(scope="module")
def found():
    """Return the results of all experiments."""
    settings = Settings("smoke")
    made = results(settings_record(settings), entries(plan(settings)))
    assert made["complete"], [section["failed"] for section in made["experiments"] if section["failed"]]
    return made


@pytest.fixture
def part(found):
    """Return a copy of the results of two experiments, whose figures are quickly drawn."""
    copy = json.loads(json.dumps(found))
    copy["experiments"] = [section for section in copy["experiments"] if section["name"] in ("floor", "recall")]
    return copy


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(found, folder, seconds=75)
    return folder


class Elements(HTMLParser):
    """Collects the elements of a page, and checks that they are closed in order."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def of(elements, tag):
    return [attributes for name, attributes in elements.found if name == tag]


@pytest.mark.slow
def test_the_page_needs_no_network_and_says_what_figures_show(found, folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    elements = Elements(page)
    assert not re.findall(r"\b(?:src|href)=\"(?!#|https://arxiv\.org/abs/)[^\"]*", page)
    assert not re.findall(r"url\((?!#)|@import|<link", page)
    figures = of(elements, "svg")
    assert len(figures) >= 20
    assert all(len(figure["aria-label"]) > 20 for figure in figures)
    points = [attributes for _, attributes in elements.found if attributes.get("class") == "point"]
    assert len(points) > 200
    assert all(point["tabindex"] == "0" and re.search(r"\d", point["aria-label"]) for point in points)
    assert "nan" not in re.sub(r"<script>.*", "", page, flags=re.S).lower().split()
    assert {section["name"] for section in found["experiments"]} <= {a.get("id") for _, a in elements.found}


@pytest.mark.slow
def test_every_answer_and_number_is_in_both_reports(found, folder):
    page, text = ((folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    from markupsafe import escape

    for section in found["experiments"]:
        for sentence in (section["question"], answer(section), section["control"], section["caveats"], section["paper"]):
            assert str(escape(sentence)) in page, sentence
            assert sentence in text, sentence
        for finding in section["findings"]:
            assert finding["text"] in text
    assert "1.2 minutes" in page
    for name in re.findall(r"\]\((figures/.*?)\)", text):
        assert (folder / name).read_text(encoding="utf-8").startswith("<svg")


def test_the_same_results_give_the_same_report(part, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_report(part, tmp_path / name, seconds=75)
    for name in ("report.html", "report.md", "figures/floor-1.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_failed_and_missing_cells_are_reported(part, tmp_path):
    section = part["experiments"][0]
    section["failed"] = [{"cell": section["records"][0], "error": "ValueError: <b>no</b>"}]
    section["records"] = section["records"][1:]
    part["complete"] = False
    write_report(part, tmp_path)
    page, text = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert "1 of 2 cells have finished; 1 failed, the first with “ValueError: &lt;b&gt;no&lt;/b&gt;”" in page
    assert "Some cells have not finished or have failed" in page
    assert "Some cells have not finished or have failed" in text


def test_names_of_a_hostile_corpus_are_text(part, tmp_path):
    part["settings"]["corpus"] = "<script>alert(1)</script>.txt"
    write_report(part, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in page


def test_an_experiment_without_records_has_a_section(tmp_path):
    made = results(settings_record(Settings("smoke")), {}, ["floor"])
    write_report(made, tmp_path)
    assert "No cell has finished." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_any_part_of_the_records_has_findings_and_a_table(found):
    """As of a study that is still running, or in which cells have failed."""
    for section in found["experiments"]:
        experiment, records = experiments()[section["name"]], section["records"]
        for part in filter(None, (records[:1], records[-1:], records[1::2])):
            numbers = [n for f in experiment.findings(part) for n in (f.value, f.low, f.high) if n is not None]
            assert np.isfinite(numbers).all(), section["name"]
            assert experiment.table(part)[0]


def test_numbers_of_tables():
    assert [report.number(v) for v in (12345, 0.123456, None, "x", True)] == ["12,345", "0.1235", "", "x", "True"]


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
CUT = """() => [...document.querySelectorAll('p, h1, h2, h3, dd, dt, li, figcaption, summary')].filter(e =>
    e.offsetParent && (e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth + 1))
    .map(e => e.textContent.slice(0, 60))"""
OVERLAPS = """() => { const boxes = [...document.querySelectorAll('figure, dl, details, .answer')].filter(e => e.offsetParent)
    .map(e => [e, e.getBoundingClientRect()]); const found = [];
    for (const [a, r] of boxes) for (const [b, s] of boxes) if (a !== b && !a.contains(b) && !b.contains(a) &&
        r.left < s.right - 1 && s.left < r.right - 1 && r.top < s.bottom - 1 && s.top < r.bottom - 1) found.push(a.tagName + b.tagName);
    return found }"""
CONTRAST = """() => { const lum = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255).map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
        return .2126 * v[0] + .7152 * v[1] + .0722 * v[2] };
    const paper = lum(getComputedStyle(document.body).backgroundColor);
    return [...document.querySelectorAll('p, h1, h2, h3, dd, dt, a, td, th, summary, figcaption')].map(e => {
        const ink = lum(getComputedStyle(e).color); return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05) })
        .reduce((a, b) => Math.min(a, b)) }"""


@pytest.mark.slow
def test_the_page_in_a_browser(folder):
    """Check the page at two widths and in both colour schemes: nothing is cut or overlaps, and points say their numbers."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra test)")
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                errors, requests = [], []
                page.on("console", lambda message, errors=errors: errors.append(message.text) if message.type == "error" else None)
                page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
                page.on("request", lambda request, requests=requests: requests.append(request.url))
                page.goto((folder / "report.html").as_uri())
                assert requests == [(folder / "report.html").as_uri()]
                assert page.evaluate(OVERFLOW) <= 0
                assert page.evaluate(CUT) == []
                assert page.evaluate(OVERLAPS) == []
                assert page.evaluate(CONTRAST) >= 4.5
                point = page.locator(".point").nth(3)
                point.focus()
                tip = page.locator(".tip")
                assert tip.is_visible()
                assert tip.text_content() == point.get_attribute("aria-label")
                page.keyboard.press("Escape")
                assert not tip.is_visible()
                page.locator(".point").nth(5).hover(force=True)
                assert tip.is_visible()
                box = tip.bounding_box()
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= width
                assert errors == []
                page.close()
        browser.close()
