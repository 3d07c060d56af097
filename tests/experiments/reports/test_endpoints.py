"""Endpoints beside accuracy, and items in clusters: every number worked out by hand."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from manifold_lora.experiments.reports.comparison import compare
from manifold_lora.experiments.reports.csv_files import endpoints_csv
from manifold_lora.experiments.reports.endpoints import endpoints
from manifold_lora.experiments.reports.matrices import Answers
from manifold_lora.experiments.reports.row import COSTS
from manifold_lora.experiments.reports.statistics import crossed_estimate
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.tasks.taxonomy import Taxonomy


def study_of(cells):
    """(arm, rate, seed, right, nats or None, clusters or None) per cell -> records and a reader of items."""
    records, items = [], {}
    for place, (arm, rate, seed, right, nats, clusters) in enumerate(cells):
        cell = f"cell {place}"
        records.append(
            {
                "cell": cell,
                "status": "ok",
                "point": {"arm": arm, "train.learning_rate": rate, "train.seed": seed},
                "run": {"arm": arm, "train": {"learning_rate": rate, "seed": seed}},
                # The lower rate is chosen.
                "evaluation": {
                    "validation": {"accuracy": 1 - rate},
                    "test": {"accuracy": 0.0, "items": len(right)},
                },
                "cost": dict.fromkeys(COSTS, 1.0),
                "geometry": {"gain": {}, "kappa": {}},
            }
        )
        items[cell] = [
            {"set": "test", "id": f"{at:02}", "correct": bool(one)}
            | ({"nll": nats[at]} if nats else {})
            | ({"cluster": clusters[at]} if clusters else {})
            for at, one in enumerate(right)
        ]
    return records, items.__getitem__


def found(cells):
    records, items = study_of(cells)
    rows = compare(records, items, "lora")
    return {one.kind: one for one in endpoints(rows, Answers(items)) if one.about.role == "baseline"}


RIGHT = {
    ("lora", 0.1): [[1, 0, 0, 0], [1, 1, 0, 0]],
    ("lora", 0.2): [[0, 0, 0, 0], [0, 0, 0, 1]],
    ("dora", 0.1): [[1, 0, 1, 0], [1, 1, 0, 0]],
    ("dora", 0.2): [[1, 1, 0, 0], [1, 0, 1, 1]],
}


def grid(nats=None, clusters=None):
    return [
        (arm, rate, seed, right, nats and nats[arm][seed], clusters)
        for (arm, rate), seeds in RIGHT.items()
        for seed, right in enumerate(seeds)
    ]


def test_the_mean_over_rates_is_each_items_own():
    one = found(grid())["mean over rates"]
    dora, lora = ((np.array(RIGHT[arm, 0.1]) + np.array(RIGHT[arm, 0.2])) / 2 for arm in ("dora", "lora"))
    expected = crossed_estimate(dora - lora)
    assert one.difference.mean == pytest.approx(9 / 16 - 4 / 16)
    assert (one.difference.low, one.difference.high, one.difference.p) == pytest.approx(
        (expected.low, expected.high, expected.p)
    )
    assert (one.value, one.other_value, one.rates) == (9 / 16, 4 / 16, (0.1, 0.2))


def test_accuracy_is_the_comparisons_own():
    one = found(grid())["accuracy"]
    assert one.difference == one.about.difference
    assert (one.value, one.other_value) == (4 / 8, 3 / 8)


def test_only_rates_that_all_arms_have_are_in_the_mean():
    more = [*grid(), *(("dora", 0.3, seed, [1, 1, 1, 1], None, None) for seed in (0, 1))]
    assert found(more)["mean over rates"].rates == (0.1, 0.2)
    assert found(more)["mean over rates"].value == 9 / 16
    alone = [cell for cell in grid() if cell[:2] != ("lora", 0.2)]
    assert set(found(alone)) == {"accuracy"}


def test_a_seed_that_lacks_a_rate_is_in_no_mean_over_rates():
    one = found([cell for cell in grid() if cell[:3] != ("lora", 0.2, 1)])["mean over rates"]
    assert one.difference.seeds == 1
    assert one.value == 4 / 8


NATS = {
    "lora": [[1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.0, 2.0]],
    "dora": [[0.5, 2.0, 3.5, 2.0], [1.0, 2.0, 1.0, 2.0]],
}


def test_nats_are_compared_at_the_chosen_rate():
    one = found(grid(NATS))["nll"]
    assert (one.value, one.other_value) == pytest.approx((14 / 8, 18 / 8))
    expected = crossed_estimate(np.array(NATS["dora"]) - np.array(NATS["lora"]))
    assert (one.difference.mean, one.difference.p) == pytest.approx((-0.5, expected.p))


def test_nats_that_one_item_lacks_are_no_endpoint():
    gone = {**NATS, "dora": [[0.5, None, 3.5, 2.0], NATS["dora"][1]]}
    assert "nll" not in found(grid(gone))


def test_two_orders_of_a_pair_count_as_one():
    one = found(grid(NATS, ["a", "a", "b", "b"]))
    gap = one["accuracy"].difference
    assert (gap.seeds, gap.items) == (2, 2)
    by_cluster = np.array([[0.0, 0.5], [0.0, 0.0]])
    expected = crossed_estimate(by_cluster)
    assert (gap.mean, gap.low, gap.high) == pytest.approx((expected.mean, expected.low, expected.high))
    assert one["nll"].difference.items == 2
    # McNemar's tests stay with single answers.
    assert one["accuracy"].about.mcnemar.by_seed[0].arm == 1


def test_an_item_without_a_cluster_is_its_own_even_where_a_cluster_has_its_name():
    _, items = study_of([("lora", 0.1, 0, [1, 0, 1], None, ["02", "02", ""])])
    matrix = Answers(items).matrix({0: {"cell": "cell 0"}}, "test")
    assert matrix[0] == pytest.approx([2 / 3, 2 / 3])


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", "a", "b"])), min_size=1, max_size=12))
def test_the_mean_is_the_share_of_all_items_whatever_the_clusters_sizes(answers):
    right, clusters = ([part[at] for part in answers] for at in (0, 1))
    _, items = study_of([("lora", 0.1, 0, [int(one) for one in right], None, clusters)])
    matrix = Answers(items).matrix({0: {"cell": "cell 0"}}, "test")
    assert matrix.mean() == pytest.approx(sum(right) / len(right))


@given(st.integers(0, 2**20))
def test_items_doubled_tell_nothing_new_as_clusters(seed):
    rng = np.random.default_rng(seed)
    right = {arm: (rng.random((3, 20)) < 0.5).astype(int) for arm in ("lora", "dora")}
    names = [str(at // 2) for at in range(40)]

    def gap(copies, clusters):
        cells = [
            (arm, 0.1, place, np.repeat(one, copies).tolist(), None, clusters)
            for arm, rows in right.items()
            for place, one in enumerate(rows)
        ]
        return found(cells)["accuracy"].difference

    single, doubled = gap(1, None), gap(2, names)
    assert (doubled.mean, doubled.p) == pytest.approx((single.mean, single.p))


def test_an_interval_over_clusters_holds_where_one_over_items_does_not():
    """Of 400 null studies whose two orders agree, 5 % are found by clusters; by items twice as many."""
    rng = np.random.default_rng(0)
    wrong = {"clusters": 0, "items": 0}
    for _ in range(400):
        pairs = rng.normal(0, 1, 60) + rng.normal(0, 0.3, (4, 60))
        wrong["clusters"] += crossed_estimate(pairs).p < 0.05
        wrong["items"] += crossed_estimate(np.repeat(pairs, 2, axis=1)).p < 0.05
    assert stats.binom.sf(wrong["clusters"] - 1, 400, 0.05) > 0.01
    assert wrong["items"] > 2 * wrong["clusters"]


def test_the_taxonomys_two_orders_are_one_cluster():
    splits = Taxonomy().splits
    for examples in (splits.train, splits.validation, *splits.tests.values()):
        pairs = {}
        for example in examples:
            pairs.setdefault(example.cluster, []).append(frozenset(example.prompt.split()[1:3]))
        assert all(len(words) == 2 and len(set(words)) == 1 for words in pairs.values())


def test_the_csv_and_the_page_hold_every_endpoint(report_on):
    study = Study.read(report_on({"lora": 0.5, "direct": 0.6}, rates=(1e-2, 2e-2)))
    lines = list(csv.DictReader(io.StringIO(endpoints_csv(study.endpoints))))
    assert [line["endpoint"] for line in lines] == ["accuracy", "mean over rates"]
    for line, one in zip(lines, study.endpoints, strict=True):
        assert float(line["difference"]) == one.difference.mean
        assert float(line["p"]) == one.difference.p
        assert line["learning_rates"] == ("0.02" if line["endpoint"] == "accuracy" else "0.01 0.02")
