"""Geometries that are rotationally symmetric about their origin."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.base import Manifold, Point, Scalar, TangentAtOrigin
from manifold_lora.manifolds.precision import WIDER
from manifold_lora.manifolds.radial_law import RadialLaw

# What a law stands for: a subclass that rewrites one of these states its own law, or follows none.
_MAPS = ("expmap0", "logmap0", "lift", "coords")
_CHARTS = ("chart_exp", "chart_log")


class Radial(Manifold):
    """A geometry that is rotationally symmetric about its origin, stated by one ``radial_law``.

    ``coords(expmap0(v)) = chart_exp(|v|^2) v`` and ``logmap0(lift(z)) = chart_log(|z|^2) z``: with the law's
    phi and psi, chart_exp = phi(a)/a at a = |v|/R and chart_log = psi(b)/b at b = |z|/R, smooth at 0 and
    held inside the chart. A geometry may write these two itself, without a law; only those that a law
    describes have an update with a gradient of its own in adapters.
    """

    is_radial: ClassVar[bool] = True
    radial_law: RadialLaw | None = None
    _is_lawful: ClassVar[bool] = False
    _is_charted: ClassVar[bool] = True
    _stated: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        lawful, rewritten = "radial_law" in vars(cls), vars(cls).keys() & {*_MAPS, *_CHARTS}
        if lawful or rewritten:
            cls._is_lawful = lawful
            # A map that is rewritten alone is no longer that of an inherited chart.
            cls._is_charted = lawful or not rewritten & {*_MAPS} or bool(rewritten & {*_CHARTS})
        cls._stated = {name: getattr(cls, name) for name in (*_MAPS, *_CHARTS)}

    def follows_law(self) -> bool:
        """Is there a law, and are all maps still those that were stated with it?"""
        kept = all(getattr(type(self), name) is function for name, function in self._stated.items())
        return kept and self._is_lawful and self.radial_law is not None

    def follows_chart(self) -> bool:
        """Are expmap0 and logmap0 still those of ``chart_exp`` and ``chart_log``?"""
        kept = all(getattr(type(self), name) is self._stated[name] for name in _MAPS)
        return kept and self._is_charted

    def is_as_stated(self, *laws: RadialLaw) -> bool:
        """Is one of these laws in effect, with the maps and the precision that were stated with it?"""
        return any(self.radial_law is law for law in laws) and self.follows_law() and self.wider is WIDER

    def inverse_square_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """1/R^2 = abs(kappa), in a dtype; 1 on flat space, whose unit of length is 1."""
        kappa = self.curvature.at(dtype)
        return torch.ones_like(kappa) if self.kappa_sign == 0 else kappa.abs()

    def expmap0(self, v: TangentAtOrigin) -> Point:
        """lift(f(|v|^2) v)."""
        return self.lift(self.chart_exp(functions.square(v)) * v)

    def logmap0(self, x: Point) -> TangentAtOrigin:
        """g(|z|^2) z with z = coords(x)."""
        z = self.coords(x)
        return self.chart_log(functions.square(z)) * z

    def chart_exp(self, sq: Scalar) -> Scalar:
        """f with coords(expmap0(v)) = f(|v|^2) v: phi(a)/a, at most max_radius far and inside the chart."""
        law, k = self._law(), self.inverse_square_radius(sq.dtype)
        if law.grows:
            reach = self.max_radius(sq.dtype).to(sq.dtype).square()
            return law.entry.of_square(k * functions.capped(sq, reach)) * functions.root(
                functions.within(sq, reach)
            )
        factor = law.entry.of_square(k * sq)
        return factor * self._inside(k * factor.square() * sq) if law.bounded else factor

    def chart_log(self, sq: Scalar) -> Scalar:
        """g with logmap0(lift(z)) = g(|z|^2) z: psi(b)/b, inside the chart."""
        law, q = self._law(), self.inverse_square_radius(sq.dtype) * sq
        if not law.bounded:
            return law.exit.of_square(q)
        return law.exit.of_square(functions.capped(q, self._edge(sq))) * self._inside(q)

    def _law(self) -> RadialLaw:
        if self.radial_law is None:
            hint = "state radial_law, or write chart_exp and chart_log"
            raise ManifoldLoraError("radial_law", type(self).__name__, "a RadialLaw", hint)
        return self.radial_law

    def _edge(self, like: Tensor) -> Tensor:
        """The largest |z|^2/R^2 of a point of this dtype, detached."""
        edge = self.max_coord_radius(like.dtype).to(like.dtype).square()
        return edge * self.inverse_square_radius(like.dtype).detach()

    def _inside(self, q: Scalar) -> Scalar:
        """The factor that brings coordinates of squared length q, in units of R^2, inside the chart."""
        return functions.root(functions.within(q, self._edge(q)))

    @abstractmethod
    def max_coord_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """The largest |coords| a point of this dtype may have; inf on an unbounded chart; detached."""


class OwnCoordinates(Radial):
    """A radial geometry whose points are their free coordinates; ``store`` keeps them inside the chart."""

    extra_dims = 0

    def lift(self, z: TangentAtOrigin) -> Point:
        """x = z."""
        return z

    def coords(self, x: Point) -> TangentAtOrigin:
        """z = x."""
        return x

    def projx(self, x: Point) -> Point:
        """x itself."""
        return x

    def proju(self, x: Point, u: Point) -> Point:
        """Every vector is tangent."""
        return u.expand(torch.broadcast_shapes(x.shape, u.shape))
