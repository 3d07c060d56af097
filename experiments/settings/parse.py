"""Default < YAML < flag: build a settings object, or say in one line which key is wrong."""

import math
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.settings.flags import merged, read_flags
from manifold_lora.experiments.settings.yaml_file import read_yaml

Settings = TypeVar("Settings", bound=BaseModel)


def validate(model: type[Settings], data: dict[str, Any], source: str) -> Settings:
    """Check plain data against a settings model; the first fault is raised as ManifoldLoraError."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise explain(error, model, source) from None


def load_settings(model: type[Settings], path: Path | None) -> Settings:
    """Read a settings model from YAML, or take its defaults where no file is given."""
    return validate(model, read_yaml(path), str(path)) if path else model()


def parse_flags(model: type[Settings], base: Settings | None, flags: Sequence[str], prog: str) -> Settings:
    """Apply command-line flags over ``base``; ``--help`` prints every flag and ends with exit code 0.

    Without a base, a flag whose field has no default must be there.
    """
    if {"-h", "--help"} & set(flags):
        import tyro

        defaults: dict[str, Any] = {} if base is None else {"default": base}
        tyro.cli(model, args=["--help"], prog=prog, **defaults)
    return validate(model, merged(dict(base or ()), read_flags(model, flags)), "command line")


def dump_yaml(settings: BaseModel) -> str:
    """The resolved settings as YAML that `load_settings` reads back."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def brief(settings: BaseModel) -> str:
    """What differs from the defaults, as one line of YAML."""
    data, defaults = (block.model_dump(mode="json") for block in (settings, type(settings)()))
    beside = _beside(data, defaults)
    flow: dict[str, Any] = {"default_flow_style": True, "width": math.inf}
    return yaml.safe_dump(beside, **flow, sort_keys=False, allow_unicode=True).strip()


def _beside(data: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The entries that differ; of blocks, those within."""
    return {
        key: _beside(value, defaults[key]) if _same_keys(value, defaults[key]) else value
        for key, value in data.items()
        if value != defaults[key]
    }


def _same_keys(value: Any, other: Any) -> bool:
    return isinstance(value, dict) and isinstance(other, dict) and value.keys() == other.keys()


_MEMBER = re.compile(r"float|int|str|bool|literal\[.*\]|(constrained|function|lax|json)-.*").fullmatch


def explain(error: ValidationError, model: type[BaseModel], source: str) -> ManifoldLoraError:
    """Turn pydantic's first complaint into asked / got / allowed / hint with the nearest key."""
    fault = error.errors(include_url=False)[0]
    # Of a union pydantic names the member too, max_angle.constrained-float.
    path = ".".join(str(part) for part in fault["loc"] if not _MEMBER(str(part)))
    if fault["type"] == "extra_forbidden":
        keys = field_names(model, fault["loc"][:-1])
        key = str(fault["loc"][-1])
        return UnknownNameError(f"key {path} in {source}", key, keys, _nearest(key, keys, model))
    if fault["type"] == "missing":
        return ManifoldLoraError(f"{path} in {source}", "nothing", "a value")
    got = fault["input"] if path else source
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, ManifoldLoraError):
        return type(cause)(f"{path or cause.asked} in {source}", cause.got, cause.allowed, cause.hint)
    if fault["type"] == "literal_error":
        return ManifoldLoraError(
            f"{path} in {source}", got, re.findall("'([^']*)'", fault["ctx"]["expected"])
        )
    return ManifoldLoraError(f"{path or 'settings'} in {source}", got, _rule(fault["msg"]))


def _rule(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Input should be ")
    return text[:1].lower() + text[1:]


def _nearest(key: str, keys: list[str], model: type[BaseModel]) -> str:
    elsewhere = [path for path in field_paths(model) if path.split(".")[-1] == key]
    close = elsewhere[:1] or get_close_matches(key, keys, n=1, cutoff=0.5)
    return "".join(f"did you mean {name!r}?" for name in close)


def _submodel(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def field_names(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """The keys allowed at a place of the settings tree."""
    for part in loc:
        inner = _submodel(model.model_fields[str(part)].annotation) if part in model.model_fields else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def field_paths(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All dotted leaf paths of a settings model, in the order of its fields."""
    paths: list[str] = []
    for name, field in model.model_fields.items():
        inner = _submodel(field.annotation)
        paths += field_paths(inner, f"{prefix}{name}.") if inner else [f"{prefix}{name}"]
    return paths
