"""Geometries and parts from outside: loaded when the user names them, never by a config file alone."""

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import EntryPoint, distributions

from manifold_lora.errors import ManifoldLoraError, UnknownNameError

_MODULES: list[str] = []


def loaded_modules() -> tuple[str, ...]:
    """The modules loaded so far, for child processes to load too."""
    return tuple(_MODULES)


def _installed() -> dict[str, EntryPoint]:
    """The entry points of every registry: geometries, transforms, norm scalings and tasks."""
    points = (point for each in distributions() for point in each.entry_points)
    return {point.name: point for point in points if point.group.startswith("manifold_lora.")}


def load_plugins(names: Iterable[str]) -> None:
    """Import what adds parts to the registries: installed entry points by name, or modules by dotted path.

    Pass modules only from a command line: naming a module runs its code. A config file may name entry
    points, which whoever installed the package has already trusted; use check_installed for those.

    Args:
        names: entry points of a group ``manifold_lora.*`` (manifolds, tasks, ...), or importable modules.

    Raises:
        UnknownNameError: neither an entry point nor an importable module.
        ManifoldLoraError: the module is there but fails to import.
    """
    installed = _installed()
    for name in names:
        module = installed[name].module if name in installed else name
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            if error.name != name and not name.startswith(f"{error.name}."):
                raise ManifoldLoraError(
                    "plugin", name, "a module whose imports succeed", str(error)
                ) from error
            allowed = (*installed, "an importable module")
            raise UnknownNameError("plugin", name, allowed) from error
        except Exception as error:
            hint = f"{type(error).__name__}: {error}"
            raise ManifoldLoraError("plugin", name, "a module that imports", hint) from error
        if name not in installed:
            _MODULES.append(name)


def check_installed(names: Iterable[str]) -> None:
    """Raise UnknownNameError at the first name that is no installed entry point: for config files."""
    installed = tuple(_installed())
    for name in names:
        if name not in installed:
            hint = "a module is named on the command line: --plugin MODULE"
            raise UnknownNameError("installed plugin", name, installed or "installed entry points", hint)
