"""The one error shape of the project: what was asked, what was got, what is allowed, and a hint."""

from collections.abc import Iterable
from difflib import get_close_matches


class ManifoldLoraError(ValueError):
    """A request that cannot be served: what was asked, what was given, what is allowed, a hint.

    Args:
        asked: the thing that was asked for, e.g. ``"manifold"`` or ``"kappa of lorentz"``.
        got: the value that was given.
        allowed: the values (or a sentence describing them) that would have been accepted.
        hint: what to do next; by default the nearest allowed name, if there is one.
    """

    # How a sweep records a cell that ended so.
    status = "refused"

    def __init__(self, asked: str, got: object, allowed: str | Iterable[str] = "", hint: str = "") -> None:
        names = [] if isinstance(allowed, str) else [str(name) for name in allowed]
        if not hint and isinstance(got, str):
            hint = "".join(
                f"did you mean {name!r}?" for name in get_close_matches(got, names, n=1, cutoff=0.5)
            )
        self.asked, self.got, self.hint = asked, got, hint
        self.allowed = allowed if isinstance(allowed, str) else ", ".join(names)
        parts = [f"{asked}: got {got!r}"]
        parts += [f"allowed: {self.allowed}"] if self.allowed else []
        parts += [hint] if hint else []
        super().__init__(_one_line("; ".join(parts)))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle by args; ours has one rendered arg but four parameters.
        return type(self), (self.asked, self.got, self.allowed, self.hint)


def _one_line(text: str) -> str:
    """The text with line breaks and control characters of whatever it quotes written out: ``\\n``."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


class UnknownNameError(ManifoldLoraError):
    """A name that no registry, config or file knows."""


class CurvatureError(ManifoldLoraError):
    """A curvature of the wrong sign, zero, or not finite."""


class PointError(ManifoldLoraError):
    """A tensor that is not a point or tangent vector: off the manifold, NaN, wrong axis, dtype or device."""


class LinearOnlyError(ManifoldLoraError):
    """An operation that needs a linear update (merging, say) asked of a non-linear adapter."""
