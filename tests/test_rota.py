"""Every slow test has its day, and every day its group."""

from datetime import date, timedelta
from pathlib import Path

import rota

ROOT = Path(__file__).parents[1]
# Tests of vLLM have an environment of their own.
ELSEWHERE = {"tests/serving/test_vllm.py"}


def test_every_file_with_a_slow_test_is_in_one_group():
    marked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("test_*.py")
        if path != Path(__file__) and "pytest.mark.slow" in path.read_text(encoding="utf-8")
    }
    listed = [file for group in rota.GROUPS.values() for file in group.files]
    assert len(listed) == len(set(listed))
    assert marked - ELSEWHERE <= set(listed)
    assert all((ROOT / file).is_file() for file in listed)


def test_every_group_comes_within_as_many_days_as_there_are_groups():
    start = date(2026, 3, 1)
    days = {rota.of_day(start + timedelta(days=day)) for day in range(len(rota.GROUPS))}
    assert days == set(rota.GROUPS)


def test_the_day_s_group_is_named_and_run(monkeypatch, capsys):
    monkeypatch.setitem(rota.GROUPS, "one", rota.Group(("tests/x.py",), {"A": "b"}))
    seen = []

    class Done:
        returncode = 5

    monkeypatch.setattr(
        rota.subprocess, "run", lambda words, **options: seen.append((words, options)) or Done
    )
    assert rota.main(["one"]) == 5
    assert seen[0][0][-3:] == ["-m", "slow", "tests/x.py"]
    assert (seen[0][1]["env"]["A"], seen[0][1]["timeout"]) == ("b", 60 * rota.MINUTES)
    assert capsys.readouterr().out.startswith("rota: one (9 of 9); next: kills and clusters")
    assert rota.main(["none"]) == 2


def test_a_group_that_takes_too_long_fails(monkeypatch, capsys):
    def slow(*_, **options):
        raise rota.subprocess.TimeoutExpired("pytest", options["timeout"])

    monkeypatch.setattr(rota.subprocess, "run", slow)
    assert rota.main([]) == 124
    assert "longer than 20 minutes" in capsys.readouterr().out
