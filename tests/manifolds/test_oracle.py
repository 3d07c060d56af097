"""Acceptance figures against mpmath with 80 digits: values and gradients."""

import math
from pathlib import Path

import pytest
import torch
from mpmath import mp

from manifold_lora.experiments.bench.numerics import grid as numerics
from manifold_lora.experiments.bench.numerics import report as numerics_report
from manifold_lora.experiments.bench.numerics.gradients import GradientRow, measure_gradients
from manifold_lora.experiments.bench.numerics.oracle import condition
from manifold_lora.manifolds import functions as fn

SMALL = numerics.Grid(kappas=(0.37,), norms=(0.0, 1e-8, 1e-4, 1.0, 8.0), dims=(3,))
WIDE = numerics.Grid(kappas=(1e-6, 10.0), norms=(1e-8, 1.0, 20.0, 80.0), dims=(2, 64, 4096))


def judged(rows: list[numerics.ErrorRow]) -> list[str]:
    lines = numerics_report.lines(rows)
    missed = [line for line in lines if not line.met]
    return [f"{line.geometry} {line.operation} {line.dtype} {line.ours:.1e}" for line in missed]


def test_values() -> None:
    rows = numerics.run_grid(SMALL)
    assert len(rows) > 500
    assert all(math.isfinite(row.ours) for row in rows)
    assert judged(rows) == []


@pytest.mark.slow
def test_values_widely() -> None:
    rows = numerics.run_grid(WIDE)
    assert all(math.isfinite(row.ours) for row in rows)
    assert judged(rows) == []


def test_condition_number_of_known_functions() -> None:
    """A square is worth 2, a near-total cancellation what it cancels, a constant nothing (so 1)."""
    three = [mp.mpf(3)]
    assert condition(lambda x: [x[0] ** 2], [three], [mp.mpf(9)]) == pytest.approx(2.0)
    close = [mp.mpf(1), mp.mpf(1) - mp.mpf("1e-6")]
    gap = condition(lambda x: [x[0] - x[1]], [close], [close[0] - close[1]])
    assert 0.5e6 < gap < 3e6
    assert condition(lambda x: [mp.mpf(7)], [three], [mp.mpf(7)]) == 1.0


@pytest.fixture(scope="module")
def gradients() -> list[GradientRow]:
    return measure_gradients()


def test_no_gradient_is_wrong(gradients: list[GradientRow]) -> None:
    assert [row for row in gradients if not row.ours <= row.limit] == []


def test_gradient_of_b_at_zero(gradients: list[GradientRow]) -> None:
    at_zero = [row for row in gradients if row.check == "B at B = 0"]
    assert len(at_zero) == 16
    assert max(row.ours for row in at_zero) < 1e-6


def test_oracle_sees_what_libraries_lose(gradients: list[GradientRow]) -> None:
    assert sum(row.geoopt > row.limit for row in gradients) > 20


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["sinhc", "coshc", "tanhc", "asinhc", "atanhc"])
def test_even_functions_and_derivatives(name: str, dtype: torch.dtype) -> None:
    textbook = {
        "sinhc": lambda t: mp.sinh(t) / t,
        "coshc": mp.cosh,
        "tanhc": lambda t: mp.tanh(t) / t,
        "asinhc": lambda t: mp.asinh(t) / t,
        "atanhc": lambda t: mp.atanh(t) / t,
    }[name]
    top = 0.97 if name in ("atanhc",) else 20.0
    low = -0.97 if name == "asinhc" else -2.0
    mp.dps = 60
    eps = torch.finfo(dtype).eps
    for q in [low, -0.3, -0.16, -0.1599, -1e-3, -1e-12, 1e-30, 1e-6, 0.1, 0.1599, 0.16, 0.5, top]:
        x = torch.tensor([q], dtype=dtype, requires_grad=True)
        value = getattr(fn, name)(x)
        (slope,) = torch.autograd.grad(value, x)
        exact = mp.mpf(x.item())
        f = lambda p, textbook=textbook: mp.re(textbook(mp.sqrt(mp.mpc(p))))  # noqa: E731
        assert abs(value.item() - f(exact)) <= 8 * eps * abs(f(exact))
        want = mp.diff(f, exact, h=mp.mpf(10) ** -25) if abs(exact) > 1e-20 else mp.diff(f, mp.mpf("1e-18"))
        assert abs(slope.item() - want) <= 64 * eps * max(1, abs(want))


def test_report_is_written(tmp_path: Path, gradients: list[GradientRow]) -> None:
    grid = numerics.Grid(kappas=(0.37,), norms=(1.0,), dims=(2,))
    rows = numerics.run_grid(grid, ("sphere",))
    assert numerics_report.write(rows, gradients, tmp_path, "Grid: one cell.") == 0
    text = (tmp_path / "accuracy.md").read_text()
    assert "| sphere | expmap0 | float64 |" in text
    assert "0 gradients are wrong" in text
    assert (tmp_path / "accuracy-sphere.png").stat().st_size > 10_000
    assert len((tmp_path / "accuracy.csv").read_text().splitlines()) == len(rows) + 1
