from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.token_geometry.embeddings import EmbeddingTable
from manifold_lora.experiments.token_geometry.norms import frequency_bins, norm_bands, spearman
from manifold_lora.experiments.token_geometry.vocabulary import encode, word_ids
from manifold_lora.experiments.token_geometry.words import word_groups
from manifold_lora.models.load import load_tokenizer


@given(seed=st.integers(0, 1000), n=st.integers(5, 60), ties=st.booleans())
@settings(max_examples=40, deadline=None)
def test_rho_is_scipys_and_lies_in_its_interval(seed, n, ties):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n))
    x = np.round(x) if ties and np.ptp(np.round(x)) else x
    found = spearman(x, y, resamples=200)
    assert found.rho == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    assert -1 <= found.low <= found.high <= 1


def test_the_interval_covers_independence_as_often_as_it_says_and_finds_a_relation():
    draws = (np.random.default_rng(seed).normal(size=(2, 80)) for seed in range(60))
    found = [spearman(x, y, resamples=200) for x, y in draws]
    assert sum(one.low < 0 < one.high for one in found) >= 52
    x, noise = np.random.default_rng(0).normal(size=(2, 80))
    assert spearman(x, -x + 0.1 * noise, resamples=200).high < -0.9


@pytest.mark.parametrize(("x", "y"), [([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [1, 2])])
def test_undefined_correlations_are_refused(x, y):
    with pytest.raises(ManifoldLoraError, match="columns"):
        spearman(np.array(x), np.array(y))


def test_bands_hold_every_token_once_in_order_of_norm_with_the_most_frequent_first():
    norms = np.random.default_rng(0).uniform(size=50)
    counts, ids = np.arange(50), np.arange(100, 150)
    bands = norm_bands(ids, counts, norms, bands=5, shown=50)
    shown = [token for band in bands for token in band.most_frequent]
    assert sorted(shown) == ids.tolist()
    assert all(a.high <= b.low for a, b in pairwise(bands))
    for band in bands:
        assert list(band.most_frequent) == sorted(band.most_frequent, reverse=True)


def test_bins_average_norms_by_log_count():
    bins = frequency_bins(np.array([1, 1, 1000, 1000]), np.array([1.0, 3.0, 5.0, 5.0]), bins=3)
    assert [(round(one.count), one.norm, one.tokens) for one in bins] == [(1, 2.0, 2), (1000, 5.0, 2)]
    assert [one.error for one in bins] == [1.0, 0.0]


def test_word_groups_are_means_over_known_words(tiny):
    table, tokenizer = EmbeddingTable.open(str(tiny)), load_tokenizer(str(tiny))
    groups = {
        one.name: one
        for one in word_groups(table, tokenizer, {"mine": ["dog", "apple", "zebra"], "none": ["qq"]})
    }
    ids = [word_ids(tokenizer, word)[0] for word in ("dog", "apple")]
    assert list(groups) == ["mine"]
    assert groups["mine"].mean == pytest.approx(table.norms[ids].mean())
    assert (groups["mine"].low, groups["mine"].high) == (table.norms[ids].min(), table.norms[ids].max())
    assert groups["mine"].words.keys() == {"dog", "apple"}


def test_a_model_without_tokenizer_is_refused(tiny, tmp_path):
    (tmp_path / "config.json").write_bytes((tiny / "config.json").read_bytes())
    with pytest.raises(ManifoldLoraError, match="tokenizer"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_texts_without_tokens_are_refused(tiny, texts):
    with pytest.raises(ManifoldLoraError, match="at least one token"):
        encode(load_tokenizer(str(tiny)), texts, special=False)
