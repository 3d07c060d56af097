"""Strict YAML: no duplicate keys, ``1e-4`` is a number, nothing but plain data."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from manifold_lora.errors import ManifoldLoraError

_MOST_VALUES, _DEEPEST = 100_000, 50


class StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader with duplicate keys refused and exponent floats understood."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read one value; raises ManifoldLoraError where values are nested too deeply."""
        self._check_depth(self.depth)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        """Read a bracket; raises early, for what comes behind is scanned in time that grows with depth."""
        self._check_depth(self.flow_level)
        super().fetch_flow_collection_start(token)

    def _check_depth(self, depth: int) -> None:
        if depth >= _DEEPEST:
            where = f"{self.name}:{self.line + 1}"
            raise ManifoldLoraError(f"YAML at {where}", "deeper nesting", f"at most {_DEEPEST} levels")

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping; raises ManifoldLoraError where a key stands twice."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in seen:
                where = f"{key_node.start_mark.name}:{key_node.start_mark.line + 1}"
                raise ManifoldLoraError(f"key at {where}", key, "each plain key once in a mapping")
            seen.add(key)
        mapping = super().construct_mapping(node, deep=deep)
        # The key null of an ablation, written as it is read aloud: YAML has a value of that name.
        return {"null" if key is None else key: value for key, value in mapping.items()}


# YAML 1.1 reads 1e-4 as a string, 1:30 as 90 and 010 as 8; here numbers are those of YAML 1.2.
_NUMBERS = {
    "int": r"[-+]?(0|[1-9]\d*)|0x[0-9a-fA-F]+",
    "float": r"[-+]?((\.\d+|\d+\.\d*)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
}
StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] not in _NUMBERS]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern in _NUMBERS.items():
    StrictLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"^({_pattern})$"), list("-+0123456789.")
    )


def parse_yaml(text: str, name: str = "<text>") -> Any:
    """Parse YAML text into plain data; raises ManifoldLoraError naming ``name`` and the line."""
    try:
        loader = StrictLoader(text)
        loader.name = name
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node, name)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ManifoldLoraError(f"YAML at {where}", problem, "valid YAML of plain values") from None


def _check_size(root: yaml.Node, name: str) -> None:
    """Refuse aliases that repeat each other without end or to a size that no config has."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, above: frozenset[int]) -> int:
        if id(node) in above:
            where = f"{name}:{node.start_mark.line + 1}"
            raise ManifoldLoraError(f"YAML at {where}", "an alias of itself", "aliases of other values")
        if id(node) not in sizes:
            inside = above | {id(node)}
            sizes[id(node)] = 1 + sum(size(child, inside) for child in _children(node))
        return sizes[id(node)]

    if (values := size(root, frozenset())) > _MOST_VALUES:
        raise ManifoldLoraError(
            f"YAML at {name}", f"{values} values", f"at most {_MOST_VALUES}, aliases repeated"
        )


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping from a file; raises ManifoldLoraError for a missing file or another shape."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifoldLoraError("config file", str(path), "a readable UTF-8 YAML file", str(error)) from None
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise ManifoldLoraError(f"config {path}", type(data).__name__, "a mapping of keys to values")
    return data
