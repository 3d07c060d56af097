"""The first line of a report: what was found, what explains it, or how large a lead stays possible."""

import re

import pytest

from manifold_lora.experiments.reports.answer import answer
from manifold_lora.experiments.reports.page.page import page, signed
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.reports.verdicts import verdict


def answer_of(folder):
    return answer(Study.read(folder).rows)


def test_a_winner_over_every_control_is_named_with_its_lead(report_on):
    levels = {"lora": 0.4, "gain-matched-lora": 0.45, "norm-blind": 0.45, "direct": 0.7}
    found = answer_of(report_on(levels))
    assert found.is_found
    assert re.fullmatch(
        r"direct is better than lora and than its controls by [\d.]+ \[.*\] points on test: .*\.", found.text
    )
    assert found.arm == "direct"
    assert found.about.role == "baseline"


def test_a_lead_that_a_control_has_too_needs_no_curvature(report_on):
    found = answer_of(report_on({"lora": 0.4, "gain-matched-lora": 0.7, "direct": 0.7}))
    assert not found.is_found
    assert found.text.endswith(": only gain, which needs no curvature.")


def test_a_small_table_cannot_tell_and_says_what_it_leaves_open_and_would_have_found(report_on):
    folder = report_on({"lora": 0.5, "direct": 0.5, "boost": 0.5}, items=30)
    rows = Study.read(folder).rows
    found = answer(rows)
    bound, detectable = map(float, re.findall(r"(\d+\.\d)", found.text))
    assert found.text.startswith("Cannot tell: no geometry is better than lora by more than ")
    gaps = [row.with_role("test", "baseline") for row in rows[1:]]
    # Shared by two comparisons, the bound is that of the ordinary interval at least.
    assert bound >= max(100 * gap.difference.high for gap in gaps) - 0.05
    assert detectable == pytest.approx(min(100 * gap.detectable for gap in gaps), abs=0.05)


def test_a_large_table_bounds_the_lead(report_on):
    # Two more items of 20 000 in some seeds: below a point, and known to be.
    found = answer_of(report_on({"lora": 0.5, "direct": 0.5001}, items=20_000, seeds=10))
    assert re.fullmatch(r"No geometry is better than lora by more than 0\.\d points\.", found.text)


def test_a_loss_is_said_to_be_one(report_on):
    assert answer_of(report_on({"lora": 0.7, "direct": 0.3})).text.startswith(
        "Every geometry is worse than lora, by "
    )


def test_one_seed_and_no_geometry_say_nothing(report_on):
    assert "one seed" in answer_of(report_on({"lora": 0.5, "direct": 0.6}, seeds=1)).text
    assert "No geometry was compared with lora" in answer_of(report_on({"lora": 0.5, "dora": 0.6})).text
    assert answer_of(report_on({"lora": 0.5})) is None


def test_the_page_begins_with_it_and_folds_equal_verdicts(report_on):
    study = Study.read(report_on({"lora": 0.5, "tangent": 0.5, "direct": 0.5, "boost": 0.5}, items=40))
    text = page(study, [])
    head, reading = text.split("<nav>")[0], text.split('id="reading"')[1].split("</section>")[0]
    assert head.index('class="answer open"') < head.index('class="lead"')
    words = [verdict(row, "test", study.rows).word for row in study.rows if row.group == "geometry"]
    assert reading.count("<details") == len(set(words)) + 1  # and that of tangent
    assert reading.count('class="arm"') == 3


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("-5.0 [-19.6, +9.6] points to direct-dose-0.15", "−5.0 [−19.6, +9.6] points to direct-dose-0.15"),
        ("x -1", "x −1"),
        ("1e-3, lora-r3, K0.5-2", "1e-3, lora-r3, K0.5-2"),
    ],
)
def test_figures_have_minus_signs_and_names_keep_their_hyphens(given, shown):
    assert signed(given) == shown
