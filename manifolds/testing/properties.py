"""The list of properties: a name, what it says, and the function that tries it."""

from collections.abc import Callable
from typing import NamedTuple

from manifold_lora.manifolds.testing.agreement import Check
from manifold_lora.manifolds.testing.case import RADII, Case

Trial = Callable[[Check], None]


class Property(NamedTuple):
    """A property of the contract.

    Attributes:
        name: its name in reports and test ids.
        says: one sentence, the first line of the function's docstring.
        trial: raises PropertyFailure on a case that breaks it.
        applies: whether a case is one the property speaks about.
        radii: distances from the origin it is tried at, in units of 1/sqrt|kappa|.
        effort: share of the usual number of cases, below 1 for costly ones.
        alone: whether it looks at one point at a time, as far out as there are points.
    """

    name: str
    says: str
    trial: Trial
    applies: Callable[[Case], bool]
    radii: tuple[float, ...]
    effort: float
    alone: bool


PROPERTIES: dict[str, Property] = {}


def always(case: Case) -> bool:
    """For properties that every geometry has."""
    return True


def of_every_geometry(
    applies: Callable[[Case], bool] = always,
    radii: tuple[float, ...] = RADII,
    effort: float = 1.0,
    alone: bool = False,
) -> Callable[[Trial], Trial]:
    """Add the decorated function to the contract under its own name."""

    def add(trial: Trial) -> Trial:
        says = (trial.__doc__ or "").strip().splitlines()[0]
        PROPERTIES[trial.__name__] = Property(trial.__name__, says, trial, applies, radii, effort, alone)
        return trial

    return add
