"""What the fused path needs to know of one token: its gain c and the slopes of c, from two norms.

With n = |x|, q = |B A x|, rho = q/n, a = n/R (alpha/R for tokens of one length) and theta = psi(rho phi(a)):
c = (R/q) theta. With E = (R/q) phi(theta)/phi'(theta) and D = a dc/da the slopes are q c_q = E - c,
n c_n = D - E (-E for one length), alpha c_alpha = D, R c_R = c - D. All in float64: N numbers cost nothing,
and where c is nearly 1 what E - c has lost to cancellation is far below the gradient's own rounding.
"""

from types import ModuleType
from typing import NamedTuple

from manifold_lora.adapters.fast.numbers import at_least, at_most
from manifold_lora.adapters.fast.profile import Numbers, RadialProfile

# Under these, limits take over: no token is shorter, no B A x smaller beside x.
SMALLEST_NORM = 1e-15
SMALLEST_RATIO = 1e-12


class Norms(NamedTuple):
    """The lengths of a batch of tokens, each (tokens, 1) in float64.

    Args:
        x: n = abs(x).
        rank: abs(A x), needed on a bounded chart only.
        out: q = abs(B A x).
    """

    x: Numbers
    rank: Numbers
    out: Numbers


class Chart(NamedTuple):
    """The geometry as the fused path sees it.

    Args:
        profile: the radial functions.
        radius: R, with the norm scaling's constant factor taken in.
        length: alpha where every token enters at the same length, else None.
        edge: the largest length of coordinates over R.
    """

    profile: RadialProfile
    radius: Numbers
    length: Numbers | None
    edge: float


class Slopes(NamedTuple):
    """c and its slopes dc/du = by_out uG + by_rank u, dc/dx = by_x x and R dc/dR (c less alpha dc/dalpha)."""

    gain: Numbers
    by_out: Numbers
    by_rank: Numbers | None
    by_x: Numbers
    by_radius: Numbers


class _Image(NamedTuple):
    """Where a token arrives: n, rho, q, angle a (and capped), z = rho phi(a) brought into the chart."""

    n: Numbers
    rho: Numbers
    q: Numbers
    a: Numbers
    within: Numbers
    z: Numbers
    early: Numbers | None = None
    late: Numbers | None = None


def _image(chart: Chart, norms: Norms, xp: ModuleType) -> _Image:
    profile = chart.profile
    n = at_least(norms.x, SMALLEST_NORM, xp)
    rho = at_least(norms.out / n, SMALLEST_RATIO, xp)
    a = n / chart.radius if chart.length is None else xp.ones_like(n) * (chart.length / chart.radius)
    within = at_most(a, profile.cap, xp)
    phi = profile.phi(xp, within)
    z = rho * phi
    if not profile.bounded:
        return _Image(n, rho, rho * n, a, within, z)
    middle = abs(norms.rank / n * phi)
    early = middle > chart.edge
    z = xp.where(early, z * (chart.edge / at_least(middle, chart.edge, xp)), z)
    late = abs(z) > chart.edge
    return _Image(n, rho, rho * n, a, within, z.clip(-chart.edge, chart.edge), early, late)


def _gain(chart: Chart, at: _Image, xp: ModuleType) -> Numbers:
    theta = chart.profile.psi(xp, at.z)
    if chart.profile.grows:
        theta = theta + (at.a - at.within)
    return theta * (chart.radius / at.q)


def gain_of(chart: Chart, norms: Norms, xp: ModuleType) -> Numbers:
    """c for each token."""
    return _gain(chart, _image(chart, norms, xp), xp)


def slopes_of(chart: Chart, norms: Norms, xp: ModuleType) -> Slopes:
    """c and its slopes for each token (module docstring)."""
    at = _image(chart, norms, xp)
    c = _gain(chart, at, xp)
    steep = chart.profile.psi_slope(xp, at.z) * (chart.radius / at.q)
    e = at.z * steep
    d = at.rho * at.a * steep * chart.profile.phi_slope(xp, at.within)
    by_rank = turned = None
    if at.early is not None and at.late is not None:
        e = xp.where(at.late, 0.0, e)
        turned = at.late | at.early
        d = xp.where(turned, 0.0, d)
        by_rank = xp.where(at.early, -e / xp.square(at_least(norms.rank, SMALLEST_NORM, xp)), 0.0)
    along = d - e if chart.length is None else -e
    if turned is not None:
        along = xp.where(turned, 0.0, along)
    by_x = along / (at.n * at.n)
    return Slopes(c, (e - c) / (at.q * at.q), by_rank, by_x, by_radius=c - d)
