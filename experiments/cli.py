"""The command manifold-lora: one verb per file of experiments, each imported when it is asked for."""

import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from manifold_lora import __version__
from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.manifolds.plugins import load_plugins

# verb -> module with a main(argv) -> exit code, and its line in --help.
VERBS: dict[str, tuple[str, str]] = {
    "ablate": (
        "manifold_lora.experiments.commands.ablate",
        "arms x learning rates x seeds on one task, to a table",
    ),
    "train": ("manifold_lora.experiments.commands.train", "train one adapter and save it"),
    "preflight": (
        "manifold_lora.experiments.commands.preflight",
        "what training rows meet in each adapted layer, and what cannot work",
    ),
    "fetch": ("manifold_lora.experiments.commands.fetch", "get a pre-trained model by name, for --model"),
    "evaluate": (
        "manifold_lora.experiments.commands.evaluate",
        "answer a task's test sets with a saved adapter, or with a base model alone",
    ),
    "data": (
        "manifold_lora.experiments.commands.data",
        "rebuild Math-10K, look for test questions in training files",
    ),
    "export": ("manifold_lora.experiments.commands.export", "a saved adapter as an ordinary PEFT LoRA"),
    "report": (
        "manifold_lora.experiments.commands.report",
        "the table, CSV and figure of an ablation folder",
    ),
    "positive-control": (
        "manifold_lora.experiments.commands.positive_control",
        "what the report's verdicts say where the truth is known, and what your sizes can show",
    ),
    "check": (
        "manifold_lora.experiments.commands.check",
        "the property contract on your own geometry (module:Class)",
    ),
    "bench": ("manifold_lora.experiments.commands.bench", "accuracy of the geometry, cost of the layer"),
    "geometry": (
        "manifold_lora.experiments.commands.geometry",
        "token frequency, norms and delta-hyperbolicity of a model",
    ),
    "ability": (
        "manifold_lora.experiments.commands.ability",
        "delta of each prompt against how well models answer it",
    ),
    "new": (
        "manifold_lora.experiments.commands.new",
        "a geometry or a task of your own, with its tests, to start from",
    ),
}
# Verbs that the core install serves; the modules of the extra `experiments`, which all others need.
CORE = ("check", "fetch", "new")
EXTRA = (
    *("jinja2", "math_verify", "matplotlib", "mpmath", "powerlaw", "psutil"),
    *("pydantic", "rich", "scipy", "tyro", "yaml"),
)


def usage() -> str:
    """The text of ``manifold-lora --help``."""
    lines = [f"  {verb:<16} {text}" for verb, (_, text) in VERBS.items()]
    return "\n".join(
        [
            "usage: manifold-lora VERB [CONFIG] [--flags] [--plugin MODULE]",
            "",
            *lines,
            "",
            "CONFIG is a YAML file or the name of a shipped one, e.g. taxonomy.",
            "manifold-lora VERB --help lists every switch; manifold-lora --version.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; bad input is one line on stderr and exit code 2, Ctrl-C is 130, a closed pipe 141.

    An output that takes nothing more, as on a full disk, is one line on stderr and exit code 1.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            return _run(arguments)
        finally:
            # Here, and not when Python ends: it would print a traceback that nobody can catch.
            if sys.stdout is not None:  # closed from the start
                sys.stdout.flush()
    except OSError as error:
        if not any(_is_broken(stream) for stream in (sys.stdout, sys.stderr)):
            raise
        if isinstance(error, BrokenPipeError):
            return 141  # as a shell reports a program that SIGPIPE ended
        print(f"manifold-lora {arguments[0]}: standard output: {error.strerror}", file=sys.stderr)
        return 1


def _is_broken(stream: TextIO | None) -> bool:
    """Whether a stream takes nothing more; what is left to write goes nowhere then."""
    if stream is None:
        return False
    try:
        # Nothing shorter fails where Python does not buffer, and what follows is a traceback anyway.
        stream.write("\n")
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return True
    return False


def _run(arguments: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # better a ? than no answer
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"manifold-lora {__version__}")
        return 0
    try:
        verb, *flags = load_named_plugins(arguments) or [""]
        return _verb(verb)(flags)
    except ManifoldLoraError as error:
        return _refused(arguments[0], error)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in EXTRA:
            raise
        return _refused(arguments[0], _lacking(verb, [str(error.name)]))
    except KeyboardInterrupt as error:
        # What giving the command again would do, only the verb knows.
        print("; ".join(["interrupted", *map(str, error.args)]), file=sys.stderr)
        return 130


def load_named_plugins(arguments: list[str]) -> list[str]:
    """Load the modules of ``--plugin MODULE`` and return the other arguments.

    A module is trusted because it is named on the command line, the working directory's modules included; a
    config file names installed plugins only.
    """
    rest, modules = [], []
    waiting = iter(arguments)
    for argument in waiting:
        option, given, module = argument.partition("=")
        if option == "--plugin":
            modules.append(module if given else next(waiting, ""))
        else:
            rest.append(argument)
    if modules:
        sys.path.insert(0, str(Path.cwd()))
        load_plugins(modules)
    return rest


def _verb(name: str) -> Callable[[list[str]], int]:
    if name not in VERBS:
        raise UnknownNameError("verb", name, tuple(VERBS))
    if name not in CORE and (modules := [module for module in EXTRA if not _is_there(module)]):
        raise _lacking(name, modules)
    verb: Callable[[list[str]], int] = import_module(VERBS[name][0]).main
    return verb


def _lacking(verb: str, modules: list[str]) -> ManifoldLoraError:
    hint = "pip install 'manifold-lora[experiments]'"
    return ManifoldLoraError(f"packages that {verb} needs", f"no {', '.join(modules)}", hint=hint)


def _refused(verb: str, error: ManifoldLoraError) -> int:
    print(f"manifold-lora {verb}: {error}", file=sys.stderr)
    return 2


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # Blocked by an import hook, or by None in sys.modules.
        return False


if __name__ == "__main__":
    sys.exit(main())
