"""Each verdict follows from the rule that is stated; McNemar is the binomial test by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from manifold_lora.experiments.reports.console import difference
from manifold_lora.experiments.reports.figures.scores import differences
from manifold_lora.experiments.reports.groups import group_of, role_of
from manifold_lora.experiments.reports.latex import latex
from manifold_lora.experiments.reports.mcnemar import McNemar, SeedTests
from manifold_lora.experiments.reports.page.tables import scores_table
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.reports.verdicts import (
    BETTER,
    BIAS_OPEN,
    GAIN_OPEN,
    LINEAR_OPEN,
    MATTERED,
    ONLY_GAIN,
    RULES,
    SAME,
    UNKNOWN,
    WORSE,
    verdict,
)
from manifold_lora.experiments.settings.arms import ARMS

GAIN, FLAT = "gain-matched-lora", 0.5


def said(folder, arm="direct"):
    study = Study.read(folder)
    row = next(row for row in study.rows if row.label == arm)
    found = verdict(row, "test", study.rows)
    assert found is not None
    assert found.word in dict(RULES)
    return found


@pytest.mark.parametrize(
    ("levels", "word"),
    [
        ({"lora": 0.5, GAIN: 0.52, "tangent": 0.5, "direct": 0.7}, MATTERED),
        ({"lora": 0.5, GAIN: 0.7, "tangent": 0.5, "direct": 0.7}, ONLY_GAIN),
        ({"lora": 0.5, GAIN: 0.5, "tangent": 0.7, "direct": 0.7}, LINEAR_OPEN),
        ({"lora": 0.5, GAIN: 0.5, "direct": 0.7}, LINEAR_OPEN),
        ({"lora": 0.5, "tangent": 0.5, "direct": 0.7}, GAIN_OPEN),
        ({"lora": 0.5, GAIN: 0.5, "tangent": 0.5, "direct": 0.3}, WORSE),
        ({"lora": 0.5, GAIN: 0.5, "tangent": 0.5, "direct": 0.5}, UNKNOWN),
    ],
)
def test_the_rules(levels, word, report_on):
    assert said(report_on(levels)).word == word


def test_a_figure_stands_behind_each_word(report_on):
    found = said(report_on({"lora": 0.5, GAIN: 0.52, "tangent": 0.5, "direct": 0.7}))
    for other in ("lora", GAIN, "tangent"):
        assert f"points to {other}" in found.because
    unknown = said(report_on({"lora": 0.5, "direct": 0.5}))
    assert "smallest detectable difference" in unknown.because


def test_nothing_follows_from_one_seed(report_on):
    found = said(report_on({"lora": 0.2, GAIN: 0.2, "tangent": 0.2, "direct": 0.9}, seeds=1))
    assert found.word == UNKNOWN
    assert "one seed" in found.because


@pytest.mark.parametrize(("seeds", "starred"), [(1, False), (2, True)])
def test_no_star_and_no_filled_mark_by_one_seed(seeds, starred, report_on):
    study = Study.read(report_on({"lora": 0.2, "direct": 0.9}, seeds=seeds))
    (item,) = study.rows[1].comparisons
    assert item.p_adjusted < 0.05
    assert item.is_significant == starred
    assert difference(item).endswith("*") == starred
    assert ("]*" in scores_table(study)) == starred
    assert ("^{*}$ [" in latex(study)) == starred
    figure = differences(study.rows)
    assert figure is not None
    mark = next(line for line in figure.axes[0].lines if line.get_marker() == "o" and len(line.get_xdata()))
    assert (mark.get_markerfacecolor() != "none") == starred


def test_an_arm_that_never_differs_is_no_want_of_data(report_on):
    rows = Study.read(report_on({"lora": 0.5, "tangent": 0.5})).rows
    alike = replace(rows[1].comparisons[0], mcnemar=SeedTests({0: McNemar(0, 0), 1: McNemar(0, 0)}))
    found = verdict(replace(rows[1], comparisons=(alike,)), "test", rows)
    assert found is not None
    assert found.word == SAME


def test_an_arm_without_geometry_is_never_said_to_prove_one(report_on):
    assert said(report_on({"lora": 0.5, "dora": 0.8}), "dora").word == BETTER


def test_a_geometry_is_compared_with_every_control_and_all_are_adjusted_together(report_on):
    folder = report_on({"lora": 0.5, GAIN: 0.5, "tangent": 0.5, "shuffled-norms": 0.5, "direct": 0.7})
    rows = Study.read(folder).rows
    direct = next(row for row in rows if row.label == "direct")
    assert [item.role for item in direct.comparisons] == ["baseline", "gain", "tangent", "norms"]
    items = [item for row in rows for item in row.comparisons]
    assert len(items) == 3 + 4
    expected = stats.false_discovery_control([item.difference.p for item in items])
    assert [item.p_adjusted for item in items] == pytest.approx(list(expected))


def test_boost_has_to_beat_a_bias_too(report_on):
    levels = {"lora": 0.4, GAIN: 0.4, "tangent": 0.4, "boost": 0.7}
    assert said(report_on(levels), "boost").word == BIAS_OPEN
    assert said(report_on({**levels, "lora-bias": 0.7}), "boost").word == BIAS_OPEN
    assert said(report_on({**levels, "lora-bias": 0.5}), "boost").word == MATTERED
    assert said(report_on({**levels, "lora-bias": 0.7, "direct": 0.7})).word == MATTERED


def test_arms_by_what_they_are_for():
    groups = {name: group_of(role_of({}, name)) for name in ARMS if name != "custom"}
    controls = {name for name, group in groups.items() if group == "control"}
    assert controls == {GAIN, "tangent", "euclidean", "direct-flat", "shuffled-norms", "lora-bias"}
    assert {name for name, group in groups.items() if group == "baseline"} >= {"lora", "dora", "prefix"}
    assert {name for name, group in groups.items() if group == "geometry"} >= {"direct", "boost"}
    assert role_of({"adapter": {"curvature": {"mode": "fixed", "kappa": -1e-6}}}, "direct") == "flat"
    assert role_of({"adapter": {"transform": "tangent"}}, "mine") == "tangent"


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(arm, other):
    p = McNemar(arm, other).p
    total = arm + other
    one_tail = stats.binom.cdf(min(arm, other), total, 0.5)
    assert p == pytest.approx(min(1.0, 2 * one_tail))
    assert McNemar(other, arm).p == pytest.approx(p)


def test_mcnemar_by_seed_and_pooled():
    arm = np.array([[1, 1, 0, 1], [1, 0, 0, 1]])
    other = np.array([[0, 1, 1, 1], [0, 0, 0, 0]])
    tests = SeedTests.of([3, 5], arm, other)
    assert tests.by_seed == {3: McNemar(1, 1), 5: McNemar(2, 0)}
    assert tests.pooled == McNemar(3, 1)
    assert tests.by_seed[5].p == pytest.approx(0.5)
