"""Addition of points and its kin, on every symmetric geometry: Moebius addition where that is the ball."""

from torch import Tensor

from manifold_lora.manifolds.base import Manifold, Point


def gyroadd(manifold: Manifold, x: Point, y: Point) -> Point:
    """x + y: the isometry that moves the origin to x along their geodesic, applied to y.

    Source: Ungar, "A gyrovector space approach to hyperbolic geometry", 2009; geoopt's ``mobius_add``.
    """
    origin = manifold.origin(manifold.coords(x).shape[-1], dtype=x.dtype, device=x.device)
    return manifold.transvect(origin, x, y)


def gyroinverse(manifold: Manifold, x: Point) -> Point:
    """-x: gyroadd(-x, gyroadd(x, y)) is y."""
    return manifold.expmap0(-manifold.logmap0(x))


def gyroscale(manifold: Manifold, r: float | Tensor, x: Point) -> Point:
    """r x with r a number or (..., 1): on the geodesic from the origin through x, r times as far."""
    return manifold.expmap0(r * manifold.logmap0(x))


def gyration(manifold: Manifold, a: Point, b: Point, x: Point) -> Point:
    """gyr[a, b] x = -(a + b) + (a + (b + x)), the rotation by which the sum is not associative."""
    whole = gyroadd(manifold, a, gyroadd(manifold, b, x))
    return gyroadd(manifold, gyroinverse(manifold, gyroadd(manifold, a, b)), whole)
