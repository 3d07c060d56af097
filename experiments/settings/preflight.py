"""What can be refused before torch is imported and the base is prepared: where results go and come from."""

import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from manifold_lora.adapters.spec import check_kappa
from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.executors import EXECUTORS
from manifold_lora.experiments.settings.run import AUTO, NONE, ModelSettings, RunSettings
from manifold_lora.models.saved.base_numbers import check_base_numbers
from manifold_lora.models.saved.folders import check_model_folder, existing_folder, is_folder_name

# Signs that the tables are written with.
_SIGNS = "Δ±×…━"
# Of a pattern that is matched against module names of a hundred characters.
_STARS = 4


def preflight(run: RunSettings, output: Path, cache: Path) -> None:
    """Refuse a console, folders, a model or extras that would end the run later. Nothing is left behind.

    Raises ManifoldLoraError.
    """
    check_places(output=output, cache=cache)
    check_model(run.model)
    text = run.evaluation.retention
    if text not in (AUTO, NONE) and not Path(text).is_file():
        raise ManifoldLoraError("evaluation.retention", text, f"{AUTO}, {NONE}, or a text file")
    if run.task.labels is not None and not run.task.labels.is_file():
        raise ManifoldLoraError("task.labels", str(run.task.labels), "a file of --null distilled")
    if isinstance(run, AblationSettings):
        name = run.execution.executor
        _check_extra("execution.executor", name, EXECUTORS.metadata(name).get("needs"))


def check_places(**folders: Path | None) -> None:
    """Refuse a console or folders, by what they are, that would end a verb after its work.

    Raises ManifoldLoraError.
    """
    check_console()
    for what, folder in folders.items():
        if folder is not None:
            check_writable(what, folder)


def check_console() -> None:
    """Refuse a standard output that is closed, or whose encoding has no signs for the tables."""
    encoding = getattr(sys.stdout, "encoding", None)
    try:
        if sys.stdout is not None:
            _SIGNS.encode(encoding or "utf-8")
            return
    except (UnicodeEncodeError, LookupError):
        pass
    got = encoding or "closed"
    hint = "set PYTHONIOENCODING=utf-8, or a UTF-8 locale"
    raise ManifoldLoraError("standard output", got, "UTF-8", hint)


def check_writable(what: str, folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, by making one beside it and removing that.

    Raises ManifoldLoraError for a file, a name that the file system does not take, or no permission.
    """
    try:
        place = _nearest(folder)
        os.rmdir(tempfile.mkdtemp(prefix=".", dir=place))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ManifoldLoraError(f"{what} folder ({reason})", str(folder), "a folder to write to") from error


def _nearest(folder: Path) -> Path:
    """The folder, or the first one above that exists."""
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            if not os.stat(place).st_mode & 0o040000:
                raise NotADirectoryError(errno.ENOTDIR, f"{place} is a file")
        except FileNotFoundError:
            continue
        return place
    return Path.cwd()


def check_model(settings: ModelSettings) -> None:
    """Refuse a folder that is missing or no model, and extras or a device that are not here.

    Of a folder also numbers that training would refuse: a dropout of 2, a token without an embedding.
    """
    _check_extra("model.quantization", settings.quantization, _BITS.get(settings.quantization))
    if settings.device == "cuda" and sys.platform == "linux" and not _has_gpu():
        raise ManifoldLoraError("model.device", "cuda", "auto or cpu", "this machine shows no GPU")
    if is_folder_name(settings.name) and not settings.name.endswith(".gguf"):
        folder = existing_folder("model folder", settings.name)
        if not any(folder.glob("*.gguf")):
            check_model_folder(folder)
            check_base_numbers(folder)


_BITS = dict.fromkeys(("4bit", "8bit"), ("bitsandbytes", "bitsandbytes"))


def _check_extra(key: str, value: str, needs: tuple[str, str] | None) -> None:
    module, extra = needs or ("", "")
    if module and find_spec(module) is None:
        hint = f"pip install 'manifold-lora[{extra}]'"
        raise ManifoldLoraError(key, value, f"what is installed; {module} is not", hint)
    if value == "slurm" and shutil.which("sbatch") is None:
        hint = "start it on the cluster's login node"
        raise ManifoldLoraError(key, value, "a machine that has sbatch", hint)


def _has_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*")) or any(
        Path(device).exists() for device in ("/dev/kfd", "/dev/dxg")
    )


# Of a module, or its last parts.
_NAME = r"[\w-]+(\.[\w-]+)*"


def check_targets(targets: object) -> None:
    """Refuse target modules that are neither names nor a pattern. Raises ManifoldLoraError."""
    if isinstance(targets, list | tuple):
        if not targets or not all(isinstance(name, str) and re.fullmatch(_NAME, name) for name in targets):
            allowed = "names of modules, or all-linear"
            raise ManifoldLoraError(
                "adapter.target_modules", targets, allowed, "a pattern stands without a list"
            )
    elif isinstance(targets, str) and re.fullmatch(rf"{_NAME}(\s*,\s*{_NAME})+", targets):
        raise ManifoldLoraError("adapter.target_modules", targets, f"a list of names: [{targets}]")
    elif targets != "all-linear":
        check_pattern("adapter.target_modules", targets)


def check_pattern(key: str, pattern: object) -> None:
    """Refuse a regular expression of module names that cannot be compiled, or that may match for ever.

    Raises ManifoldLoraError.
    """
    if not isinstance(pattern, str) or not pattern or len(pattern) > 500:
        raise ManifoldLoraError(key, pattern, "a pattern of module names, up to 500 characters")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ManifoldLoraError(key, pattern, "a regular expression", str(error)) from error
    if _explodes(pattern):
        allowed = f"no group that is repeated and repeats or chooses inside, at most {_STARS} of + and *"
        raise ManifoldLoraError(key, pattern, allowed, "it could match for ever")


def _explodes(pattern: str) -> bool:
    """Whether there may be exponentially many ways to match, as in ``(a+)+`` or ``(a|aa)*``."""
    plain = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "x", pattern)
    if len(re.findall(r"[+*]|,\}", plain)) > _STARS:
        return True
    while group := re.search(r"\(([^()]*)\)([+*{]?)", plain):
        busy = re.search(r"[+*{|]", group[1])
        if busy and group[2]:
            return True
        plain = f"{plain[: group.start()]}{'x+' if busy else 'x'}{plain[group.end(1) + 1 :]}"
    return False


def check_kappas(key: str, value: Any) -> None:
    """Refuse curvatures that are true or false, or of a size whose radius is no float32."""
    for path, kappa in _kappas(key, value):
        if isinstance(kappa, bool):
            raise ManifoldLoraError(path, kappa, "a number")
        check_kappa(path, kappa)


def _kappas(path: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("kappa", "curvature", "parts") or isinstance(inner, dict):
                yield from _kappas(f"{path}.{name}", inner)
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _kappas(f"{path}[{place}]", inner)
    elif isinstance(value, int | float):
        yield path, value
