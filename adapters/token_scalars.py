"""What the fused path needs to know of one token: its gain c and the slopes of c, from two norms.

With n = |x|, q = |B A x|, rho = q/n, a = n/R (alpha/R for tokens of one length) and theta = psi(rho phi(a)):
c = (R/q) theta. With E = (R/q) phi(theta)/phi'(theta) and D = a dc/da the slopes are q c_q = E - c,
n c_n = D - E (-E for one length), alpha c_alpha = D, R c_R = c - D. All in float64: N numbers cost nothing.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.profile import RadialProfile

PerToken = Float[Tensor, "tokens 1"]

# Under these, limits take over: no token is shorter, no B A x smaller beside x, no angle less curved.
SMALLEST_NORM = 1e-15
SMALLEST_RATIO = 1e-12
SMALLEST_ANGLE = 1e-4


@dataclass(frozen=True)
class Norms:
    """The lengths of one batch of tokens.

    Args:
        x: n = abs(x).
        rank: abs(A x), needed on a bounded chart only.
        out: q = abs(B A x).
    """

    x: PerToken
    rank: PerToken
    out: PerToken


@dataclass(frozen=True)
class Chart:
    """The geometry as the fused path sees it.

    Args:
        profile: the radial functions.
        radius: R, with the norm scaling's constant factor taken in.
        length: alpha where every token enters at the same length, else None.
        edge: the largest length of coordinates over R.
    """

    profile: RadialProfile
    radius: Tensor
    length: Tensor | None
    edge: float


@dataclass(frozen=True)
class Slopes:
    """c and its derivatives: dc/du = by_out uG + by_rank u, dc/dx = by_x x, R dc/dR, alpha dc/dalpha."""

    gain: PerToken
    by_out: PerToken
    by_rank: PerToken | None
    by_x: PerToken
    by_radius: PerToken
    by_length: PerToken


def _angle(chart: Chart, n: Tensor) -> Tensor:
    return (n if chart.length is None else chart.length.expand_as(n)) / chart.radius


def _image(chart: Chart, norms: Norms) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """(n, q, a, z, clipped before B, clipped after B) with z = rho phi(a) brought into the chart."""
    profile = chart.profile
    n = norms.x.clamp_min(SMALLEST_NORM)
    rho = (norms.out / n).clamp_min(SMALLEST_RATIO)
    a = _angle(chart, n)
    phi = profile.phi(a.clamp_max(profile.cap))
    z = rho * phi
    if not profile.bounded:
        return n, rho * n, a, z, None, None
    middle = norms.rank / n * phi
    early = middle.abs() > chart.edge
    z = torch.where(early, z * (chart.edge / middle.abs()), z)
    late = z.abs() > chart.edge
    return n, rho * n, a, z.clamp(-chart.edge, chart.edge), early, late


def _theta(chart: Chart, a: Tensor, z: Tensor) -> Tensor:
    theta = chart.profile.psi(z)
    beyond = (a - chart.profile.cap).clamp_min(0.0)
    return theta + beyond


def gain_of(chart: Chart, norms: Norms) -> PerToken:
    """c for each token."""
    _, q, a, z, _, _ = _image(chart, norms)
    return chart.radius / q * _theta(chart, a, z)


def slopes_of(chart: Chart, norms: Norms) -> Slopes:
    """c and its slopes for each token (module docstring)."""
    profile = chart.profile
    n, q, a, z, early, late = _image(chart, norms)
    scale = chart.radius / q
    theta = _theta(chart, a, z)
    psi_slope = profile.psi_slope(z)
    c, e = scale * theta, scale * z * psi_slope
    d = scale * (norms.out / n).clamp_min(SMALLEST_RATIO) * a * psi_slope
    d = d * profile.phi_slope(a.clamp_max(profile.cap))
    small = theta.abs() < SMALLEST_ANGLE
    by_out = torch.where(small, profile.cubic * c.pow(3) / chart.radius.square(), (e - c) / q.square())
    flat = a < SMALLEST_ANGLE
    by_x = (d - e) / n.square() if chart.length is None else -e / n.square()
    if chart.length is None:
        by_x = torch.where(flat, -profile.cubic * e / chart.radius.square(), by_x)
    by_rank = None
    if early is not None and late is not None:
        e = torch.where(late, 0.0, e)
        d = torch.where(late | early, 0.0, d)
        by_out = torch.where(late, -c / q.square(), by_out)
        by_x = torch.where(late | early, 0.0, by_x)
        by_rank = torch.where(early, -e / norms.rank.clamp_min(SMALLEST_NORM).square(), 0.0)
    return Slopes(c, by_out, by_rank, by_x, by_radius=c - d, by_length=d)
