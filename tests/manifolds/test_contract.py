"""Registering a geometry implies being tested: the contract runs over the whole registry."""

import inspect
import pkgutil
from importlib import import_module

import pytest

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds import MANIFOLDS, Manifold, build_manifold, testing
from manifold_lora.manifolds.testing import PROPERTIES, ContractError, check_manifold, manifold_contract

SIGNS = {-1: (-1.3,), 0: (0.0,), 1: (0.7,), None: (-0.8, 0.0, 1.2)}
PARTS = [
    {"share": 0.5, "name": "lorentz", "curvature": -0.5},
    {"share": 0.3, "name": "sphere", "curvature": 2.0},
    {"share": 0.2, "name": "euclidean"},
]


def instances() -> list[Manifold]:
    """Every registered geometry at curvatures that are none of 0, 1, -1 where it has a choice."""
    built = []
    for name in MANIFOLDS:
        if name == "product":
            built.append(build_manifold({"name": name, "parts": PARTS}))
            continue
        for kappa in SIGNS[MANIFOLDS.metadata(name)["kappa_sign"]]:
            built.append(build_manifold({"name": name, "curvature": kappa}))
    return built


# A compiler takes 5 s for a geometry: for all of them on the rota, where each has forty examples too.
CORE = ("Euclidean", "Lorentz", "Poincare", "Sphere")
core = [one for one in instances() if type(one).__name__ in CORE]
others = [one for one in instances() if type(one).__name__ not in CORE]
test_core = manifold_contract(*core, examples=2)
test_others = manifold_contract(*others, examples=2, only=set(PROPERTIES) - {"traceable"})
test_registry_thoroughly = pytest.mark.slow(manifold_contract(*instances(), examples=40))


def test_every_property_of_the_design_is_there() -> None:
    assert len(PROPERTIES) >= 38
    assert all(prop.says.endswith(".") for prop in PROPERTIES.values())


def test_every_function_that_checks_is_a_property() -> None:
    """A property whose decorator is lost would pass without a word."""
    written = set()
    for module in pkgutil.iter_modules(testing.__path__, testing.__name__ + "."):
        for name, function in vars(import_module(module.name)).items():
            hints = getattr(function, "__annotations__", {})
            if inspect.isfunction(function) and list(hints) == ["check", "return"] and name[0] != "_":
                written.add(name)
    assert written >= set(PROPERTIES)
    assert written == set(PROPERTIES)


def test_a_contract_of_some_properties_has_no_other_case() -> None:
    (mark,) = manifold_contract(build_manifold("euclidean"), only=["dist_zero"]).pytestmark  # type: ignore[attr-defined]
    assert [prop.name for _, prop in mark.args[1]] == ["dist_zero"]


def test_report_of_a_sound_geometry() -> None:
    outcomes = check_manifold(build_manifold("euclidean"), examples=1)
    assert set(PROPERTIES) - {o.name for o in outcomes} == {"gradient_of_kappa"}
    assert all(o.passed and o.expected and o.share <= 1 for o in outcomes)


def test_expected_failure_that_holds_is_a_failure() -> None:
    with pytest.raises(ContractError, match="holds, though expected to fail"):
        check_manifold(build_manifold("euclidean"), expected_failures=["dist_zero"], only=["dist_zero"])


def test_unknown_expected_failure_names_the_nearest() -> None:
    with pytest.raises(ManifoldLoraError, match="did you mean 'dist_zero'"):
        check_manifold(build_manifold("euclidean"), expected_failures=["dist_zer"])


@pytest.mark.parametrize("examples", [0, -1, 1.5, True])
def test_a_senseless_number_of_examples_is_refused(examples) -> None:
    with pytest.raises(ManifoldLoraError, match="examples: got"):
        check_manifold(build_manifold("euclidean"), examples=examples)


def test_warning_instead_of_error() -> None:
    with pytest.warns(UserWarning, match="breaks 1 of 1"):
        check_manifold(build_manifold("euclidean"), "warn", ["dist_zero"], only=["dist_zero"])
