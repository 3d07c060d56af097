"""Each verdict follows from the rule that is stated; McNemar is the binomial test by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from manifold_lora.experiments.reports.answer import answer
from manifold_lora.experiments.reports.console import difference
from manifold_lora.experiments.reports.figures.scores import differences
from manifold_lora.experiments.reports.groups import group_of, role_of
from manifold_lora.experiments.reports.latex import latex
from manifold_lora.experiments.reports.mcnemar import McNemar, SeedTests
from manifold_lora.experiments.reports.page.page import page
from manifold_lora.experiments.reports.statistics import paired_difference
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.reports.verdicts import (
    BETTER,
    BIAS,
    EQUIVALENT,
    FACTORS,
    FORM,
    NORMS,
    ONLY_GAIN,
    RULES,
    SAME,
    SATURATION,
    TWIN,
    UNKNOWN,
    WORSE,
    verdict,
)
from manifold_lora.experiments.settings.arms import ARMS

GAIN, BLIND = "gain-matched-lora", "norm-blind"


def said(folder, arm="direct"):
    study = Study.read(folder)
    row = next(row for row in study.rows if row.label == arm)
    found = verdict(row, "test", study.rows)
    assert found is not None
    assert found.word in dict(RULES)
    return found


HURDLES = {"lora": 0.5, GAIN: 0.52, BLIND: 0.5}


@pytest.mark.parametrize(
    ("levels", "word"),
    [
        ({**HURDLES, "direct": 0.7}, NORMS),
        ({**HURDLES, "power": 0.5, "power-learned": 0.52, "direct": 0.7}, FORM),
        ({**HURDLES, "power": 0.7, "power-learned": 0.5, "direct": 0.7}, NORMS),
        ({**HURDLES, GAIN: 0.7, "direct": 0.7}, ONLY_GAIN),
        ({**HURDLES, BLIND: 0.7, "direct": 0.7}, SATURATION),
        ({"lora": 0.5, GAIN: 0.5, "direct": 0.7}, UNKNOWN),
        ({"lora": 0.5, BLIND: 0.5, "direct": 0.7}, UNKNOWN),
        ({**HURDLES, "direct": 0.3}, WORSE),
        ({**HURDLES, "direct": 0.5}, UNKNOWN),
    ],
)
def test_the_rules(levels, word, report_on):
    assert said(report_on(levels)).word == word


@pytest.mark.parametrize(
    ("levels", "word", "line"),
    [
        ({"lora": 0.5, "three-factors": 0.5, "stiefel": 0.7}, BETTER, "only its weights lie on a manifold"),
        ({"lora": 0.5, "three-factors": 0.7, "stiefel": 0.7}, FACTORS, "needs no curvature"),
        ({"lora": 0.5, "three-factors": 0.5, "stiefel": 0.5}, UNKNOWN, "Cannot tell"),
        ({"lora": 0.5, "stiefel": 0.7}, BETTER, "only its weights lie on a manifold"),
    ],
)
def test_weights_on_a_manifold_are_held_against_three_free_factors(levels, word, line, report_on):
    folder = report_on(levels)
    assert said(folder, "stiefel").word == word
    rows = Study.read(folder).rows
    assert line in answer(rows).text
    item = next(row for row in rows if row.label == "stiefel").with_role("test", "factors")
    assert (item is not None) == ("three-factors" in levels)


def test_a_figure_stands_behind_each_word(report_on):
    found = said(report_on({**HURDLES, "direct": 0.7}))
    for other in HURDLES:
        assert f"points to {other}" in found.because
    assert "no power arm in the grid" in found.because
    unknown = said(report_on({"lora": 0.5, "direct": 0.5}))
    assert "smallest detectable difference" in unknown.because
    assert "no gain arm in the grid" in unknown.because


def test_tangent_is_lora_by_algebra_and_counted_in_no_correction(report_on):
    rows = Study.read(report_on({**HURDLES, "tangent": 0.55, "direct": 0.7})).rows
    tangent, direct = (next(row for row in rows if row.label == name) for name in ("tangent", "direct"))
    assert verdict(tangent, "test", rows).word == TWIN
    assert direct.with_role("test", "tangent") is None
    counted = [row for row in rows if row.comparisons and row.label != "tangent"]
    assert {row.with_role("test", "baseline").tests for row in counted} == {len(counted)}
    assert np.isnan(tangent.with_role("test", "baseline").p_adjusted)


def test_a_claim_is_adjusted_by_the_largest_p_of_its_hurdles(report_on):
    rows = Study.read(
        report_on({**HURDLES, "direct": 0.6, "direct-poincare": 0.62, "direct-sphere": 0.5})
    ).rows
    claims = [row.claim("norms", "test") for row in rows if row.role == "geometry"]
    assert len(claims) == 3
    for claim in claims:
        hurdles = [item.difference for item in claim.hurdles]
        assert claim.p == max(gap.p if gap.mean > 0 else 1.0 for gap in hurdles)
    expected = stats.false_discovery_control([claim.p for claim in claims])
    assert [claim.p_adjusted for claim in claims] == pytest.approx(list(expected))


def test_an_undecided_arm_is_never_said_to_miss_what_the_table_could_have_found(report_on):
    """The words "cannot tell" never stand beside an effect beyond the detectable difference they name."""
    for level in (0.5, 0.53, 0.56, 0.6):
        study = Study.read(report_on({**HURDLES, "direct": level, "direct-sphere": 0.5}))
        for row in study.rows:
            found = verdict(row, "test", study.rows)
            if found is not None and found.word == UNKNOWN:
                item = found.remarks[0].about
                assert item.difference.mean < item.detectable


@pytest.mark.parametrize(("items", "word"), [(40_000, EQUIVALENT), (400, UNKNOWN)])
def test_equivalence_is_shown_by_two_one_sided_tests(items, word, report_on):
    rows = Study.read(report_on({**HURDLES, "direct": 0.5})).rows
    direct = next(row for row in rows if row.label == "direct")
    rng = np.random.default_rng(0)
    ours, theirs = (rng.random((5, items)) < 0.5).astype(float), (rng.random((5, items)) < 0.5).astype(float)
    gap = paired_difference(ours, theirs)
    alike = tuple(replace(item, difference=gap, p_adjusted=1.0) for item in direct.comparisons)
    claims = tuple(replace(one, hurdles=alike) for one in direct.claims)
    assert verdict(replace(direct, comparisons=alike, claims=claims), "test", rows).word == word


def test_nothing_follows_from_one_seed(report_on):
    found = said(report_on({"lora": 0.2, GAIN: 0.2, BLIND: 0.2, "direct": 0.9}, seeds=1))
    assert found.word == UNKNOWN
    assert "one seed" in found.because


@pytest.mark.parametrize(("seeds", "starred"), [(1, False), (2, True)])
def test_no_star_and_no_filled_mark_by_one_seed(seeds, starred, report_on):
    study = Study.read(report_on({"lora": 0.2, "direct": 0.9}, seeds=seeds))
    (item,) = study.rows[1].comparisons
    assert item.p_adjusted < 0.05
    assert item.is_significant == starred
    assert difference(item).endswith("*") == starred
    assert ("]*" in page(study, [])) == starred
    assert ("^{*}$ [" in latex(study)) == starred
    figure = differences(study.rows)
    assert figure is not None
    mark = next(line for line in figure.axes[0].lines if line.get_marker() == "o" and len(line.get_xdata()))
    assert (mark.get_markerfacecolor() != "none") == starred


def test_an_arm_that_never_differs_is_no_want_of_data(report_on):
    rows = Study.read(report_on({"lora": 0.5, "dora": 0.5})).rows
    alike = replace(rows[1].comparisons[0], mcnemar=SeedTests({0: McNemar(0, 0), 1: McNemar(0, 0)}))
    found = verdict(replace(rows[1], comparisons=(alike,)), "test", rows)
    assert found is not None
    assert found.word == SAME


def test_an_arm_without_geometry_is_never_said_to_prove_one(report_on):
    assert said(report_on({"lora": 0.5, "dora": 0.8}), "dora").word == BETTER


def test_a_geometry_is_compared_with_every_control(report_on):
    folder = report_on({**HURDLES, "shuffled-norms": 0.5, "direct": 0.7})
    rows = Study.read(folder).rows
    direct = next(row for row in rows if row.label == "direct")
    assert [item.role for item in direct.comparisons] == ["baseline", "gain", "blind", "norms"]
    items = [row.with_role("test", "baseline") for row in rows if row.comparisons]
    expected = stats.false_discovery_control([item.difference.p for item in items])
    assert [item.p_adjusted for item in items] == pytest.approx(list(expected))


def test_boost_has_to_beat_a_bias_and_its_own_frozen_time_too(report_on):
    levels = {"lora": 0.4, GAIN: 0.4, BLIND: 0.4, "boost": 0.7}
    missing = said(report_on(levels), "boost")
    assert missing.word == UNKNOWN
    assert "no bias arm in the grid" in missing.because
    assert said(report_on({**levels, "lora-bias": 0.7}), "boost").word == BIAS
    hurdles = {**levels, "lora-bias": 0.4, "frozen-boost": 0.4}
    assert said(report_on(hurdles), "boost").word == NORMS
    assert said(report_on({**hurdles, "frozen-boost": 0.7}), "boost").word == BIAS
    assert said(report_on({**levels, "lora-bias": 0.7, "direct": 0.7})).word == NORMS


def test_arms_by_what_they_are_for():
    groups = {name: group_of(role_of({}, name)) for name in ARMS if name != "custom"}
    controls = {name for name, group in groups.items() if group == "control"}
    linear = {"tangent", "euclidean", "direct-flat", "three-factors"}
    dosed = {"norm-blind-dose-0.15", "power-dose-0.15"}
    boosts = {"lora-bias", "frozen-boost"}
    assert controls == {GAIN, BLIND, "power", "power-learned", "shuffled-norms", *boosts, *dosed, *linear}
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
