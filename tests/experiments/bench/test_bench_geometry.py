"""bench geometry: measures what it says, and keeps what others wrote into the same file."""

import json
from pathlib import Path

import pytest
import torch

from manifold_lora.experiments.bench import geometry
from manifold_lora.experiments.bench.page import GEOMETRY, section_of
from manifold_lora.experiments.commands import bench


@pytest.mark.parametrize("name", list(geometry.PAIRS))
def test_both_libraries_mean_the_same_operation(name: str) -> None:
    """A ratio says nothing where the results differ; geoopt's sphere has no parallel transport."""
    m, rival = geometry.PAIRS[name](torch.float64)
    given = geometry._arguments(m, torch.float64, 8, 4)
    half = ("poincare", "stereographic")  # geoopt's vectors at the origin are half as long there.
    for operation, theirs in rival.items():
        if name == "sphere" and operation == "transp":
            continue
        arguments, factor = given[operation], 1.0
        if name in half and operation == "expmap0":
            arguments = (arguments[0] / 2,)
        if name in half and operation == "logmap0":
            factor = 2.0
        got = getattr(m, operation)(*given[operation])
        want = theirs(*arguments) * factor
        torch.testing.assert_close(got, want[..., -got.shape[-1] :], rtol=1e-6, atol=1e-7)


def test_table_replaces_its_own_section_and_leaves_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cost.md"
    path.write_text("# What an adapter costs\n\nMuch.\n")
    flags = [
        "--rows",
        "64",
        "--dimension",
        "4",
        "--rounds",
        "2",
        "--geometry",
        "poincare",
        "--dtype",
        "float64",
    ]
    for _ in range(2):
        assert bench.main(["geometry", *flags, "--json", "--out", str(path)]) == 0
    text = path.read_text()
    assert text.startswith("# What an adapter costs\n\nMuch.\n\n# What geometry operations cost")
    assert text.count(GEOMETRY) == 1
    assert "| poincare | sqdist |" in text
    assert section_of(text, GEOMETRY).startswith(f"{GEOMETRY}\n\nMade by `manifold-lora bench geometry")
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["operation"] == "dist"
    assert first["ratio"] > 0
    assert first["saved"] <= 64
