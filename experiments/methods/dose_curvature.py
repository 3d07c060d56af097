"""``curvature: {mode: dose}``: an adapter's curvature, module by module, from the dose that is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.spec import only_keys
from manifold_lora.numbers import is_number

MODE = "dose"
_OUT_OF_REACH = ("stop", "nearest")


@dataclass(frozen=True)
class DoseCurvature:
    """What ``{mode: dose, share: 0.1, out_of_reach: stop}`` asks for; parsing it needs no torch.

    Attributes:
        share: the share of the update at the start that no constant gain reproduces.
        out_of_reach: whether a module whose tokens allow no such dose ends the run (``stop``) or takes the
            largest that they do (``nearest``).
    """

    share: float = 0.1
    out_of_reach: Literal["stop", "nearest"] = "stop"

    @classmethod
    def parse(cls, given: object) -> "DoseCurvature | None":
        """Read a ``curvature`` entry; None where it states no ``mode: dose``.

        Raises ManifoldLoraError for an unknown key, a share that is not between 0 and 1, or another word for
        what is out of reach.
        """
        if not isinstance(given, Mapping) or given.get("mode") != MODE:
            return None
        only_keys("curvature with mode dose", given, ("mode", "share", "out_of_reach"))
        share, beyond = given.get("share", cls.share), given.get("out_of_reach", cls.out_of_reach)
        if not is_number(share) or not 0 < share < 1:
            raise ManifoldLoraError("share of curvature", share, "a number above 0 and below 1")
        if beyond not in _OUT_OF_REACH:
            raise ManifoldLoraError("out_of_reach of curvature", beyond, _OUT_OF_REACH)
        return cls(float(share), cast(Literal["stop", "nearest"], beyond))
