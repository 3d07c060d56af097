"""From a measured delta to a curvature, by a named rule."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from manifold_lora.errors import CurvatureError, UnknownNameError

if TYPE_CHECKING:
    # It loads numpy, which a config that names a rule does not need.
    from manifold_lora.experiments.token_geometry.delta.gromov import Hyperbolicity

# delta_rel of the standard Poincare disk as measured by Khrulkov et al.
_POINCARE_DISK = 0.144


def _khrulkov(measured: "Hyperbolicity", scale: float) -> float:
    return -((_POINCARE_DISK / measured.relative) ** 2)


def _log2(measured: "Hyperbolicity", scale: float) -> float:
    return -((math.log(2.0) / (measured.delta / scale)) ** 2)


RULES: dict[str, Callable[["Hyperbolicity", float], float]] = {"khrulkov": _khrulkov, "log2": _log2}
SOURCES: dict[str, str] = {
    "khrulkov": "kappa = -(0.144 / delta_rel)^2 (Khrulkov et al., arXiv 1904.02239, equation 5; c = -kappa)",
    "log2": "kappa = -(ln 2 / delta)^2, delta in units of the adapter's scaled input: hyperbolic space of "
    "curvature kappa has delta = ln 2 / sqrt(-kappa) (Nica and Spakula, Strong hyperbolicity, 2016)",
}


def suggest_kappa(measured: "Hyperbolicity", rule: str = "khrulkov", scale: float = 1.0) -> float:
    """The negative curvature that a delta speaks for, usable as ``curvature`` of a hyperbolic adapter.

    A rule of thumb, not a fit: structureless Gaussians also get a curvature from it, so read it beside the
    null.

    Args:
        measured: the delta of the points.
        rule: ``khrulkov`` (scale-free) or ``log2`` (absolute); stated in ``SOURCES``.
        scale: s of the adapter's norm scaling, v = x / s; sqrt(width) for ``learned`` and ``fixed``. Only
            ``log2`` depends on it.

    Raises CurvatureError where delta is 0 (a tree: every curvature is flat enough), UnknownNameError for an
    unknown rule.
    """
    if rule not in RULES:
        raise UnknownNameError("curvature rule", rule, tuple(RULES))
    if not measured.delta > 0:
        hint = "fewer than four distinct points, or a tree; state kappa instead"
        raise CurvatureError("kappa from data", f"delta = {measured.delta}", "a positive delta", hint)
    return RULES[rule](measured, scale)
