"""Names imported at first use: reading a config or printing --help must not wait for torch."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

Face = tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]


def lazy(package: str, homes: Mapping[str, str]) -> Face:
    """The ``__getattr__``, ``__dir__`` and ``__all__`` of a package that imports a name at first use.

    Args:
        package: the package's dotted name, its own ``__name__``.
        homes: module, relative to the package (``".tuner.config"``, ``"..errors"``) -> its public names, with
            spaces between them.

    Raises:
        AttributeError: by the returned ``__getattr__``, for a name that ``homes`` does not list.
    """
    home_of = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home_of[name], package), name)

    public = sorted(home_of)
    return get, lambda: public, public
