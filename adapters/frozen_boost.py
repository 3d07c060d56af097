"""The control of ``boost`` that gives every token the time coordinate of a typical one."""

import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.transforms import Boost, Down, Point
from manifold_lora.manifolds import functions
from manifold_lora.manifolds.radial import Radial


class FrozenBoost(Boost):
    """``boost`` with the time coordinate of every token held at that of a token with |x| = s.

    The time columns then add one vector to all tokens. Behind A the time is that of the mean square that A
    makes of such a token over all directions, |A|^2/n of its own. What ``boost`` does better has used that
    time coordinates differ from token to token.
    """

    radial = True

    def entry_time(self, manifold: Radial, point: Point) -> Float[Tensor, "1"]:  # type: ignore[override]
        """The time coordinate of the reference."""
        return manifold.expmap0(functions.root(self.reference(manifold, point)))[..., :1]

    def middle(self, manifold: Radial, y: Tensor, A: Down) -> Tensor:  # type: ignore[override]
        """The point over y with the time coordinate over the typical length of y."""
        sq, A = self.reference(manifold, y), A.to(y.dtype)
        space = manifold.chart_exp(sq).square() * sq * A.square().sum() / A.shape[1]
        pushed = self.entry_time(manifold, y) * self.time_A.to(y.dtype)
        time: Tensor = manifold.lift(functions.root(space + functions.square(pushed)))[..., :1]
        return torch.cat([time.expand(*y.shape[:-1], 1), manifold.coords(manifold.lift(y))], dim=-1)
