"""The interface of a geometry: primitives to write, derived operations that follow from them."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lora.errors import CurvatureError, PointError
from manifold_lora.manifolds import faults, functions, precision
from manifold_lora.manifolds.curvature import Curvature

_SIGNS = {-1: "a negative number", 0: "0", 1: "a positive number", None: "any finite number"}

Point = Float[Tensor, "... p"]
TangentAtOrigin = Float[Tensor, "... n"]
Scalar = Float[Tensor, "... 1"]


class Manifold(nn.Module, ABC):
    """A simply connected geometry, dimension-free: the dimension is the last axis of its arguments.

    Points carry ``n + extra_dims`` coordinates, extra ones first; tangent vectors at a point carry as many
    as the point; *free* vectors, the tangent vectors at the origin in an orthonormal frame, carry ``n``.
    Reductions keep the axis. A subclass writes the abstract primitives, and ``_dist``, ``_sqdist``,
    ``_transp`` where it knows a closed form. Operations are computed one step wider than their arguments
    (bfloat16 and float16 in float32, float32 in float64) and rounded once.

    Attributes:
        kappa_sign: -1, 0 or 1, or None where the geometry takes every sign.
        extra_dims: coordinates of a point beyond its dimension.
        dimensions: dimensions that exist and are worth trying, the smallest first in importance.

    Args:
        kappa: the sectional curvature, or a ``Curvature`` that is learned or shared.

    Raises:
        CurvatureError: kappa is of the wrong sign, zero where curvature is needed, or not finite.
    """

    kappa_sign: ClassVar[int | None] = None
    extra_dims: int = 0
    dimensions: ClassVar[tuple[int, ...]] = (2, 3, 1, 5, 17, 130, 4096)
    is_radial: ClassVar[bool] = False
    wider: ClassVar[dict[torch.dtype, torch.dtype]] = precision.WIDER

    def __init__(self, kappa: float | Curvature) -> None:
        super().__init__()
        curvature = kappa if isinstance(kappa, Curvature) else Curvature(kappa)
        sign, asked = self.kappa_sign, f"kappa of {type(self).__name__.lower()}"
        stated = curvature.stated
        if sign is not None and (stated > 0) - (stated < 0) != sign:
            raise CurvatureError(asked, stated, _SIGNS[sign])
        if sign is not None and curvature.mode == "free":
            raise CurvatureError(asked, "mode 'free'", "fixed, learned", "'learned' keeps the sign")
        self.curvature = curvature

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name, (points, gives_point) in precision.PRIMITIVES.items():
            if name in vars(cls):
                setattr(cls, name, precision.in_wider_dtype(points, gives_point)(vars(cls)[name]))

    @property
    def kappa(self) -> Float[Tensor, "1"]:
        """The sectional curvature in effect, shape (1,)."""
        return self.curvature.kappa

    def width(self, n: int) -> int:
        """Coordinates of a point of dimension n."""
        return n + self.extra_dims

    @property
    def curvature_range(self) -> tuple[float, float]:
        """The least and the largest sectional curvature; kappa twice where it is constant."""
        kappa = self.kappa.detach().double()
        return kappa.amin().item(), kappa.amax().item()

    @property
    def injectivity_radius(self) -> float:
        """How far logmap goes: pi/sqrt(largest curvature), inf where none is positive."""
        high = self.curvature_range[1]
        return math.pi / math.sqrt(high) if high > 0 else math.inf

    def _kappa_at(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """kappa with the digits of a dtype, float32 at least; detached."""
        return self.curvature.at(torch.promote_types(dtype, torch.float32)).detach()

    def store(self, point: Point, dtype: torch.dtype) -> Point:
        """Round a point to the dtype it is kept in, staying on the manifold.

        By default a point too long for a narrower dtype is shortened to what it holds: a geometry without
        bounds saturates, and a bounded one is never that long.
        """
        if dtype == point.dtype:
            return point
        size = functions.norm(point)
        factor = functions.within(size, size.new_full((1,), torch.finfo(dtype).max / 8))
        return (point * torch.where(size.isfinite(), factor, 1.0)).to(dtype)

    # Primitives -------------------------------------------------------------------------------------------

    @abstractmethod
    def expmap0(self, v: TangentAtOrigin) -> Point:
        """The point reached from the origin along the free vector v, at distance |v|."""

    @abstractmethod
    def logmap0(self, x: Point) -> TangentAtOrigin:
        """The free vector that expmap0 takes to x."""

    @abstractmethod
    def lift(self, z: TangentAtOrigin) -> Point:
        """The point whose free coordinates are z; saturates at the boundary of a bounded chart."""

    @abstractmethod
    def coords(self, x: Point) -> TangentAtOrigin:
        """The free coordinates of x, inverse of lift."""

    @abstractmethod
    def projx(self, x: Point) -> Point:
        """A point of the manifold near x, x itself if it is on it."""

    @abstractmethod
    def proju(self, x: Point, u: Point) -> Point:
        """The orthogonal projection of u on the tangent space at x."""

    @abstractmethod
    def inner(self, x: Point, u: Point, v: Point) -> Scalar:
        """The Riemannian inner product of tangent vectors at x."""

    @abstractmethod
    def egrad2rgrad(self, x: Point, g: Point) -> Point:
        """The Riemannian gradient for the Euclidean one: inner(x, egrad2rgrad(x, g), u) = <g, u>."""

    @abstractmethod
    def expmap(self, x: Point, u: Point) -> Point:
        """The point reached from x along the tangent vector u."""

    @abstractmethod
    def logmap(self, x: Point, y: Point) -> Point:
        """The tangent vector at x that expmap takes to y."""

    @abstractmethod
    def max_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """The largest distance from the origin that points of this dtype can hold; detached."""

    # Closed forms a geometry may know better ----------------------------------------------------------------

    @precision.in_wider_dtype(points=2, gives_point=False)
    def _dist(self, x: Point, y: Point) -> Scalar:
        """The length of the geodesic from x to y; by default that of its logarithm."""
        return self.norm(x, self.logmap(x, y))

    @precision.in_wider_dtype(points=2, gives_point=False)
    def _sqdist(self, x: Point, y: Point) -> Scalar:
        """The square of that length, with no root at x = y; by default that of the logarithm."""
        u = self.logmap(x, y)
        return self.inner(x, u, u)

    @precision.in_wider_dtype(points=2, gives_point=False)
    def _transp(self, x: Point, y: Point, v: Point) -> Point:
        """Parallel transport of v from x to y; by default one rung of the pole ladder.

        The reflection at the midpoint takes x to y and turns directions round, so transp(v) is
        -logmap(y, reflect(m, expmap(x, v))): exact on every symmetric space (Guigui & Pennec, 2022).
        """
        # Transport is linear, so the rung may have any length: a quarter of R keeps the digits of v.
        factor = functions.ratio(functions.quarter_radius(self.kappa, v.dtype), self.norm(x, v).detach())
        rung = self.expmap(x, factor * v)
        return functions.ratio(-self.logmap(y, self.reflect(self.midpoint(x, y), rung)), factor)

    # Derived -----------------------------------------------------------------------------------------------

    @final
    def origin(
        self, n: int, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Float[Tensor, " p"]:
        """The base point of dimension n, expmap0(0), shape (n + extra_dims,)."""
        kappa = self.kappa
        return self.expmap0(torch.zeros(n, dtype=dtype or kappa.dtype, device=device or kappa.device))

    @final
    @precision.in_wider_dtype(points=1, gives_point=False)
    def norm(self, x: Point, u: Point) -> Scalar:
        """The Riemannian length of a tangent vector, gradient 0 at u = 0."""
        size = functions.scale(u)
        return size * functions.root(self.inner(x, u / size, u / size))

    @final
    def dist(self, x: Point, y: Point) -> Scalar:
        """The geodesic distance, right down to x = y, where its gradient is 0."""
        return self._dist(x, y)

    @final
    def sqdist(self, x: Point, y: Point) -> Scalar:
        """The squared geodesic distance, smooth at x = y: half its Hessian there is the metric."""
        return self._sqdist(x, y)

    @final
    @precision.in_wider_dtype(points=2, gives_point=True)
    def geodesic(self, x: Point, y: Point, t: float | Tensor) -> Point:
        """The point at the fraction t of the way from x to y."""
        return self.expmap(x, t * self.logmap(x, y))

    @final
    @precision.in_wider_dtype(points=2, gives_point=True)
    def midpoint(self, x: Point, y: Point) -> Point:
        """The point halfway from x to y."""
        return self.geodesic(x, y, 0.5)

    @final
    @precision.in_wider_dtype(points=2, gives_point=True)
    def reflect(self, p: Point, x: Point) -> Point:
        """The point reflection at p: the isometry that fixes p and reverses its geodesics."""
        return self.expmap(p, -self.logmap(p, x))

    @final
    @precision.in_wider_dtype(points=3, gives_point=True)
    def transvect(self, a: Point, b: Point, x: Point) -> Point:
        """The isometry that moves a to b along their geodesic, applied to x: two point reflections."""
        return self.reflect(self.midpoint(a, b), self.reflect(a, x))

    @final
    def transp(self, x: Point, y: Point, v: Point) -> Point:
        """Parallel transport of the tangent vector v from x to y along their geodesic."""
        return self._transp(x, y, v)

    @final
    def random(
        self,
        *size: int,
        radius: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Point:
        """expmap0 of Gaussian free vectors of mean squared length radius^2; ``size`` ends with n."""
        kappa = self.kappa
        v = torch.randn(*size, generator=generator, dtype=dtype or kappa.dtype, device=device or kappa.device)
        return self.expmap0(v * (radius / size[-1] ** 0.5))

    @final
    def check_point(self, x: Tensor, n: int | None = None) -> None:
        """Raise unless every row of x is a point (of dimension n, if stated).

        Raises:
            PointError: integer or NaN entries, another last axis, another device, or off the manifold; says
                which row and by how much.
        """
        fault = faults.point_fault(self, x, n)
        if fault is not None:
            raise PointError(f"point of {type(self).__name__.lower()}", fault.got, fault.allowed, fault.hint)

    @final
    def check_points(self, *points: Tensor) -> None:
        """Raise unless the points are valid and share dtype, device and last axis.

        Raises:
            PointError: as check_point, or the tensors differ.
        """
        fault = faults.mixed_fault(points)
        if fault is not None:
            raise PointError(f"points of {type(self).__name__.lower()}", fault.got, fault.allowed, fault.hint)
        for x in points:
            self.check_point(x)
