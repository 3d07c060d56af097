"""One line of the accuracy table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorRow:
    """One measurement: relative errors of ours and of geoopt's result.

    ``reach`` is |v|/R of the input; ``condition`` is how many relative errors of the exact result one of the
    inputs is worth; errors are inf where a result that fits the dtype is not finite.
    """

    geometry: str
    operation: str
    dtype: str
    kappa: float
    n: int
    norm: float
    reach: float
    condition: float
    ours: float
    geoopt: float
