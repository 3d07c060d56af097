"""Regular expressions in an adapter's config from elsewhere, tried under limits before peft runs them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.tuner.patterns import PATTERNS, from_file

# Names, escaped or not: they take time in proportion to their length.
_PLAIN = re.compile(r"\^?(?:[\w.\-]|\\[.\-])*\$?")
_SECONDS = 0.25
# peft puts these around what a config gives.
_FULL, _SUFFIX = "(?:{})\\Z", "(.*\\.)?({})$"
_FORMS = {
    "target_modules": _FULL,
    "exclude_modules": _FULL,
    "feedforward_modules": _FULL,
    "modules_to_save": "(^|.*\\.){}($|\\..*)",
    "layers_pattern": "(?:^|.*?\\.){}\\.(?P<idx>\\d+)\\.",
    "rank_pattern": _SUFFIX,
    "alpha_pattern": _SUFFIX,
    "curvature_pattern": _SUFFIX,
    "manifold_pattern": _SUFFIX,
    "target_svd_config": ".*?(?:{})",
    "n_frequency_pattern": ".*\\.{}$",
    "block_size_pattern": ".*\\.{}$",
}
# Only a string is a regular expression there; a list holds names.
_STRING_ONLY = {"target_modules", "exclude_modules", "feedforward_modules"}
_CHILD = """
import json, re, sys
seconds, patterns, names = json.load(sys.stdin)
try:
    import resource, signal
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
except (ImportError, AttributeError, ValueError, OSError):
    pass  # the caller's own time limit stays
for place, (text, form) in enumerate(patterns):
    print(json.dumps(place), flush=True)
    try:
        re.compile(text)
        compiled = re.compile(form.format(text))
    except Exception as error:
        print(json.dumps(str(error)[:200]), flush=True)
        sys.exit(1)
    for name in names:
        compiled.match(name)
"""


def check_regexes(config: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise ManifoldLoraError for a regular expression that is none, or that takes too long on the names.

    Each runs on every name in a child process, all of them within 0.25 s of processor time: peft runs them
    several times over, and a pattern with nested repetition would never come back. Plain names start no
    process.

    Args:
        config: the adapter's config as it was read, field by field.
        names: the modules of the base model.
    """
    given = [found for found in _regexes(config) if not _PLAIN.fullmatch(found[1])]
    if not given:
        return
    place, reason = _try([found[1:] for found in given], list(names))
    if reason:
        field, text, _ = given[place]
        raise ManifoldLoraError(f"{field} of adapter config", text[:200], "module names or patterns", reason)


def _regexes(config: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for field, form in _FORMS.items():
        value = config.get(field)
        value = from_file(field, value) if field in PATTERNS else value
        if isinstance(value, str):
            yield field, value, form
        elif field not in _STRING_ONLY and isinstance(value, list | dict):
            yield from ((field, text, form) for text in value if isinstance(text, str))


def _try(patterns: list[tuple[str, str]], names: list[str]) -> tuple[int, str]:
    """The place of the last pattern that was tried, and why it is refused; "" where all may run."""
    slow = f"it takes more than {_SECONDS} s on the model's module names"
    command = [sys.executable, "-I", "-S", "-c", _CHILD]
    data = json.dumps([_SECONDS, patterns, names])
    try:
        done = subprocess.run(command, input=data, capture_output=True, text=True, timeout=8)
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        lines = (output.decode() if isinstance(output, bytes) else output).split()
        return int(lines[-1]) if lines else 0, slow
    said = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode == 0:
        return 0, ""
    reason = said[-1] if said and isinstance(said[-1], str) else slow
    return max((place for place in said if isinstance(place, int)), default=0), reason
