"""What the fused path needs to know of one token: its gain c and the slopes of c, from two norms.

With n = |x|, q = |B A x|, rho = q/n, a = n/R (alpha/R for tokens of one length), cut to the angle limit, and
theta = psi(rho phi(a)): c = (R/q) theta. With E = (R/q) phi(theta)/phi'(theta) and D = a dc/da the slopes are
q c_q = E - c, n c_n = D - E (-E for one length), alpha c_alpha = D, R c_R = c - D. Beyond the limit c depends
on the direction of x alone: D = c. Written as c = k psi(z)/z, E = k psi'(z) with z = rho phi(a) and
k = phi(a)/a there is no division by q, so that B = 0 needs no floor. All in float64: N numbers cost nothing.
"""

from types import ModuleType
from typing import NamedTuple

from manifold_lora.adapters.fast.numbers import at_least, at_most, some
from manifold_lora.adapters.token_scale import TokenScale
from manifold_lora.manifolds.radial_law import Numbers, RadialLaw, bend

# No token is shorter, and no z smaller: the limits at 0 are reached to the last bit long before.
SMALLEST_NORM, SMALLEST_IMAGE = 1e-15, 1e-300
# Under these E - c and D - E cancel, and two or three terms of a series are exact.
SMALL_IMAGE, SMALL_ANGLE = 1e-4, 3e-2
# From here on psi of the image grows by as much as the angle does.
FAR_IMAGE = 1e4


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
        law: the radial functions.
        radius: R, with the norm scaling's constant factor taken in; (tokens, 1) where tokens differ in it.
        length: alpha where every token enters at the same length, else None.
        edge: the largest length of coordinates over R.
        limit: the largest angle at which a token enters.
    """

    law: RadialLaw
    radius: Numbers
    length: Numbers | None
    edge: float
    limit: float


def at_tokens(chart: Chart, n: Numbers, token: TokenScale, xp: ModuleType) -> Chart:
    """The chart of tokens with the norms n that a token scale tells apart, in numpy's numbers."""
    return chart._replace(radius=chart.radius / token.in_numpy(n).factor)


class Slopes(NamedTuple):
    """c and its slopes dc/du = by_out uG + by_rank u, dc/dx = by_x x and R dc/dR (c less alpha dc/dalpha)."""

    gain: Numbers
    by_out: Numbers
    by_x: Numbers
    by_rank: Numbers | None
    by_radius: Numbers | None


class _Image(NamedTuple):
    """Where a token arrives.

    n, the angle a, whether it is past the limit (None if no token is), the angle cut to phi's cap too, phi
    there, k, z; on a bounded chart phi, k and z are brought into it by the factor ``shrink``, and ``early``
    and ``late`` say whether after A and after B.
    """

    n: Numbers
    a: Numbers
    past: Numbers | None
    within: Numbers
    phi: Numbers
    k: Numbers
    z: Numbers
    shrink: Numbers = 1.0
    early: Numbers | None = None
    late: Numbers | None = None


def _image(chart: Chart, norms: Norms, xp: ModuleType) -> _Image:
    law = chart.law
    n = at_least(norms.x, SMALLEST_NORM, xp)
    a = n / chart.radius if chart.length is None else xp.ones_like(n) * (chart.length / chart.radius)
    past = some(a > chart.limit, xp)
    entered = a if past is None else at_most(a, chart.limit, xp)
    within = entered if chart.limit <= law.cap else at_most(entered, law.cap, xp)
    phi = law.phi(xp, within)
    k = phi / entered if chart.length is None else phi / entered * (chart.length / n)
    z = at_least(norms.out / n * phi, SMALLEST_IMAGE, xp)
    if not law.bounded:
        return _Image(n, a, past, within, phi, k, z)
    middle = norms.rank / n * phi
    shrink = chart.edge / at_least(middle, chart.edge, xp)
    late = z * shrink > chart.edge
    shrink = xp.where(late, chart.edge / z, shrink)
    return _Image(n, a, past, within, phi * shrink, k * shrink, z * shrink, shrink, middle > chart.edge, late)


def _gain(chart: Chart, at: _Image, xp: ModuleType) -> Numbers:
    theta = chart.law.psi(xp, at.z)
    if chart.law.grows and chart.limit > chart.law.cap:
        entered = at.a if at.past is None else at_most(at.a, chart.limit, xp)
        theta = theta + xp.where(at.z > FAR_IMAGE, entered - at.within, 0.0)
    return theta / at.z * at.k


def gain_of(chart: Chart, norms: Norms, xp: ModuleType) -> Numbers:
    """c for each token."""
    return _gain(chart, _image(chart, norms, xp), xp)


def slopes_of(chart: Chart, norms: Norms, learned: bool, xp: ModuleType) -> Slopes:
    """c and its slopes for each token (module docstring); R dc/dR only if R or alpha is ``learned``."""
    law, at = chart.law, _image(chart, norms, xp)
    c, steep = _gain(chart, at, xp), law.psi_slope(xp, at.z)
    e, d = steep * at.k, steep * law.phi_slope(xp, at.within)
    if chart.length is not None:
        d = d * (chart.length / at.n)
    along, by_rank, special = e, None, at.past
    if at.early is not None and at.late is not None:
        turned = at.late | at.early
        e, d = xp.where(at.late, 0.0, e), xp.where(turned, 0.0, d * at.shrink)
        along = xp.where(turned, 0.0, e)
        by_rank = xp.where(at.early, -e / xp.square(at_least(norms.rank, SMALLEST_NORM, xp)), 0.0)
        special = turned if special is None else special | turned
    if at.past is not None:
        d = xp.where(at.past, c, d)
    by_out, near = (e - c) / xp.square(norms.out), some(at.z < SMALL_IMAGE, xp)
    if near is not None:
        series = 2 * law.exit.terms_at_0[1] * at.k * xp.square(at.phi / at.n)
        by_out = xp.where(near, series, by_out)
    by_x = (-along if chart.length is not None else d - along) / (at.n * at.n)
    by_radius = None
    if learned:
        by_radius, shallow = c - d, some(at.a < SMALL_ANGLE, xp)
        if shallow is not None:
            # As the sum of c - E and E - D, each without cancellation.
            bent = -by_out * xp.square(norms.out) - e * bend(law.entry, xp.square(at.a))
            by_radius = xp.where(shallow if special is None else shallow & ~special, bent, by_radius)
    return Slopes(c, by_out, by_x, by_rank, by_radius)
