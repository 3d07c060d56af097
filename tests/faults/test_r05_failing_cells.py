"""R5: one cell always raises, one hangs: both are reported, the others done, and a rerun tries those two."""

import pytest
from fault_drivers import contents, sweep
from fault_jobs import notes

from manifold_lora.experiments.results.store import ResultStore


@pytest.mark.parametrize(
    "executor",
    ["local", pytest.param("ray", marks=pytest.mark.slow), pytest.param("slurm", marks=pytest.mark.slow)],
)
def test_a_cell_that_raises_and_one_that_hangs(tmp_path, tally, executor):
    """SLURM by submitit's own local cluster: the path is the same but for sbatch."""
    flags = ("--executor", executor, "--cells", 12, "--jobs", 4, "--raises", 3, "--hangs", 7, "--timeout", 3)
    assert sweep(tmp_path, *flags)[0] == 1
    raised, hung = (ResultStore(tmp_path).read(cell) for cell in ("cell003", "cell007"))
    assert raised["status"] == "failed"
    assert raised["reason"] == "RuntimeError: this cell always raises"
    assert "Traceback" in raised["traceback"]
    assert "in raises" in raised["traceback"]
    assert raised["run"] == {"place": 3}
    assert (hung["status"], hung["run"]) == ("timeout", {"place": 7})
    assert "3 s" in hung["reason"]
    first = notes(tmp_path, "start")
    assert sweep(tmp_path, *flags)[0] == 1
    again = {cell for cell, _ in notes(tmp_path, "start")[len(first) :]}
    assert again == {"cell003", "cell007"}
    what = f"one cell raises, one hangs: the others done, those two alone rerun ({executor})"
    tally("R5", what, len(contents(tmp_path)), 10)
