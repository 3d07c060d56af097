"""The files of a report: whole, self-contained, and every number leads to a result file."""

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from manifold_lora.experiments.reports.case_studies import case_studies
from manifold_lora.experiments.reports.figures.gallery import gallery
from manifold_lora.experiments.reports.latex import escape
from manifold_lora.experiments.reports.page.page import page
from manifold_lora.experiments.reports.report import write_report
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.results.manifest import Manifest
from manifold_lora.experiments.results.store import ResultStore
from manifold_lora.experiments.settings.arms import ARMS

LEVELS = {
    "lora": 0.5,
    "gain-matched-lora": 0.52,
    "tangent": 0.5,
    "direct-flat": 0.5,
    "direct": 0.6,
    "boost": 0.55,
}
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Tags that are open, addresses, ids and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.ids, self.tags, self.text = [], [], [], set(), ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                self.addresses.append(value)
            assert not name.startswith("on")
            if name == "id":
                self.ids.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def failures():
    """A cell that diverged, with what it was."""
    point = {"arm": "boost", "train.learning_rate": 3e-2, "train.seed": 0}
    run = {"train": {"learning_rate": 3e-2, "seed": 0}}
    return [({"status": "diverged", "reason": "loss is nan <at> step 4", "point": point, "run": run}, None)]


@pytest.fixture(scope="module")
def written(report_on, failures):
    folder = report_on(LEVELS, failures, rates=(3e-3, 1e-2))
    console = Console(record=True, width=200)
    assert write_report(folder, console) == 1
    return folder, console.export_text()


def page_of(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_self_contained_and_its_links_lead_somewhere(written):
    folder, _ = written
    page = page_of(folder)
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
    for address in page.addresses:
        if address.startswith("#"):
            assert address[1:] in page.ids
        else:
            assert re.fullmatch(r"(results|logs)/[\w.]+", address)
            assert (folder / address).is_file()
    assert len(page.ids) == len(set(page.ids))
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\((?!#)", text)


def test_every_cell_of_a_number_is_linked_to_its_result(written):
    folder, _ = written
    page = page_of(folder)
    study = Study.read(folder)
    for row in study.rows:
        for record in row.chosen.records.values():
            assert f"results/{record['cell']}.json" in page.addresses
            assert f"#cell-{record['cell']}" in page.addresses or record is not row.chosen.records[0]
    bare = re.findall(
        r"<td>[+−-]?\d+\.\d[^<]*</td>", (folder / "report.html").read_text().split('id="origin"')[0]
    )
    rates = {f"<td>{row.chosen.value:g}</td>" for row in study.rows}
    assert set(bare) <= rates


def section(text, name):
    """The markup of one section of the page."""
    return text.split(f'<section id="{name}">')[1].split("</section>")[0]


def test_the_numbers_of_every_verdict_lead_to_their_comparison(written):
    folder, _ = written
    text = (folder / "report.html").read_text(encoding="utf-8")
    reading = section(text, "reading")
    rows = dict(re.findall(r'<tr id="(difference-[\w-]+)"><th scope="row">([^<]*)<', text))
    outside = re.sub(r"<a .*?</a>", "", reading)
    assert not re.search(r"\d\.\d", outside)
    linked = re.findall(r'class="arm">([^<]*)<.*?<p class="note">(.*?)</p>', reading)
    assert len(linked) == len(LEVELS) - 1
    for arm, reason in linked:
        for address, message in re.findall(r'<a href="#([\w-]+)"[^>]*>([^<]*)</a>', reason):
            owner = re.match(r"(\S+) itself: ", message)
            assert rows[address] == (owner[1] if owner else arm)
            figure = re.search(r"[+−]\d+\.\d \[.*?\]", message)
            assert figure is None or figure[0] in text.split(f'<tr id="{address}">')[1].split("</tr>")[0]


def test_every_answer_of_a_case_leads_to_its_items_file(written):
    folder, _ = written
    study = Study.read(folder)
    cases = section((folder / "report.html").read_text(encoding="utf-8"), "cases")
    links = re.findall(r'<b><a href="(results/[^"]*items\.jsonl)">(\S+), seed (\d+)</a>', cases)
    assert len(links) == cases.count("✓ right") + cases.count("✗ wrong") > 0
    chosen = {row.label: row.chosen.records for row in study.rows}
    for address, arm, seed in links:
        assert address == study.files(chosen[arm][int(seed)])["items"]


def test_the_header_has_counts_hashes_and_versions(written):
    text = (written[0] / "report.html").read_text(encoding="utf-8")
    message = Page(text.split("<header>")[1].split("</header>")[0]).text
    for part in ("49 cells: 48 done, 0 failed, 1 diverged", "base f00df00df00d.", "torch 9.9.9", "4 seeds"):
        assert part in message


def test_a_table_of_accuracies_holds_one_test_set(written):
    folder, _ = written
    study = Study.read(folder)
    twice = [
        replace(row, scores={"test": row.scores["test"], "other": row.scores["test"]}) for row in study.rows
    ]
    for row in twice:
        for record in row.chosen.records.values():
            record["evaluation"]["other"] = record["evaluation"]["test"]
    tables = section(page(replace(study, rows=twice), []), "scores")
    assert tables.count("<table>") == 2
    assert tables.count('<th scope="col">') == 2 * 8


def test_the_page_says_what_was_left_out_and_on_what_it_ran(written):
    text = page_of(written[0]).text
    for part in ("1 diverged", "loss is nan <at> step 4", "9.9.9", "f00d" * 16, "181", "test: 336 of 14400"):
        assert part in text
    assert "cut by the token limit" in text
    assert "test: 240 of 14400" in text


def test_outputs_are_text_whatever_they_hold(written):
    folder, _ = written
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script" not in text


def test_case_studies_count_all_and_show_both_directions(written):
    study = Study.read(written[0])
    items = ResultStore(study.folder).items
    pairs = list(case_studies(study.rows, items, limit=2))
    assert [(pair.arm, pair.other) for pair in pairs] == [
        ("direct", "lora"),
        ("direct", "gain-matched-lora"),
        ("boost", "lora"),
        ("boost", "gain-matched-lora"),
    ]
    direct = next(row for row in study.rows if row.label == "direct").with_role("test", "baseline")
    assert (pairs[0].won, pairs[0].lost) == (direct.mcnemar.pooled.arm, direct.mcnemar.pooled.other)
    assert pairs[0].answers == 4 * 300
    assert any(len({case.balance > 0 for case in pair.shown}) == 2 for pair in pairs)
    for pair in pairs:
        balances = [case.balance for case in pair.shown]
        won, lost = [x for x in balances if x > 0], [-x for x in balances if x < 0]
        assert balances == [*won, *(-x for x in lost)]
        assert all(side == sorted(side, reverse=True) and len(side) <= 2 for side in (won, lost))


def test_latex_is_booktabs_and_escaped(written):
    text = (written[0] / "table.tex").read_text()
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\end{table}") == 2
    for group in ("Baselines", "Controls", "Geometries"):
        assert rf"\textit{{{group}}}" in text
    scores = text.split(r"\begin{table}")[1]
    lines = [line for line in scores.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in lines} == {3}
    assert escape(r"a_b & 50% \x {c} #1") == r"a\_b \& 50\% \textbackslash{}x \{c\} \#1"
    assert escape("a<b|c>") == r"a\textless{}b\textbar{}c\textgreater{}"


def test_latex_compiles(written, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed: apt-get install texlive-latex-recommended")
    table = (written[0] / "table.tex").read_text()
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{table}\end{{document}}"
    (tmp_path / "paper.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "paper.pdf").is_file()


def test_csv_files_agree_with_the_page(written):
    folder, console = written
    scores = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    comparisons = list(csv.DictReader(io.StringIO((folder / "comparisons.csv").read_text())))
    text = page_of(folder).text
    assert [line["arm"] for line in scores] == list(LEVELS)
    # Tangent is LoRA by algebra: it is compared with LoRA, and no geometry is compared with it.
    assert len(comparisons) == 3 + 2 * 3
    for line in scores[1:]:
        assert f"{100 * float(line['difference']):+.1f}".replace("-", "−") in text
        assert line["verdict"] in text
        assert line["verdict"] in console


def test_figures_are_those_that_the_data_has(written):
    names = {path.stem for path in (written[0] / "figures").glob("*.svg")}
    assert names == {
        "accuracy",
        "differences",
        "curvature",
        "learning-rate",
        "gain",
        "cost",
    }


def test_every_arm_at_once_has_room_in_every_figure(report_on):
    # matplotlib warns where a legend leaves an axis no room, and warnings are errors here.
    levels = {arm: 0.4 + 0.01 * place for place, arm in enumerate(ARMS) if arm != "custom"}
    rows = Study.read(report_on(levels, rates=(1e-3, 1e-2), seeds=2, items=40)).rows
    assert len(rows) > 20
    assert {picture.name for picture in gallery(rows)} >= {"accuracy", "curvature", "learning-rate", "cost"}


def test_the_same_results_give_the_same_files(written):
    folder, _ = written
    names = ["report.html", "table.tex", "table.csv", "comparisons.csv", *folder.glob("figures/*")]
    before = [(folder / name).read_bytes() for name in names]
    write_report(folder, Console(quiet=True))
    assert [(folder / name).read_bytes() for name in names] == before


def test_a_folder_without_a_finished_cell_has_a_page_that_says_why(report_on, failures):
    folder = report_on({}, failures)
    assert write_report(folder, Console(quiet=True)) == 1
    assert "loss is nan <at> step 4" in page_of(folder).text
    assert not (folder / "table.csv").exists()


def test_test_accuracies_have_no_part_in_the_choice_of_rates(report_on):
    """The same cells with every test answer turned round: the same rates are chosen."""
    folder = report_on(LEVELS, rates=(3e-3, 1e-2, 3e-2))
    before = [(row.label, row.chosen.value) for row in Study.read(folder).rows]
    store = ResultStore(folder)
    for cell in Manifest.read(folder).cells:
        record, items = store.read(cell), store.items(cell)
        for item in items:
            item["correct"] = not item["correct"]
        test = record["evaluation"]["test"]
        test["accuracy"] = 1 - test["accuracy"] * record["run"]["train"]["learning_rate"]
        store.write(cell, record, items)
    assert [(row.label, row.chosen.value) for row in Study.read(folder).rows] == before


@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_opens_the_page_without_a_complaint(written, width, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    folder, shot = written[0], tmp_path / "page.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", f"--screenshot={shot}"]
    done = subprocess.run(
        [browser, *flags, (folder / "report.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    assert ":CONSOLE" not in done.stderr
    assert shot.read_bytes().startswith(b"\x89PNG")
