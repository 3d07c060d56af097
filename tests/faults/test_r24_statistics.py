"""R24: where no arm differs from another, intervals cover and a table finds nothing."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from manifold_lora.experiments.reports.statistics import CrossedMean, adjusted

DRAWS, ARMS = 250, 6
# Seeds, items, and the spread over seeds and over items of the log-odds of a right answer.
SETTINGS = [(3, 240, 0.3, 1.5), (5, 240, 0.3, 1.0), (3, 100, 0.6, 1.0), (5, 1000, 0.1, 1.5)]
PRIVATE = 0.5


def answers(rng, draws, seeds, items, seed_sd, item_sd):
    """0/1 answers (draws, arms, seeds, items): items are as hard for every arm, seeds as lucky in each."""
    odds = (
        0.6 + rng.normal(0, seed_sd, (draws, ARMS, seeds, 1)) + rng.normal(0, item_sd, (draws, 1, 1, items))
    )
    odds = odds + rng.normal(0, PRIVATE, (draws, ARMS, seeds, items))
    return (rng.random(odds.shape) < expit(odds)).astype(float)


def true_accuracy(seed_sd, item_sd):
    """The mean of expit(normal), by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    spread = np.sqrt(seed_sd**2 + item_sd**2 + PRIVATE**2)
    return float(weights @ expit(0.6 + spread * nodes) / weights.sum())


def simulate(setting, draws, seed):
    """Coverage of the accuracy, of a difference, and by items alone; tables with a false discovery."""
    rng = np.random.default_rng(seed)
    truth = true_accuracy(*setting[2:])
    counts = np.zeros(4)
    for size in [50] * (draws // 50):
        right = answers(rng, size, *setting)
        one = CrossedMean.of(right[:, 0])
        counts[0] += (np.abs(one.mean - truth) <= one.half_width(0.05)).sum()
        gaps = CrossedMean.of(right[:, 1:] - right[:, :1])
        counts[1] += (np.abs(gaps.mean) <= gaps.half_width(0.05)).mean(axis=1).sum()
        by_item = right[:, 0].mean(axis=1)
        width = stats.t.ppf(0.975, setting[1] - 1) * stats.sem(by_item, axis=-1)
        counts[2] += (np.abs(by_item.mean(axis=-1) - truth) <= width).sum()
        counts[3] += sum(min(adjusted(list(p))) < 0.05 for p in gaps.p_values())
    return counts / draws


def test_intervals_and_false_discoveries(tally):
    rates = [simulate(setting, DRAWS, seed=24) for setting in SETTINGS]
    covered, gaps, items_only, false = np.array(rates).T

    def span(values):
        return f"{values.min():.3f}-{values.max():.3f}"

    tally(
        "R24",
        f"settings x {DRAWS} null simulations: accuracy's 95 % interval covers {span(covered)} "
        f"(items alone: {span(items_only)})",
        int(((covered >= 0.93) & (covered <= 1)).sum()),
        len(SETTINGS),
    )
    inside = int(((gaps >= 0.93) & (gaps <= 1)).sum())
    tally("R24", f"settings: a difference's 95 % interval covers {span(gaps)}", inside, len(SETTINGS))
    tally(
        "R24",
        f"settings: tables of {ARMS - 1} comparisons with a false discovery {span(false)}",
        int((false <= 0.06).sum()),
        len(SETTINGS),
    )


@pytest.mark.slow
@pytest.mark.parametrize("setting", [*SETTINGS, (2, 240, 0.3, 1.0), (10, 240, 0.3, 1.5)], ids=str)
def test_the_figures_that_the_report_quotes(setting, tally):
    covered, gaps, _, false = simulate(setting, 2000, seed=1)
    message = (
        f"{setting}: 2000 null simulations: covers {covered:.3f}, differences {gaps:.3f}, false {false:.3f}"
    )
    within = [0.94 <= covered <= 1, 0.94 <= gaps <= 1, false <= 0.05]
    tally("R24", message, sum(within), 3)
