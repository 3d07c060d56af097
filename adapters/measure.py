"""What a geometry does to tokens: the angle they enter at, the gain of their update, what was clipped."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from manifold_lora.adapters.fast.numbers import gram_of
from manifold_lora.adapters.fast.rank_space import direct_factor, norm_of
from manifold_lora.adapters.norm_scaling import NormScaling, ScaleLaw
from manifold_lora.adapters.precision import autocast_off, geometry_dtype
from manifold_lora.adapters.transforms import Charted, Direct, Transform, is_identity
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.product import Product
from manifold_lora.manifolds.radial import Radial

# A lift that only rounds moves coordinates by less than this, relative to their length.
_ROUNDING = 1e-5


@runtime_checkable
class Measured(Protocol):
    """What is asked of a ``ManifoldUpdate``, which asks this file in its turn."""

    manifold: Manifold
    transform: Transform
    norm_scaling: NormScaling

    @property
    def path(self) -> str:
        """The way it is computed."""

    def law(self, x: Tensor, dtype: torch.dtype = ...) -> ScaleLaw:
        """The lengths in effect for tokens."""

    def law_of_norm(self, norm: Tensor) -> ScaleLaw:
        """The same from their norms."""

    def law_before_limit(self, norm: Tensor) -> ScaleLaw:
        """The same without the angle limit."""

    def curved(self, x: Tensor, A: Tensor, B: Tensor) -> Tensor:
        """delta."""


class Recorder:
    """The geometry itself, and ``clipped``: per token, did any lift so far saturate?"""

    def __init__(self, manifold: Charted) -> None:
        self.manifold = manifold
        self.clipped: Tensor | None = None

    def expmap0(self, v: Tensor) -> Tensor:
        """As the geometry's."""
        return self.manifold.expmap0(v)

    def logmap0(self, x: Tensor) -> Tensor:
        """As the geometry's."""
        return self.manifold.logmap0(x)

    def coords(self, x: Tensor) -> Tensor:
        """As the geometry's."""
        return self.manifold.coords(x)

    def lift(self, z: Tensor) -> Tensor:
        """As the geometry's, noting the tokens it moved."""
        point = self.manifold.lift(z)
        moved = functions.norm(self.manifold.coords(point) - z) > _ROUNDING * functions.norm(z)
        self.clipped = moved if self.clipped is None else self.clipped | moved
        return point

    def __getattr__(self, name: str) -> Any:
        """What a transform may ask beyond the four maps."""
        return getattr(self.manifold, name)

    def share(self) -> Tensor:
        """The share of tokens that were clipped."""
        return torch.zeros(()) if self.clipped is None else self.clipped.float().mean()


def angles(manifold: Manifold, law: ScaleLaw, x: Tensor) -> Iterator[tuple[Tensor, float]]:
    """abs(v)/R of the tokens x, (*tokens, 1), in each part, and the angle where geodesics meet."""
    v = law.scale(x)
    if isinstance(manifold, Product):
        for part, piece in zip(manifold.parts, manifold.split_free(v), strict=True):
            yield from angles(part, ScaleLaw(), piece)  # type: ignore[arg-type]
        return
    radial = manifold.radial_law if isinstance(manifold, Radial) else None
    if is_identity(manifold):
        k = torch.zeros_like(manifold.kappa)
    elif isinstance(manifold, Radial):
        k = manifold.inverse_square_radius(v.dtype)
    else:
        k = manifold.kappa.abs().amax()
    yield functions.norm(v) * functions.root(k.to(v.dtype)), math.inf if radial is None else radial.turn


def cut(manifold: Manifold, law: ScaleLaw, x: Tensor, limit: float) -> Tensor | None:
    """The factor that shortens each token until no part's own angle exceeds the limit; None if none can.

    The token is cut as a whole: A and B mix what goes into the parts of a product, and what comes out.
    """
    factor = None
    for angle, turn in angles(manifold, law, x):
        bound = min(limit, turn)
        if bound < math.inf:
            one = functions.within(angle, angle.new_full((1,), bound))
            factor = one if factor is None else torch.minimum(factor, one)
    return factor


@torch.no_grad()
def angle(update: Measured, x: Tensor) -> Tensor:
    """abs(v)/R of each token before any limit, in the part where it is largest."""
    seen, law = _seen(update, x)
    return torch.cat([angle for angle, _ in angles(update.manifold, law, seen)], -1).amax(-1, True)


@torch.no_grad()
def capped(update: Measured, x: Tensor, limit: float) -> Tensor:
    """The share of tokens that ``cut`` shortens."""
    seen, law = _seen(update, x)
    factor = cut(update.manifold, law, seen, limit)
    return torch.zeros(()) if factor is None else (factor < 1).float().mean()


def _seen(update: Measured, x: Tensor) -> tuple[Tensor, ScaleLaw]:
    """Tokens in float64 and their lengths in effect; a radial geometry sees lengths alone."""
    x = x.double()
    norm = norm_of(x)
    return norm if isinstance(update.manifold, Radial) else x, update.law_before_limit(norm)


def representable(manifold: Radial, v: Tensor) -> tuple[Tensor, Tensor | None]:
    """v cut to what points of its dtype hold, and by how much: beyond it all of an image grows alike."""
    if manifold.radial_law is None or not manifold.radial_law.grows:
        return v, None
    length, reach = functions.norm(v), 0.9 * manifold.max_radius(v.dtype).to(v.dtype)
    return v * functions.within(length, reach), (length - reach).clamp_min(0.0)


# The length of an update that is small for every curvature in use.
_SMALL = 1e-5


def linear_gain(law: ScaleLaw, x: Tensor) -> Tensor | float:
    """The factor of a linear update: alpha beta, or alpha beta / abs(x) where all tokens get one length."""
    return (
        functions.ratio(law.gain * torch.ones_like(x[..., :1]), functions.norm(x)) if law.unit else law.gain
    )


def measured_gain(delta: Tensor, x: Tensor, A: Tensor, B: Tensor, limit: Callable[[], Tensor]) -> Tensor:
    """abs(delta) / abs(B A x), and ``limit`` where B A x = 0."""
    plain = functions.norm(x @ A.T @ B.T)
    measured = functions.ratio(functions.norm(delta), plain)
    return torch.where(plain == 0, limit(), measured) if bool((plain == 0).any()) else measured


def small_gain(manifold: Manifold, transform: Transform, law: ScaleLaw, x: Tensor) -> Tensor:
    """The limit of c as B A x goes to 0 (boost: as ``direct``'s): what the geometry makes of a small step."""
    v = law.scale(x)
    if isinstance(manifold, Radial) and isinstance(transform, Direct):
        image = transform.stretch(manifold, functions.square(v)) * v
    else:
        image = manifold.coords(manifold.expmap0(v))
    step = functions.unit(image) * _SMALL
    stretch = functions.norm(manifold.logmap0(manifold.lift(step))) / _SMALL
    limit = functions.ratio(functions.norm(image) * stretch * law.beta, functions.norm(x))
    return torch.where(x.abs().amax(-1, keepdim=True) == 0, law.gain, limit)


@torch.no_grad()
def gain(update: Measured, x: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """c = abs(delta) / abs(B A x), (*tokens, 1) in float64: see ``ManifoldUpdate.gain``."""
    x, A, B = x.double(), A.double(), B.double()
    with autocast_off(x):
        if update.path == "linear":
            return linear_gain(update.norm_scaling.law(torch.float64), x) * torch.ones_like(x[..., :1])
        radial = update.manifold
        if update.path != "general" and isinstance(update.transform, Direct) and isinstance(radial, Radial):
            norm = norm_of(x)
            return direct_factor(
                radial, update.law_of_norm(norm), update.transform, x @ A.T, gram_of(B), norm
            )

        def at_zero() -> Tensor:
            return small_gain(update.manifold, update.transform, update.law(x), x)

        return measured_gain(update.curved(x, A, B), x, A, B, at_zero)


@torch.no_grad()
def clipped(update: Measured, x: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """The share of tokens at the edge of a bounded chart: see ``ManifoldUpdate.clipped``."""
    recorder, wide = Recorder(update.manifold), geometry_dtype(x)
    with autocast_off(x):
        v = update.law(x.to(wide)).scale(x.to(wide))
        update.transform(recorder, recorder.expmap0(v), A.to(wide), B.to(wide))
    return recorder.share()
