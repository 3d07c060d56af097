"""check_point says which point is wrong and by how much; the hot path says nothing."""

import pytest
import torch

from manifold_lora.manifolds import Lorentz, Poincare, PointError, Sphere, build_manifold


def test_points_pass() -> None:
    for name in ("euclidean", "lorentz", "poincare", "sphere", "stereographic"):
        m = build_manifold(name)
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            m.check_point(m.random(3, 4, dtype=dtype), 4)
        m.check_points(m.random(3, 4), m.random(2, 4))


def test_off_the_manifold_names_row_and_distance() -> None:
    m = Lorentz()
    x = m.random(2, 3, 4)
    x[1, 2, 0] += 0.5
    with pytest.raises(PointError, match=r"row \(1, 2\) off the manifold by 0\.\d+.*projx brings it back"):
        m.check_point(x)


def test_outside_the_ball() -> None:
    with pytest.raises(PointError, match=r"row \(0,\) off the manifold by 0.5"):
        Poincare().check_point(torch.tensor([[2.0, 0.0]]))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.tensor([[1, 0, 0]]), "a tensor of torch.int64'; allowed: a floating-point tensor"),
        (torch.tensor([1.0]), "a last axis of at least 1 + 1 coordinates"),
        (torch.tensor(1.0), "a tensor of shape ()"),
        (torch.tensor([[1.0, 0.0], [float("nan"), 0.0]]), "row (1,) with entry nan"),
        (torch.tensor([float("inf"), 0.0]), "the point with entry inf"),
        (torch.ones(2, 3, device="meta"), "a tensor on meta'; allowed: a tensor on cpu"),
        (torch.zeros(2), "the point off the manifold by 1"),
    ],
)
def test_bad_tensors(x: torch.Tensor, message: str) -> None:
    with pytest.raises(PointError) as caught:
        Sphere().check_point(x)
    assert message in str(caught.value)


def test_wrong_dimension() -> None:
    with pytest.raises(PointError, match=r"a last axis of 7 \+ 1 coordinates"):
        Sphere().check_point(Sphere().random(2, 4), 7)


def test_mixed_tensors() -> None:
    m = Sphere()
    with pytest.raises(PointError, match="one dtype"):
        m.check_points(m.random(2, 4), m.random(2, 4, dtype=torch.float64))
    with pytest.raises(PointError, match="one last axis"):
        m.check_points(m.random(2, 4), m.random(2, 5))
