"""R6: a cell that takes more memory than it may is ended as oom; the others are done."""

from fault_drivers import contents, sweep

from manifold_lora.experiments.results.store import ResultStore


def test_a_cell_that_swells(tmp_path, tally):
    assert sweep(tmp_path, "--cells", 8, "--jobs", 3, "--swells", 4, "--memory-mb", 300)[0] == 1
    record = ResultStore(tmp_path).read("cell004")
    assert record["status"] == "oom"
    assert "over the limit of 300 MB" in record["reason"]
    tally("R6", "memory limit on one cell: oom, the others done", len(contents(tmp_path)), 7)
