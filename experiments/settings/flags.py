"""The command line as settings: --block.field VALUE, each an override of one field."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.settings.yaml_file import parse_yaml

Overrides = dict[str, Any]


@dataclass(frozen=True)
class Flag:
    """A field that a flag sets: where it stands, and what stands behind the flag."""

    path: tuple[str, ...]
    field: FieldInfo

    def read(self, flag: str, given: Sequence[str], negated: bool) -> Any:
        """The value of a flag as the settings model takes it. Raises ManifoldLoraError."""
        kind = self.field.annotation
        if kind is bool and len(given) <= 1:
            said = given[0].lower() if given else "true"
            if said in ("true", "false") and not (negated and given):
                return (said == "true") != negated
        if get_origin(kind) is tuple:
            return tuple(given)
        if len(given) != 1:
            raise ManifoldLoraError(flag, " ".join(given), "one value")
        if kind is Any:
            return parse_yaml(given[0], flag)
        return None if given[0] == "None" and not self.field.is_required() else given[0]


def read_flags(model: type[BaseModel], arguments: Sequence[str]) -> Overrides:
    """The overrides that a command line states, as nested plain data.

    ``--train.learning-rate 1e-3``, with ``_`` or ``-`` and with a blank or ``=``; ``--task.completion-only``
    and ``--task.no-completion-only`` for what is true or false; YAML for what has several shapes. The last of
    two equal flags counts.

    Raises UnknownNameError for an unknown flag, with the nearest one, and ManifoldLoraError for a word that
    is no flag and for a flag without its value.
    """
    known = dict(_flags(model))
    overrides: Overrides = {}
    for name, given in _grouped(arguments):
        flag, negated = known.get(name), False
        if flag is None and (name.startswith("--no-") or ".no-" in name):
            flag = known.get(name.replace("--no-", "--", 1).replace(".no-", ".", 1))
            negated = flag is not None and flag.field.annotation is bool
            flag = flag if negated else None
        if flag is None:
            raise UnknownNameError("flag", name, "those of --help", _nearest(name, list(known)))
        block = overrides
        for part in flag.path[:-1]:
            block = block.setdefault(part, {})
        block[flag.path[-1]] = flag.read(name, given, negated)
    return overrides


def merged(base: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """The settings with the overrides in place of their own values."""
    nested = {key: value for key, value in overrides.items() if isinstance(base.get(key), BaseModel)}
    return {
        **base,
        **overrides,
        **{key: merged(dict(base[key]), value) for key, value in nested.items()},
    }


def _grouped(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each flag, spelt with hyphens, and the words behind it."""
    flags: list[tuple[str, list[str]]] = []
    for word in arguments:
        if word.startswith("--"):
            name, stated, value = word.partition("=")
            flags.append((name.replace("_", "-"), [value] if stated else []))
        elif flags:
            flags[-1][1].append(word)
        else:
            raise ManifoldLoraError("argument", word, "a flag: --NAME VALUE")
    for name, given in flags:
        if "" in given:
            raise ManifoldLoraError(name, "", "a value")
        yield name, given


def _flags(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Flag]]:
    """All flags of a settings model, short ones included; none for what is fixed."""
    from tyro.conf import Fixed

    for name, field in model.model_fields.items():
        if Fixed in field.metadata:
            continue
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _flags(kind, (*path, name))
            continue
        flag = Flag((*path, name), field)
        yield "--" + ".".join(flag.path).replace("_", "-"), flag
        for about in field.metadata:
            for alias in getattr(about, "aliases", None) or ():
                yield alias, flag


def _nearest(name: str, known: list[str]) -> str:
    leaf = name.lstrip("-").rpartition(".")[2]
    elsewhere = [flag for flag in known if flag.lstrip("-").rpartition(".")[2] == leaf]
    close = elsewhere[:1] or get_close_matches(name, known, n=1, cutoff=0.5)
    return "".join(f"did you mean {flag!r}?" for flag in close)
