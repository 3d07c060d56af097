"""What a radial law says of small angles, where its own functions would cancel."""

import numpy as np
import pytest

from manifold_lora.manifolds import MANIFOLDS, build_manifold
from manifold_lora.manifolds.radial import Radial
from manifold_lora.manifolds.radial_law import RadialLaw, bend, fall
from manifold_lora.manifolds.registry import is_radial

LAWS: dict[str, RadialLaw] = {
    name: law
    for name in MANIFOLDS
    if is_radial(name)
    and isinstance(space := build_manifold(name), Radial)
    and (law := space.radial_law) is not None
}


@pytest.mark.parametrize("name", LAWS)
def test_the_series_are_what_the_functions_are_where_both_hold(name: str) -> None:
    """The differences themselves have lost 1e-16/a^2 by then."""
    law, a, b = LAWS[name], np.array([0.01, 0.02, 0.03]), np.array([0.01, 0.015, 0.02])
    grows = a * law.phi_slope(np, a) / law.phi(np, a) - 1
    falls = (law.psi_slope(np, b) - law.psi(np, b) / b) / b**2
    np.testing.assert_allclose(bend(law.entry, a * a), grows, rtol=2e-10, atol=1e-15)
    np.testing.assert_allclose(fall(law.exit, b * b), falls, rtol=1e-11, atol=2e-11)


def test_at_the_origin_they_are_the_first_taylor_coefficients() -> None:
    """sinh(a)/a = 1 + a^2/6, arsinh(b)/b = 1 - b^2/6."""
    law = LAWS["lorentz"]
    assert bend(law.entry, 1e-12) == pytest.approx(1e-12 / 3, rel=1e-11)
    assert fall(law.exit, 0.0) == pytest.approx(-1 / 3, rel=1e-14)
