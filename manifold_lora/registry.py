"""Names to parts: a registry that imports a part only when it is built."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from manifold_lora.errors import ManifoldLoraError, UnknownNameError

Part = TypeVar("Part")
# What goes to a part's constructor, in the order of the keys.
Options = tuple[tuple[str, Any], ...]


class Registry(Generic[Part]):
    """A mapping from names to parts, filled by declaration, by decorator or by an installed entry point.

    Declared parts are ``"module:attribute"`` strings resolved at first use, so that reading a config and
    naming a typo costs no import of torch.

    Args:
        kind: what the names stand for, as error messages call it (``"manifold"``).
        group: entry-point group that installed packages may add to (``"manifold_lora.manifolds"``).
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind, self.group = kind, group
        self._declared: dict[str, str] = {}
        self._metadata: dict[str, dict[str, Any]] = {}
        self._parts: dict[str, Part] = {}

    def declare(self, name: str, path: str, **metadata: Any) -> None:
        """Add a part by its import path, with metadata that a config may check before the import."""
        self._declared[name], self._metadata[name] = path, metadata

    def register(self, name: str, **metadata: Any) -> Callable[[Part], Part]:
        """Decorate a class or function to add it under ``name``, with its metadata.

        A package may both decorate a part and offer it by an entry point of the same name; defining a part
        again (a notebook cell, a reload) replaces it.

        Raises:
            ManifoldLoraError: ``name`` is taken by another part.
        """

        def add(part: Part) -> Part:
            if self._taken(name, part):
                raise ManifoldLoraError(f"new {self.kind}", name, f"a name other than {', '.join(self)}")
            self._parts[name], self._metadata[name] = part, metadata or self._metadata.get(name, {})
            return part

        return add

    def _taken(self, name: str, part: Part) -> bool:
        module, path = getattr(part, "__module__", None) or "", _path(part)
        if name in self._declared:
            return path != self._declared[name]
        if name in self._parts:
            return path != _path(self._parts[name])
        # The object of an entry point cannot be asked for here: it may be the very class that is being made.
        points = self._installed().get(name, [])
        return bool(points) and all(_top(point.module) != _top(module) for point in points)

    def _installed(self) -> dict[str, list[EntryPoint]]:
        points: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            points.setdefault(point.name, []).append(point)
        return points

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._declared, *self._parts, *self._installed()}))

    def __contains__(self, name: object) -> bool:
        return name in self._declared or name in self._parts or name in self._installed()

    def metadata(self, name: str) -> dict[str, Any]:
        """The metadata stated with a name; empty for parts that state none. Raises UnknownNameError."""
        self._known(name)
        return self._metadata.get(name, {})

    def check(self, name: str) -> str:
        """Return ``name`` if it is known; a part of another package is imported, so that its metadata hold.

        Raises:
            UnknownNameError: nothing has that name; the nearest one is named.
            ManifoldLoraError: the package that offers it cannot be imported.
        """
        self._known(name)
        if name not in self._declared:
            self[name]
        return name

    def _known(self, name: str) -> None:
        if name not in self:
            raise UnknownNameError(self.kind, name, tuple(self))

    def named(self, given: object, beside: tuple[str, ...] = ()) -> tuple[str, Options]:
        """(name, options) of a part given as a name or as ``{name: ..., **options}``, not imported.

        Args:
            given: what a config states; parts state with ``options=(...)`` what their constructors take, or
                with ``options={key: (rule, allowed)}`` also of which values ``rule`` is true.
            beside: keys that are not the part's own.

        Raises:
            UnknownNameError: no such part, or no such option of it.
            ManifoldLoraError: neither a name nor a mapping with one, or an option that is no plain value or
                breaks its rule.
        """
        name = given.get("name") if isinstance(given, Mapping) else given
        if not isinstance(name, str):
            raise ManifoldLoraError(self.kind, given, (*self, "{name: ..., **options}"))
        rules = self.metadata(name).get("options", ())
        known, options = (*beside, *rules), {}
        for key, value in given.items() if isinstance(given, Mapping) else ():
            if key in ("name", *beside):
                continue
            if key not in known:
                raise UnknownNameError(f"option of {self.kind} {name}", key, known)
            if value is not None and not isinstance(value, bool | int | float | str):
                raise ManifoldLoraError(f"{key} of {self.kind} {name}", value, "a plain value")
            if isinstance(rules, Mapping) and not rules[key][0](value):
                raise ManifoldLoraError(f"{key} of {self.kind} {name}", value, rules[key][1])
            options[key] = value
        return name, tuple(sorted(options.items()))

    def __getitem__(self, name: str) -> Part:
        """The part under ``name``, imported if need be. Raises what ``check`` raises."""
        self._known(name)
        if name not in self._parts:
            if name in self._declared:
                module, _, attribute = self._declared[name].partition(":")
                self._parts[name] = getattr(import_module(module), attribute)
            else:
                self._load(name)
        return self._parts[name]

    def _load(self, name: str) -> None:
        points = self._installed()[name]
        asked = f"{self.kind} {name!r} of an installed package"
        if len({point.value for point in points}) > 1:
            raise ManifoldLoraError(asked, " and ".join(point.value for point in points), "one package of it")
        try:
            part = points[0].load()
        except Exception as error:
            hint = f"{type(error).__name__}: {error}"
            raise ManifoldLoraError(asked, points[0].value, "an object that imports", hint) from error
        if isinstance(part, ModuleType) and name not in self._parts:
            hint = "write module:Class, or register the name in the module"
            raise ManifoldLoraError(asked, points[0].value, "an object, not a module", hint)
        # What the module's own decorator put there stands: it is the part, with its metadata.
        self._parts.setdefault(name, part)


def _path(part: object) -> str:
    return f"{getattr(part, '__module__', '')}:{getattr(part, '__qualname__', '')}"


def _top(module: str) -> str:
    return module.partition(".")[0]
