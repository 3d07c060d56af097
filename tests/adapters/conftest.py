"""Every test that asks for ``spec`` runs over the whole product of registries."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

from manifold_lora.adapters.registry import NORM_SCALINGS
from manifold_lora.adapters.spec import AdapterSpec, transforms_of
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.manifolds.registry import MANIFOLDS
from manifold_lora.manifolds.spec import ManifoldSpec

# Curvatures are neither 0 nor 1 nor equal, so that no factor can hide.
KAPPAS = {-1: (-0.6,), 0: (0.0,), 1: (0.4,), None: (-0.6, 0.0, 0.4)}
PRODUCT = {
    "name": "product",
    "parts": [
        {"share": 0.5, "name": "lorentz", "curvature": -0.6},
        {"share": 0.5, "name": "sphere", "curvature": 0.4},
    ],
}


def geometries() -> list[ManifoldSpec]:
    """One spec or more for every name in the registry."""
    found = []
    for name in MANIFOLDS:
        if name == "complex_hyperbolic":  # Its adapters are the ball's to the last bit: test_collapse.py.
            continue
        if name == "product":
            found.append(ManifoldSpec.parse(PRODUCT))
            continue
        for kappa in KAPPAS[MANIFOLDS.metadata(name).get("kappa_sign")]:
            found.append(ManifoldSpec.parse({"name": name, "curvature": kappa}))
    return found


def label(manifold: ManifoldSpec) -> str:
    return manifold.name if manifold.parts else f"{manifold.name}({manifold.curvature.kappa:g})"


@cache
def specs() -> list[AdapterSpec]:
    """Every combination of registered parts that fits together."""
    return [
        AdapterSpec(manifold, transform, norm_scaling)
        for manifold in geometries()
        for transform, norm_scaling in itertools.product(transforms_of(manifold), NORM_SCALINGS)
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "spec" in metafunc.fixturenames:
        ids = [f"{label(s.manifold)}-{s.transform}-{s.norm_scaling}" for s in specs()]
        metafunc.parametrize("spec", specs(), ids=ids)
    if "geometry" in metafunc.fixturenames:
        metafunc.parametrize("geometry", geometries(), ids=label)


@dataclass
class Drawn:
    """An update and what it is applied to."""

    update: ManifoldUpdate
    x: Tensor
    A: Tensor
    B: Tensor

    @property
    def lora(self) -> Tensor:
        return self.x @ self.A.T @ self.B.T

    def __call__(self) -> Tensor:
        return self.update(self.x, self.A, self.B)

    def requires_grad(self) -> list[Tensor]:
        leaves = [self.x, self.A, self.B]
        for leaf in leaves:
            leaf.requires_grad_()
        return leaves


@pytest.fixture(scope="session")
def draw() -> Callable[..., Drawn]:
    """An update with its weights and tokens; ``length`` about |x|, ``columns`` boost's time columns."""

    def make(
        spec: AdapterSpec,
        tokens: tuple[int, ...] = (7,),
        sizes: tuple[int, int, int] = (8, 6, 4),
        length: float = 1.0,
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
        columns: bool = True,
    ) -> Drawn:
        n, m, r = sizes
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        update = ManifoldUpdate.from_spec(spec, n, m, r).to(dtype)
        if columns and spec.transform in ("boost", "frozen_boost"):
            with torch.no_grad():
                update.transform.time_A.copy_(0.2 * normal(r))
                update.transform.time_B.copy_(0.2 * normal(m))
        x = normal(*tokens, n) * length / n**0.5
        A, B = normal(r, n) / (2 * n) ** 0.5, normal(m, r) / m**0.5
        return Drawn(update, x.to(dtype), A.to(dtype), B.to(dtype))

    return make


@pytest.fixture(scope="session")
def flattened() -> Callable[[AdapterSpec, float], AdapterSpec]:
    """flattened(spec, size): the same parts at curvatures of that size (signs kept; 0 stays 0)."""

    def shrink(manifold: ManifoldSpec, size: float) -> ManifoldSpec:
        if manifold.parts:
            parts = tuple((share, shrink(part, size)) for share, part in manifold.parts)
            return ManifoldSpec("product", parts=parts)
        kappa = manifold.curvature.kappa or 0.0
        sign = (kappa > 0) - (kappa < 0)
        return ManifoldSpec.parse({"name": manifold.name, "curvature": sign * size})

    return lambda spec, size: spec.with_(manifold=shrink(spec.manifold, size))
