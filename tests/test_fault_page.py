"""The page of the fault checks names its commit, and the tests that failed before they counted."""

import subprocess

import fault_page
from fault_page import Outcome, Row

GIT = "manifold_lora.experiments.bench.commit._git"


def test_the_page_of_a_run(monkeypatch):
    monkeypatch.setattr(GIT, lambda *words: "abc" if words[0] == "rev-parse" else "")
    rows = [Row("R1", "kills", 2, 3, 0.51)]
    page = fault_page.fault_page(rows, Outcome(["a", "b"], ["tests/c.py::test_d"], ["e"], 150.0))
    assert "at commit abc, in 2 min;" in page
    assert "2 tests passed, 1 failed, 1 were skipped" in page
    assert "- failed: `tests/c.py::test_d`\n" in page
    assert page.endswith("| R1 | kills | 2 | 3 | 0.5 |\n")


def test_a_commit_that_is_not_what_runs_is_named_so(monkeypatch):
    monkeypatch.setattr(GIT, lambda *words: "abc" if words[0] == "rev-parse" else " M x.py")
    assert fault_page.commit() == "abc with changes"

    def fails(*words):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(GIT, fails)
    assert fault_page.commit() == "unknown"
