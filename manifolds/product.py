"""Products of geometries: each part takes its share of the last axis, with its own curvature."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.base import Manifold, Point, Scalar, TangentAtOrigin


class Product(Manifold):
    """M_1 x ... x M_k with the sum of the metrics: every operation acts part by part.

    A free vector of length n is cut in proportion to the shares (rounded cumulatively, so the cuts sum to
    n); a point is the concatenation of the parts' points, each with its own extra coordinates first.
    Source: Gu et al., "Learning mixed-curvature representations in product spaces", ICLR 2019.

    Args:
        parts: (share, geometry) in the order of the last axis; shares are relative.

    Raises:
        ManifoldLoraError: no parts, or a share that is not positive.
    """

    kappa_sign = None

    def __init__(self, parts: Sequence[tuple[float, Manifold]]) -> None:
        nn.Module.__init__(self)  # A product has no curvature of its own.
        shares = [float(share) for share, _ in parts]
        if not shares or not all(0 < share < float("inf") for share in shares):
            raise ManifoldLoraError("shares of product", shares, "at least one positive number")
        self.shares = tuple(share / sum(shares) for share in shares)
        self.parts = nn.ModuleList(part for _, part in parts)
        self.extra_dims = sum(part.extra_dims for part in self._parts)

    @property
    def _parts(self) -> list[Manifold]:
        return list(self.parts)  # type: ignore[arg-type]

    @property
    def kappa(self) -> Float[Tensor, " k"]:
        """The curvatures of the parts, shape (sum over parts,)."""
        return torch.cat([part.kappa for part in self._parts])

    @property
    def curvature_range(self) -> tuple[float, float]:
        """From the least to the largest of the parts; planes across parts are flat."""
        ranges = [part.curvature_range for part in self._parts]
        flat = [0.0] if len(ranges) > 1 else []
        return min([low for low, _ in ranges] + flat), max([high for _, high in ranges] + flat)

    def sizes(self, n: int) -> list[int]:
        """How a free axis of length n is cut."""
        cuts, reached = [0], 0.0
        for share in self.shares:
            reached += share
            cuts.append(round(reached * n))
        cuts[-1] = n
        return [end - start for start, end in pairwise(cuts)]

    def split_free(self, v: TangentAtOrigin) -> tuple[Tensor, ...]:
        """The parts' pieces of a free vector."""
        return v.split(self.sizes(v.shape[-1]), -1)

    def split_point(self, x: Point) -> tuple[Tensor, ...]:
        """The parts' pieces of a point or tangent vector."""
        sizes = self.sizes(x.shape[-1] - self.extra_dims)
        return x.split([n + part.extra_dims for n, part in zip(sizes, self._parts, strict=True)], -1)

    def _each(self, act: Callable[..., Tensor], *pieces: tuple[Tensor, ...]) -> list[Tensor]:
        return [act(*given) for given in zip(self._parts, *pieces, strict=True)]

    def _join(self, act: Callable[..., Tensor], *pieces: tuple[Tensor, ...]) -> Tensor:
        done = self._each(act, *pieces)
        batch = torch.broadcast_shapes(*(piece.shape[:-1] for piece in done))
        return torch.cat([piece.expand(*batch, piece.shape[-1]) for piece in done], -1)

    def store(self, point: Point, dtype: torch.dtype) -> Point:
        """Part by part."""
        return self._join(lambda part, x: part.store(x, dtype), self.split_point(point))

    def expmap0(self, v: TangentAtOrigin) -> Point:
        """Part by part."""
        return self._join(lambda part, piece: part.expmap0(piece), self.split_free(v))

    def logmap0(self, x: Point) -> TangentAtOrigin:
        """Part by part."""
        return self._join(lambda part, piece: part.logmap0(piece), self.split_point(x))

    def lift(self, z: TangentAtOrigin) -> Point:
        """Part by part."""
        return self._join(lambda part, piece: part.lift(piece), self.split_free(z))

    def coords(self, x: Point) -> TangentAtOrigin:
        """Part by part."""
        return self._join(lambda part, piece: part.coords(piece), self.split_point(x))

    def projx(self, x: Point) -> Point:
        """Part by part."""
        return self._join(lambda part, piece: part.projx(piece), self.split_point(x))

    def proju(self, x: Point, u: Point) -> Point:
        """Part by part."""
        return self._join(lambda part, *pair: part.proju(*pair), self.split_point(x), self.split_point(u))

    def inner(self, x: Point, u: Point, v: Point) -> Scalar:
        """The sum of the parts' inner products."""
        pieces = [self.split_point(tensor) for tensor in (x, u, v)]
        return torch.stack(self._each(lambda part, *triple: part.inner(*triple), *pieces)).sum(0)

    def egrad2rgrad(self, x: Point, g: Point) -> Point:
        """Part by part."""
        pieces = (self.split_point(x), self.split_point(g))
        return self._join(lambda part, *pair: part.egrad2rgrad(*pair), *pieces)

    def expmap(self, x: Point, u: Point) -> Point:
        """Part by part."""
        return self._join(lambda part, *pair: part.expmap(*pair), self.split_point(x), self.split_point(u))

    def logmap(self, x: Point, y: Point) -> Point:
        """Part by part."""
        return self._join(lambda part, *pair: part.logmap(*pair), self.split_point(x), self.split_point(y))

    def _dist(self, x: Point, y: Point) -> Scalar:
        """The root of the sum of the parts' squared distances."""
        pieces = (self.split_point(x), self.split_point(y))
        return functions.norm(torch.cat(self._each(lambda part, *pair: part._dist(*pair), *pieces), -1))

    def _sqdist(self, x: Point, y: Point) -> Scalar:
        """The sum of the parts' squared distances."""
        pieces = (self.split_point(x), self.split_point(y))
        return torch.stack(self._each(lambda part, *pair: part._sqdist(*pair), *pieces)).sum(0)

    def _transp(self, x: Point, y: Point, v: Point) -> Point:
        """Part by part."""
        pieces = [self.split_point(tensor) for tensor in (x, y, v)]
        return self._join(lambda part, *triple: part._transp(*triple), *pieces)

    def max_radius(self, dtype: torch.dtype) -> Float[Tensor, "1"]:
        """The smallest of the parts' radii."""
        return torch.cat([part.max_radius(dtype) for part in self._parts]).amin(0, keepdim=True)
