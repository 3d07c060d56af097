"""Rows come from verified results, rates from validation alone, differences from the same items and seeds."""

import csv
import io

import pytest
from rich.console import Console

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.reports.comparison import compare
from manifold_lora.experiments.reports.report import write_report
from manifold_lora.experiments.reports.row import label_of
from manifold_lora.experiments.results.manifest import Manifest


def _rows(store, baseline="lora"):
    return compare(store.all(), store.items, baseline)


def test_the_rate_is_chosen_on_validation_even_where_test_disagrees(ablation):
    _, store = ablation
    lora = _rows(store)[0]
    assert (lora.label, lora.chosen.value) == ("lora", 1e-3)
    assert lora.scores["test"].mean == pytest.approx(3 / 8)
    assert not lora.at_edge  # of two rates either is at the edge: it says nothing


def test_the_difference_is_paired_by_seed_and_item(ablation):
    _, store = ablation
    direct = _rows(store)[1]
    assert direct.with_role("test", "baseline").difference.mean == pytest.approx(6 / 8 - 3 / 8)
    assert direct.with_role("test", "baseline").p_adjusted == pytest.approx(
        direct.with_role("test", "baseline").difference.p
    )
    assert direct.gain == pytest.approx(1.3)
    assert direct.kappa == -1.0


def test_a_rate_with_fewer_finished_seeds_is_not_chosen(ablation):
    _, store = ablation
    records = [
        record for record in store.all() if record["run"]["train"] != {"learning_rate": 1e-3, "seed": 1}
    ]
    assert compare(records, store.items, "lora")[0].chosen.value == 1e-2


def test_other_grid_values_set_arms_apart():
    point = {"arm": "direct", "adapter.curvature": -0.5, "train.seed": 3, "train.learning_rate": 0.1}
    assert label_of({"point": point}) == "direct curvature=-0.5"


def test_further_grid_values_are_compared_like_with_like(two_ranks):
    rows = _rows(two_ranks)
    direct = {row.label: row for row in rows if row.arm == "direct"}
    assert direct["direct rank=2"].against == "lora rank=2"
    assert direct["direct rank=8"].with_role("test", "baseline").difference.mean == pytest.approx(0.5)
    assert all(not row.comparisons for row in rows if row.arm == "lora")


def test_an_accuracy_stays_between_0_and_1(ablation):
    _, store = ablation
    for row in _rows(store):
        score = row.scores["test"]
        assert 0 <= score.low <= score.mean <= score.high <= 1


def test_the_csv_holds_what_the_console_says(ablation):
    folder, _ = ablation
    console = Console(record=True, width=130)
    assert write_report(folder, console) == 0
    lines = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    assert [line["arm"] for line in lines] == ["lora", "direct"]
    text = console.export_text()
    for line in lines:
        assert f"{100 * float(line['accuracy']):.1f}" in text
    assert f"{100 * float(lines[1]['difference']):+.1f}" in text
    assert (folder / "table.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_or_damaged_cell_is_a_row_with_its_reason_and_exit_1(ablation):
    folder, store = ablation
    damaged = Manifest.read(folder).cells[-1]
    store.items_path(damaged).write_text("{}\n")
    console = Console(record=True, width=130)
    assert write_report(folder, console) == 1
    assert damaged in console.export_text()


def test_a_folder_without_an_ablation_is_refused(tmp_path):
    with pytest.raises(ManifoldLoraError, match="ablation's output folder"):
        write_report(tmp_path, Console())
