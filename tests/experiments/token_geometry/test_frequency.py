import json

import numpy as np
import powerlaw
import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.token_geometry.frequency import count_tokens, fit_power_law


def planted(gamma, n=6000, xmin=1, seed=0):
    """Exact discrete power-law draws by inverting the zeta distribution's tail."""
    rng = np.random.default_rng(seed)
    values = np.arange(xmin, 2_000_000, dtype=np.float64)
    weights = np.cumsum(values**-gamma)
    return (np.searchsorted(weights, rng.random(n) * weights[-1]) + xmin).astype(int)


@pytest.mark.parametrize("gamma", [1.8, 2.2, 3.0])
def test_a_planted_exponent_is_recovered(gamma):
    fit = fit_power_law(planted(gamma))
    assert fit.gamma == pytest.approx(gamma, abs=max(0.08, 4 * fit.sigma))
    assert fit.versus["exponential"].ratio > 0


@pytest.mark.filterwarnings("ignore:Standard error:DeprecationWarning")
def test_the_fit_is_that_of_the_package():
    counts = planted(2.0)
    theirs = powerlaw.Fit(counts, discrete=True, verbose=0)
    fit = fit_power_law(counts)
    assert fit.gamma == theirs.power_law.alpha
    assert fit.xmin == theirs.xmin
    assert fit.ks == theirs.power_law.D


def test_exponential_counts_are_distinguished_from_a_power_law():
    counts = np.random.default_rng(0).geometric(0.05, size=3000)
    assert fit_power_law(counts).versus["exponential"].ratio < 0


def test_tokens_are_counted_over_all_texts():
    assert count_tokens([[1, 2, 2], [], [2]]) == {1: 1, 2: 3}


@pytest.mark.parametrize("ids", [[], [[]]])
def test_a_corpus_without_tokens_is_refused(ids):
    with pytest.raises(ManifoldLoraError, match="at least one token"):
        count_tokens(ids)


@pytest.mark.parametrize("counts", [[5], [1, 1, 1], [1, 2, 3], [0, 1, 2, 3]])
def test_too_few_different_counts_are_refused(counts):
    with pytest.raises(ManifoldLoraError, match="different counts"):
        fit_power_law(counts)


def test_word_problems_follow_a_power_law_of_about_the_papers_exponent(shared_data):
    """Whole words instead of the paper's subwords: gamma near 1.9 either way."""
    rows = json.loads((shared_data / "tests" / "gsm8k.json").read_text(encoding="utf-8"))
    words = {
        word: i for i, word in enumerate({w for row in rows for w in row["instruction"].lower().split()})
    }
    counts = count_tokens([words[w] for w in row["instruction"].lower().split()] for row in rows)
    assert fit_power_law(list(counts.values())).gamma == pytest.approx(1.95, abs=0.1)
