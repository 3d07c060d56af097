"""A lead must exceed the one that it has where the truth is blind to norms."""

from types import SimpleNamespace

import numpy as np
import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.reports.null import Excess, best_blind, excesses, standing
from manifold_lora.experiments.reports.row import Claim, Comparison
from manifold_lora.experiments.reports.statistics import crossed_estimate


def lead(mean, seeds=5, items=400, role="blind"):
    values = np.random.default_rng(0).normal(mean, 0.2, (seeds, items))
    return Comparison("test", "control", role, crossed_estimate(values + mean - values.mean()), None)


def row(role, validation=0.5, comparisons=(), claims=(), label="direct"):
    chosen = SimpleNamespace(validation=validation)
    return SimpleNamespace(role=role, label=label, chosen=chosen, comparisons=comparisons, claims=claims)


def test_an_excess_is_the_difference_of_two_leads_with_both_their_errors():
    one = Excess("direct", lead(0.10), lead(0.04))
    assert one.crossed.mean == pytest.approx(0.06)
    alone = one.real.difference.crossed
    assert one.crossed.by_items == pytest.approx(2 * alone.by_items)
    assert one.exceeds
    assert "exceeds the null's +4.0" in one.line()


@pytest.mark.parametrize(("real", "null", "seeds"), [(0.1, 0.1, 5), (0.04, 0.1, 5), (0.1, 0.04, 1)])
def test_a_lead_that_the_null_has_too_does_not_exceed_it_nor_does_any_by_one_seed(real, null, seeds):
    one = Excess("direct", lead(real, seeds), lead(null, seeds))
    assert not one.exceeds
    assert "does not exceed" in one.line()


@pytest.mark.parametrize(("null", "word"), [(0.0, "direct, norms on test: stands"), (0.1, "does not stand")])
def test_a_claim_stands_where_every_hurdle_exceeds_the_null(null, word):
    hurdles = (lead(0.1, role="baseline"), lead(0.1))
    rows = [row("geometry", comparisons=hurdles, claims=[Claim("norms", "test", hurdles, (), 0.01)])]
    nulls = [row("geometry", comparisons=(lead(0.0, role="baseline"), lead(null)))]
    found = excesses(rows, nulls)
    assert len(found) == 2
    (line,) = standing(rows, found)
    assert word in line


def test_the_student_is_the_arm_blind_to_norms_that_is_best_on_validation():
    arms = [row("geometry", 0.9), row("baseline", 0.5), row("blind", 0.7), row("gain", 0.6)]
    assert best_blind(arms) is arms[2]
    with pytest.raises(ManifoldLoraError, match="arms of a null"):
        best_blind(arms[:1])
