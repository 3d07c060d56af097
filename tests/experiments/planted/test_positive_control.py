"""Planted truths end to end: a small run through the command, its files, criteria; the whole run is slow."""

import csv

import numpy as np
import pytest

from manifold_lora.experiments.cli import main
from manifold_lora.experiments.planted.control import CRITERIA, Criterion, count, run_studies
from manifold_lora.experiments.planted.settings import TRUTHS, PlantedSettings
from manifold_lora.experiments.planted.study import read, run_study
from manifold_lora.experiments.planted.summary import missed
from manifold_lora.experiments.reports.statistics import paired_difference
from manifold_lora.experiments.reports.verdicts import FORM, NORMS, RULES

SMALL = {
    "studies": 2,
    "seeds": 2,
    "items": 60,
    "reference_seeds": 2,
    "reference_items": 60,
    "steps": 15,
    "train_items": 128,
    "validation_items": 40,
    "jobs": 1,
}


def test_a_small_run_says_what_it_found_and_keeps_every_answer(tmp_path, capsys):
    flags = [part for key, value in SMALL.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    code = main(["positive-control", *flags, "--output", str(tmp_path)])
    shown = capsys.readouterr().out
    assert code == ("MISSED" in shown)
    assert "lorentz: norm-dependent gain or hyperbolic form in 0 of 2, at least 2 wanted" in shown
    assert "power at your R 1, 2 seeds x 60 items: 0 of 2" in shown
    assert "warning: labels that are the teacher's likeliest class" in shown
    with (tmp_path / "studies.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["truth"] for line in lines] == [truth for truth in TRUTHS for _ in range(2)]
    for line in lines:
        assert line["verdict"] in dict(RULES)
        found = np.load(tmp_path / f"{line['truth']}-{int(line['study']):03}.npz")
        best = {arm: found[f"{arm}/validation"].mean((1, 2)).argmax() for arm in ("direct", "norm-blind")}
        assert float(line["learning_rate"]) == found["rates"][best["direct"]]
        ours, theirs = (found[f"{arm}/test"][place].astype(float) for arm, place in best.items())
        gap = paired_difference(ours, theirs)
        assert float(line["norm-blind difference"]) == pytest.approx(gap.mean)
        assert float(line["norm-blind p"]) == pytest.approx(gap.p)


def test_a_study_is_the_same_in_whatever_order_and_process():
    settings = PlantedSettings(**{**SMALL, "truths": ("power", "yours"), "jobs": 2})
    found = {(one.truth, one.number): one for one in run_studies(settings)}
    assert len(found) == 4
    again = run_study("yours", 1, settings)
    for arm, answers in again.answers.items():
        assert (answers.test == found["yours", 1].answers[arm].test).all()
    assert not (again.answers["direct"].test == found["yours", 0].answers["direct"].test).all()


def test_seeds_differ_and_rates_share_them():
    settings = PlantedSettings(**SMALL)
    test = run_study("lorentz", 0, settings).answers["direct"].test
    assert test.shape == (3, 2, 60)
    assert not (test[2, 0] == test[2, 1]).all()


@pytest.mark.parametrize(
    ("better", "word"), [(("lora", "gain-matched-lora", "norm-blind"), NORMS), ((), FORM)]
)
def test_the_word_is_the_rules(better, word):
    """Answers written by hand: direct is right more often than the arms named (than all, if none is)."""
    answers = run_study("yours", 0, PlantedSettings(**{**SMALL, "items": 400})).answers
    rng = np.random.default_rng(0)
    easy = rng.random(400)
    for arm, found in answers.items():
        level = 0.7 if arm == "direct" or (better and arm not in better) else 0.5
        found.validation[:] = True
        found.test[:] = easy + rng.normal(0, 0.02, found.test.shape) < level
    settings = PlantedSettings(**{**SMALL, "items": 400})
    assert read("yours", 0, answers, settings).word == word


@pytest.mark.parametrize(("studies", "most", "least"), [(20, 2, 14), (1, 0, 1), (10, 1, 7)])
def test_the_criteria_are_shares_of_the_studies(studies, most, least):
    at_most, at_least = Criterion("linear", (NORMS,), True), Criterion("lorentz", (NORMS,), False)
    assert at_most.bound(studies) == most
    assert at_least.bound(studies) == least
    assert at_most.passes(most, studies)
    assert not at_most.passes(most + 1, studies)
    assert at_least.passes(least, studies)
    assert not at_least.passes(least - 1, studies)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--R 0", "greater than 0"),
        ("--truths linear linear", "each once"),
        ("--seeds 1", "greater than or equal to 2"),
        ("--truths liner", "did you mean 'linear'?"),
    ],
)
def test_bad_flags_are_one_line(flags, said, capsys):
    assert main(["positive-control", *flags.split()]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


@pytest.mark.slow
def test_the_rule_survives_planted_truths(tmp_path):
    settings = PlantedSettings(output=tmp_path)
    readings = list(run_studies(settings))
    assert {one.truth for one in CRITERIA} <= set(settings.truths)
    assert not missed(readings, settings)
    assert count(readings, "argmax", (NORMS, FORM)) > count(readings, "linear", (NORMS, FORM))
