"""The contract on a user's geometry, from the shell: ``manifold-lora check my_pkg.gans:Gans``."""

import inspect
import sys
from collections.abc import Collection, Sequence
from importlib import import_module
from pathlib import Path

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.settings.plain_flags import PlainFlags
from manifold_lora.manifolds.registry import MANIFOLDS


def _load(target: str) -> object:
    """A name of the registry, or ``module:attribute`` with the working directory importable."""
    if ":" not in target:
        if target in MANIFOLDS:
            return MANIFOLDS[target]
        raise UnknownNameError("geometry to check", target, (*MANIFOLDS, "module:Class"))
    module, _, attribute = target.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = import_module(module)
    except ImportError as error:
        raise ManifoldLoraError(
            "geometry to check", target, "an importable module:Class", str(error)
        ) from error
    if not hasattr(found, attribute):
        raise UnknownNameError(
            f"class in {module}", attribute, [name for name in vars(found) if name[0] != "_"]
        )
    return getattr(found, attribute)


def _build(target: str, kappa: float | None) -> "object":
    from manifold_lora.manifolds.base import Manifold

    made = _load(target)
    if target == "product":
        from manifold_lora.manifolds.build import build_manifold

        parts = [{"share": 0.5, "name": "lorentz"}, {"share": 0.5, "name": "sphere"}]
        return build_manifold({"name": "product", "parts": parts})
    if inspect.isabstract(made):
        missing = ", ".join(sorted(getattr(made, "__abstractmethods__", ())))
        raise ManifoldLoraError(
            "geometry to check", target, "a class with every primitive", f"missing: {missing}"
        )
    if isinstance(made, type) and issubclass(made, Manifold):
        try:
            return made() if kappa is None else made(kappa)  # type: ignore[call-arg]
        except TypeError as error:
            raise ManifoldLoraError(
                "geometry to check", target, "a class made by Class(kappa)", str(error)
            ) from error
    if isinstance(made, Manifold):
        return made
    raise ManifoldLoraError("geometry to check", target, "a subclass or an instance of Manifold")


def check_class(
    target: str, kappa: float | None = None, examples: int = 12, only: Collection[str] = ()
) -> int:
    """Run the contract and print a table of properties with the worst error.

    Args:
        target: ``"my_pkg.gans:Gans"``, or a name of the registry.
        kappa: curvature given to the class; default: the class's own.
        examples: cases drawn per property, besides one at every radius.
        only: names of the properties to run; default all that apply.

    Returns:
        0 if every property holds, 1 if one fails.

    Raises:
        ManifoldLoraError: the class cannot be found or built.
    """
    manifold = _build(target, kappa)
    from manifold_lora.manifolds.testing import check_manifold

    outcomes = check_manifold(manifold, on_fail="report", examples=examples, only=only)  # type: ignore[arg-type]
    width = max(map(len, ("property", *(outcome.name for outcome in outcomes))))
    line = f"{{:<{width}}}  {{:<5}}  {{:>11}}  {{:>16}}  {{:>7}}"
    print(line.format("property", "holds", "worst error", "of its allowance", "seconds"))
    for outcome in outcomes:
        holds, seconds = "yes" if outcome.passed else "no", f"{outcome.seconds:.1f}"
        error, share = (f"{outcome.error:.1e}", f"{outcome.share:.0%}") if outcome.passed else ("", "")
        print(line.format(outcome.name, holds, error, share, seconds))
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failed:
        print(f"{outcome.name}: {outcome.says}\n    {outcome.example}")
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} properties hold")
    return int(bool(failed))


def main(argv: Sequence[str] | None = None) -> int:
    """``manifold-lora check my_pkg.gans:Gans [--kappa -1] [--quick | --examples 12]``."""
    parser = PlainFlags(prog="manifold-lora check", description=__doc__)
    parser.add_argument("target", help="module:Class, or a registered name")
    parser.add_argument("--kappa", type=float)
    parser.add_argument("--examples", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="one drawn case a property")
    parser.add_argument("--only", nargs="*", default=(), help="names of properties")
    given = parser.parse_args(argv)
    if not 1 <= given.examples <= 10**6:
        raise ManifoldLoraError("--examples", given.examples, "a whole number from 1 to 1000000")
    return check_class(given.target, given.kappa, 1 if given.quick else given.examples, given.only)


if __name__ == "__main__":
    sys.exit(main())
