"""docs/study and docs/real say what their own raw results say."""

import csv
import io
import json
import re
import tarfile
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest

from manifold_lora.experiments.reports.answer import answer
from manifold_lora.experiments.reports.csv_files import comparisons_csv, scores_csv
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.reports.verdicts import NONE_SHOWN, verdict
from manifold_lora.experiments.results.manifest import Manifest
from manifold_lora.experiments.results.store import ResultStore

DOCS = Path(__file__).parents[3] / "docs"
PARTS = sorted(path.parent.relative_to(DOCS).as_posix() for path in DOCS.rglob("results.tar.xz"))


@pytest.fixture(scope="module", params=PARTS)
def part(request, tmp_path_factory):
    """A part of the study unpacked as its own report's folder."""
    folder = tmp_path_factory.mktemp("part")
    (folder / "manifest.json").write_bytes((DOCS / request.param / "manifest.json").read_bytes())
    with tarfile.open(DOCS / request.param / "results.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return request.param, folder


def test_every_part_is_there():
    study = ["arithmetic", "taxonomy", "taxonomy-longer", "taxonomy-rates", "taxonomy-scaled"]
    second = ["arithmetic", "boost", "taxonomy"]
    parts = *(f"study/{part}" for part in study), *(f"study2/{part}" for part in second)
    assert [
        "peft-methods",
        "real",
        "real/arithmetic",
        "real/commonsense",
        *parts,
        "weights-study",
        "wordnet",
    ] == PARTS


def test_every_cell_verifies_and_finished(part):
    _, folder = part
    store = ResultStore(folder)
    records = [store.read(cell) for cell in Manifest.read(folder).cells]
    assert records
    assert all(record is not None and record["status"] == "ok" for record in records)


def test_the_tables_follow_from_the_raw_results(part):
    name, folder = part
    rows = Study.read(folder).rows
    for file, text in (("table.csv", scores_csv(rows)), ("comparisons.csv", comparisons_csv(rows))):
        stated, again = (
            list(csv.DictReader(io.StringIO(lines))) for lines in ((DOCS / name / file).read_text(), text)
        )
        assert len(stated) == len(again)
        # Columns that reports have gained since are not in the study's tables.
        for ours, theirs in zip(stated, again, strict=True):
            for column, one in ours.items():
                other = theirs[column]
                if column == "detectable" and one == "0.0":  # Where no answer differs it is not known now.
                    one = "nan"
                if column == "detectable":
                    assert one in ("", "none", "nan") or float(one) <= 1
                assert one == other or float(one) == pytest.approx(float(other), rel=1e-6, abs=1e-9)


def test_accuracies_are_the_share_of_right_answers_by_plain_counting(part):
    name, folder = part
    right = defaultdict(list)
    for path in sorted((folder / "results").glob("*.json")):
        record = json.loads(path.read_text())
        place = record["run"]["arm"], record["run"]["train"]["learning_rate"]
        (items,) = path.parent.glob(f"{path.stem}.*.items.jsonl")
        answers = [json.loads(line) for line in items.read_text().splitlines()]
        for kind in {item["set"] for item in answers}:
            share = fmean(item["correct"] for item in answers if item["set"] == kind)
            right[*place, kind].append(share)
    with (DOCS / name / "table.csv").open() as file:
        for line in csv.DictReader(file):
            rates = {
                rate: fmean(shares)
                for (arm, rate, kind), shares in right.items()
                if (arm, kind) == (line["arm"], "validation")
            }
            chosen = max(rates, key=lambda rate: (rates[rate], -rate))
            assert float(line["learning_rate"]) == chosen
            assert float(line["accuracy"]) == pytest.approx(fmean(right[line["arm"], chosen, line["test"]]))


def test_a_table_that_could_show_nothing_says_so_in_place_of_a_difference_above_all_items(part):
    name, folder = part
    rows = Study.read(folder).rows
    said = [found.because for row in rows for test in row.scores if (found := verdict(row, test, rows))]
    assert (NONE_SHOWN in "".join(said)) == (name == "real/commonsense")
    found = answer(rows)
    assert ("no lead of whatever size" in found.text) == (name == "real/commonsense")


@pytest.mark.parametrize("page", ["study2/README.md", "peft-methods/README.md", "weights-study/README.md"])
def test_every_difference_of_the_reading_stands_in_a_table(page):
    folder = (DOCS / page).parent
    rows = [
        row
        for file in ("comparisons.csv", "endpoints.csv")
        for path in folder.rglob(file)
        for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    ]
    columns = "difference", "low", "high"
    known = {tuple(f"{100 * float(row[column]):+.1f}" for column in columns) for row in rows}
    text = (DOCS / page).read_text(encoding="utf-8").replace("−", "-")
    said = re.findall(r"([+-]?\d+\.\d) \[([+-]\d+\.\d), ([+-]\d+\.\d)\]", text)
    assert len(said) > 8
    assert [one for one in said if one not in known] == []
