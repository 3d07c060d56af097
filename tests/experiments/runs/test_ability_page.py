"""docs/ability.md says what its tables say, and the tables what every prompt says."""

import csv
import io
import lzma
import re
from pathlib import Path

import pytest
from scipy import stats

from manifold_lora.experiments.runs.ability import correlations, deltas
from manifold_lora.experiments.token_geometry.ability import PromptRow

PAGE = Path(__file__).parents[3] / "docs" / "ability.md"
STUDIES = sorted(path.parent for path in PAGE.with_suffix("").rglob("prompts.csv.xz"))


def table(study, name):
    """The lines of a study's table."""
    return list(csv.DictReader(io.StringIO((study / f"{name}.csv").read_text())))


@pytest.fixture(scope="module", params=STUDIES, ids=lambda study: study.name)
def study(request):
    """A study's folder and its prompts."""
    with lzma.open(request.param / "prompts.csv.xz", "rt") as file:
        lines = list(csv.DictReader(file))
    read = {bool: "True".__eq__, int: int, float: float, str: str}
    kinds = PromptRow.__annotations__
    rows = [PromptRow(**{name: read[kinds[name]](value) for name, value in line.items()}) for line in lines]
    return request.param, rows


def test_every_study_is_there():
    assert [study.name for study in STUDIES] == ["pretraining", "smollm2"]


def test_the_tables_follow_from_the_prompts(study):
    folder, rows = study
    for name, again in (("deltas", deltas(rows, 8)), ("correlations", correlations(rows, 8))):
        stated = table(folder, name)
        assert len(stated) == len(again)
        for ours, theirs in zip(stated, again, strict=True):
            for column, value in ours.items():
                # Of the intervals, which the draws make, the test draws too few.
                if not column.endswith(("_low", "_high", "_p")) and column != "adjusted":
                    other = theirs.get(column)
                    expected = "" if other is None else other
                    assert value == expected or float(value) == pytest.approx(expected, abs=1e-9)


def test_a_plain_correlation_is_scipys(study):
    folder, rows = study
    for line in table(folder, "correlations"):
        if line["figure"] == "excess" and line["ability"] == "right":
            some = [row for row in rows if (row.run, row.layer) == (line["run"], line["layer"])]
            rho = stats.spearmanr([row.delta - row.gaussian for row in some], [row.correct for row in some])
            assert float(line["rho"]) == pytest.approx(rho.statistic, abs=1e-9)


def test_every_interval_of_the_page_stands_in_a_table():
    names = "delta", "excess", "change", "rho", "held"
    known = set()
    for study in STUDIES:
        for line in [*table(study, "deltas"), *table(study, "correlations")]:
            for name in names:
                if line.get(name) and line.get(f"{name}_low"):
                    spans = [float(line[key]) for key in (name, f"{name}_low", f"{name}_high")]
                    known |= {tuple(f"{value:+.{digits}f}" for value in spans) for digits in (2, 3)}
    text = PAGE.read_text(encoding="utf-8").replace("−", "-")
    said = re.findall(r"([+-]?\d\.\d+) \[([+-]?\d\.\d+), ([+-]?\d\.\d+)\]", text)
    assert len(said) > 20
    signed = [tuple(one if one[0] in "+-" else f"+{one}" for one in span) for span in said]
    assert [one for one in signed if one not in known] == []
