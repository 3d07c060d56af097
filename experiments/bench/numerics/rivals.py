"""The same operations by geoopt, put into our conventions, for the columns beside ours."""

from collections.abc import Callable
from dataclasses import dataclass

import geoopt
import torch
from torch import Tensor

Operation = Callable[..., Tensor]


@dataclass(frozen=True)
class Space:
    """Points by their space coordinates: time is recomputed in float64 before a rival sees it."""

    kappa: float

    def point(self, x: Tensor) -> Tensor:
        """(sqrt(R^2 + |x|^2), x) rounded once."""
        time = (x.double().square().sum(-1, keepdim=True) - 1 / self.kappa).sqrt()
        return torch.cat([time.to(x.dtype), x], -1)

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """u with the time part that tangency prescribes, rounded once."""
        wide, point = x.double(), self.point(x.double())
        time = (wide * u.double()).sum(-1, keepdim=True) / point[..., :1]
        return torch.cat([time.to(u.dtype), u], -1)


def lorentz(kappa: float, dtype: torch.dtype) -> dict[str, Operation]:
    """geoopt.Lorentz(k) has kappa = -1/k."""
    m, space = geoopt.Lorentz(torch.tensor(-1.0 / kappa, dtype=dtype)), Space(kappa)
    p, t = space.point, space.tangent

    def free(v: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(v[..., :1]), v], -1)

    return {
        "expmap0": lambda v: m.expmap0(free(v))[..., 1:],
        "logmap0": lambda x: m.logmap0(p(x))[..., 1:],
        "dist": lambda x, y: m.dist(p(x), p(y), keepdim=True),
        "logmap": lambda x, y: m.logmap(p(x), p(y))[..., 1:],
        "expmap": lambda x, u: m.expmap(p(x), t(x, u))[..., 1:],
        "transp": lambda x, y, v: m.transp(p(x), p(y), t(x, v))[..., 1:],
    }


def ball(kappa: float, dtype: torch.dtype) -> dict[str, Operation]:
    """geoopt.Stereographic(k) has kappa = k; its vectors at the origin are twice as long."""
    m = geoopt.Stereographic(torch.tensor(kappa, dtype=dtype))
    return {
        "expmap0": lambda v: m.expmap0(v / 2),
        "logmap0": lambda x: 2 * m.logmap0(x),
        "dist": lambda x, y: m.dist(x, y, keepdim=True),
        "logmap": m.logmap,
        "expmap": m.expmap,
        "transp": m.transp,
    }


def sphere(kappa: float, dtype: torch.dtype) -> dict[str, Operation]:
    """geoopt.Sphere has R = 1: lengths are divided by R and multiplied back."""
    m, r = geoopt.Sphere(), kappa**-0.5

    def pole(v: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(v[..., :1]), torch.zeros_like(v)], -1)

    def free(v: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(v[..., :1]), v], -1)

    return {
        "expmap0": lambda v: r * m.expmap(pole(v), free(v / r)),
        "logmap0": lambda x: r * m.logmap(pole(x[..., 1:]), x / r)[..., 1:],
        "dist": lambda x, y: r * m.dist(x / r, y / r, keepdim=True),
        "logmap": lambda x, y: r * m.logmap(x / r, y / r),
        "expmap": lambda x, u: r * m.expmap(x / r, u / r),
        "transp": lambda x, y, v: m.transp(x / r, y / r, v),
    }


RIVALS: dict[str, Callable[[float, torch.dtype], dict[str, Operation]]] = {
    "lorentz": lorentz,
    "poincare": ball,
    "stereographic": ball,
    "sphere": sphere,
}
