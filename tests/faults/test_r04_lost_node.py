"""R4: a node of a Ray cluster is lost while its cells run; the other one does them again."""

import pytest
from fault_drivers import contents, finish, start
from fault_jobs import notes


@pytest.mark.slow
def test_a_node_removed_mid_run(tmp_path, tally):
    cells = 24
    code, said = finish(start(tmp_path, cells, script="fault_cluster.py"))
    assert code == 0, said
    assert notes(tmp_path, "removed")
    tally("R4", "one of two Ray nodes removed mid-run", len(contents(tmp_path)), cells)
