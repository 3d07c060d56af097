"""Which other arm an arm is compared with."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from manifold_lora.experiments.reports.groups import LINEAR_SCALINGS, Role

if TYPE_CHECKING:
    from manifold_lora.experiments.reports.row import ArmRow


def control_of(row: "ArmRow", rows: Sequence["ArmRow"], role: Role) -> "ArmRow | None":
    """The control of a role that differs least from a geometry in everything but the role.

    Gain-matched LoRA: the one with its own gain, else with the step alpha c nearest to it. Shuffled norms: of
    the same norm scaling, without which the gains are not alike either. Norm-blind, the power laws and the
    time-frozen boost: of the same geometry at the nearest curvature. A bias and the time-frozen boost: for
    boost alone, which has a time column to compare them with; the bias of the step nearest to alpha c. Three
    free factors: for arms whose weights lie on a manifold.
    """
    controls = [other for other in rows if other.role == role]
    if role == "gain":
        controls.sort(key=lambda other: _gain_apart(row, other, rows))
    if role == "norms":
        controls = [other for other in controls if other.norm_scaling == row.norm_scaling]
    if role in ("bias", "frozen") and row.adapter.get("transform") != "boost":
        return None
    if role == "factors" and row.adapter.get("weight_manifold") is None:
        return None
    if role in ("blind", "power", "power-learned", "frozen"):
        controls.sort(key=lambda other: _geometry_apart(row, other))
    if role == "bias":
        controls.sort(key=lambda other: _apart(other.alpha, row.alpha * (row.gain or 1.0)))
    return counterpart(row, controls)


def counterpart(row: "ArmRow", others: Sequence["ArmRow"]) -> "ArmRow | None":
    """The first arm of these at the same further grid values, as far as it has them; None without one.

    LoRA has no curvature: on a grid of ranks and curvatures it is met at the same rank.
    """
    alike = [other for other in others if set(other.extras) <= set(row.extras)]
    return max(alike, key=lambda other: len(other.extras), default=None)


def _gain_apart(row: "ArmRow", control: "ArmRow", rows: Sequence["ArmRow"]) -> tuple[bool, float]:
    """Not the row's own control, and by which factor (its logarithm) their steps alpha c differ."""
    copied = control.adapter.get("gain_from")
    sources = [other for other in rows if other.arm == copied]
    source = counterpart(control, sources)
    if source is None or not source.gain or not row.gain:
        return copied != row.arm, math.inf
    return copied != row.arm, _apart(source.gain * control.alpha, row.gain * row.alpha)


def _geometry_apart(row: "ArmRow", control: "ArmRow") -> tuple[bool, float]:
    """Not on the row's own geometry, and by which factor (its logarithm) their curvatures differ."""
    other = control.adapter.get("manifold") != row.adapter.get("manifold")
    return other, _apart(control.kappa or 1.0, row.kappa or 1.0)


def _apart(step: float, other: float) -> float:
    return abs(math.log(abs(step / other)))


def hurdles_of(row: "ArmRow") -> tuple[Role, ...]:
    """The roles of the controls that a curved arm has to beat before its dependence on the norm is claimed.

    LoRA, LoRA of its gain and the norm-blind arm; tangent where the norm scaling keeps the algebra from
    making it LoRA; for boost also LoRA with a bias and boost with its time coordinate frozen; on framed
    weights also the three free factors.
    """
    tangent: tuple[Role, ...] = () if row.norm_scaling in LINEAR_SCALINGS else ("tangent",)
    boost: tuple[Role, ...] = ("bias", "frozen") if row.adapter.get("transform") == "boost" else ()
    framed: tuple[Role, ...] = ("factors",) if row.adapter.get("weight_manifold") else ()
    return ("baseline", "gain", "blind", *tangent, *boost, *framed)


FORMS: tuple[Role, ...] = ("power", "power-learned")
