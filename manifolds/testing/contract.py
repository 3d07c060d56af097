"""The contract, run: on one geometry from a script, or as a pytest parametrisation."""

import time
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.testing import (
    calls,
    charts,
    distances,
    gradients,
    smoothness,
    tangents,
    tensors,
    transports,
)
from manifold_lora.manifolds.testing.agreement import Check, PropertyFailure, WorstErrors
from manifold_lora.manifolds.testing.case import Case, cases, sweep
from manifold_lora.manifolds.testing.properties import PROPERTIES, Property
from manifold_lora.numbers import is_whole

GROUPS = (charts, tangents, distances, transports, gradients, smoothness, tensors, calls)
OnFail = Literal["raise", "warn", "report"]


class ContractError(AssertionError):
    """A geometry that does not keep the contract; the message lists each property with its example."""


@dataclass(frozen=True)
class Outcome:
    """What came of one property.

    Attributes:
        name, says: the property and its sentence.
        passed: whether it held in every case.
        expected: whether what happened was expected.
        share: the largest part of an allowance that an error took (1 is the limit).
        error: the relative error that took it.
        example: the smallest failing case found, empty if none.
        seconds: time spent.
    """

    name: str
    says: str
    passed: bool
    expected: bool
    share: float
    error: float
    example: str
    seconds: float


def speaks_of(prop: Property, manifold: Manifold) -> bool:
    """Whether the property applies to this geometry at all: a product has no single curvature, say."""
    return prop.applies(Case(manifold, 1.0, torch.float64, manifold.dimensions[0], prop.radii[0], 0))


def try_property(
    manifold: Manifold, prop: Property, examples: int = 12, shrink: bool = True
) -> tuple[WorstErrors, str]:
    """Search for a failing case: the worst errors, and the smallest example's message, empty if none."""
    worst = WorstErrors()
    if not speaks_of(prop, manifold):
        return worst, ""

    @settings(
        max_examples=max(1, round(examples * prop.effort)),
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(manifold, prop.radii, prop.alone))
    def trial(case: Case) -> None:
        assume(prop.applies(case))
        _try_case(prop, case, worst)

    try:
        trial()
        for case in sweep(manifold, prop.radii[:: 1 if prop.effort == 1 else 2], prop.alone):
            if prop.applies(case):
                _try_case(prop, case, worst)
    except PropertyFailure as failure:
        return worst, str(failure)
    return worst, ""


def _try_case(prop: Property, case: Case, worst: WorstErrors) -> None:
    """Raise PropertyFailure, with the case, also where the geometry itself raises."""
    try:
        prop.trial(Check(case, worst))
    except PropertyFailure:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        message = f"{type(error).__name__}: {lines[0] if lines else ''}"
        raise PropertyFailure(f"{case}: raises {message}") from error


def _chosen(manifold: Manifold, only: Collection[str]) -> list[Property]:
    return [p for p in PROPERTIES.values() if speaks_of(p, manifold) and (not only or p.name in only)]


def check_manifold(
    manifold: Manifold,
    on_fail: OnFail = "raise",
    expected_failures: Collection[str] = (),
    examples: int = 12,
    only: Collection[str] = (),
) -> list[Outcome]:
    """Run every property on a geometry.

    Args:
        manifold: an instance; its curvature is varied around the given one.
        on_fail: ``"raise"`` ContractError, ``"warn"``, or only ``"report"`` in the result.
        expected_failures: names of properties known to fail; one that holds after all counts as a failure.
        examples: cases drawn per property, besides one at every radius.
        only: names of the properties to run; default all that apply.

    Raises:
        ContractError: a property fails (or an expected failure passes) and on_fail is "raise".
        ManifoldLoraError: a name that is no property, or less than one example.
    """
    for name in (*expected_failures, *only):
        if name not in PROPERTIES:
            raise ManifoldLoraError("property", name, PROPERTIES)
    if not is_whole(examples):
        raise ManifoldLoraError("examples", examples, "an integer of at least 1")
    outcomes = []
    for prop in _chosen(manifold, only):
        start = time.perf_counter()
        worst, example = try_property(manifold, prop, examples)
        expected = (example != "") == (prop.name in expected_failures)
        seconds = time.perf_counter() - start
        outcomes.append(
            Outcome(prop.name, prop.says, not example, expected, worst.share, worst.error, example, seconds)
        )
    broken = [o for o in outcomes if not o.expected]
    if broken and on_fail != "report":
        lines = [f"{o.name}: {o.says}\n    {o.example or 'holds, though expected to fail'}" for o in broken]
        message = f"{manifold} breaks {len(broken)} of {len(outcomes)} properties\n" + "\n".join(lines)
        if on_fail == "raise":
            raise ContractError(message)
        warnings.warn(message, stacklevel=2)
    return outcomes


def manifold_contract(
    *manifolds: Manifold, examples: int = 12, only: Collection[str] = ()
) -> Callable[..., None]:
    """A pytest test over geometries x properties: ``test_gans = manifold_contract(Gans(-1.0))``.

    ``examples`` and ``only`` are those of ``check_manifold``.
    """
    pairs = [(m, prop) for m in manifolds for prop in _chosen(m, only)]

    @pytest.mark.parametrize(("manifold", "prop"), pairs, ids=[f"{_label(m)}-{p.name}" for m, p in pairs])
    def contract(manifold: Manifold, prop: Property) -> None:
        _, example = try_property(manifold, prop, examples)
        if example:
            raise ContractError(f"{prop.says}\n{example}")

    return contract


def _label(manifold: Manifold) -> str:
    kappa = "x".join(f"{value:g}" for value in manifold.kappa.tolist())
    return f"{type(manifold).__name__}({kappa})"
