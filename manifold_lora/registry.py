"""Names to parts: a registry that imports a part only when it is built."""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from manifold_lora.errors import ManifoldLoraError, UnknownNameError

Part = TypeVar("Part")


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
        self._facts: dict[str, dict[str, Any]] = {}
        self._parts: dict[str, Part] = {}

    def declare(self, name: str, path: str, **facts: Any) -> None:
        """Add a part by its import path, with facts that a config may check before the import."""
        self._declared[name], self._facts[name] = path, facts

    def register(self, name: str, **facts: Any) -> Callable[[Part], Part]:
        """Decorate a class or function to add it under ``name``; raises if the name is taken by another."""

        def add(part: Part) -> Part:
            if name in self and not self._same(name, part):
                raise ManifoldLoraError(f"new {self.kind}", name, f"a name other than {', '.join(self)}")
            self._parts[name] = part
            self._facts.setdefault(name, facts)
            return part

        return add

    def _same(self, name: str, part: Part) -> bool:
        path = f"{getattr(part, '__module__', '')}:{getattr(part, '__qualname__', '')}"
        held = self._parts.get(name)
        held_path = f"{getattr(held, '__module__', '')}:{getattr(held, '__qualname__', '')}"
        return path == self._declared.get(name, held_path)

    def _installed(self) -> dict[str, Any]:
        return {point.name: point for point in entry_points(group=self.group)}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._declared, *self._parts, *self._installed()}))

    def __contains__(self, name: object) -> bool:
        return name in self._declared or name in self._parts or name in self._installed()

    def facts(self, name: str) -> dict[str, Any]:
        """The facts stated with a name; empty for parts that state none. Raises UnknownNameError."""
        self.check(name)
        return self._facts.get(name, {})

    def check(self, name: str) -> str:
        """Return ``name`` if it is known, else raise UnknownNameError naming the nearest one."""
        if name not in self:
            raise UnknownNameError(self.kind, name, tuple(self))
        return name

    def __getitem__(self, name: str) -> Part:
        """The part under ``name``, imported if need be. Raises UnknownNameError."""
        self.check(name)
        if name not in self._parts:
            if name in self._declared:
                module, _, attribute = self._declared[name].partition(":")
                self._parts[name] = getattr(import_module(module), attribute)
            else:
                self._parts[name] = self._installed()[name].load()
        return self._parts[name]
