"""One line of the accuracy table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One measurement: relative errors of ours and of geoopt's result.

    ``reach`` is |v|/R of the input; errors are inf where a result that fits the dtype is not finite.
    """

    geometry: str
    operation: str
    dtype: str
    kappa: float
    n: int
    norm: float
    reach: float
    ours: float
    geoopt: float
