"""The command manifold-lora: one verb per file of experiments, each imported when it is asked for."""

import io
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

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
    "evaluate": (
        "manifold_lora.experiments.commands.evaluate",
        "answer a task's test sets with a saved adapter",
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
    "check": (
        "manifold_lora.experiments.commands.check",
        "the property contract on your own geometry (module:Class)",
    ),
    "bench": ("manifold_lora.experiments.commands.bench", "accuracy of the geometry, cost of the layer"),
    "geometry": (
        "manifold_lora.experiments.commands.geometry",
        "token frequency, norms and delta-hyperbolicity of a model",
    ),
}


def usage() -> str:
    """The text of ``manifold-lora --help``."""
    lines = [f"  {verb:<10} {text}" for verb, (_, text) in VERBS.items()]
    return "\n".join(
        [
            "usage: manifold-lora VERB [CONFIG.yaml] [--flags] [--plugin MODULE]",
            "",
            *lines,
            "",
            "manifold-lora VERB --help lists every switch",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; bad input is one line on stderr and exit code 2, Ctrl-C is 130."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # better a ? than no answer
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    try:
        verb, *flags = load_named_plugins(arguments) or [""]
        return _verb(verb)(flags)
    except ManifoldLoraError as error:
        print(f"manifold-lora {arguments[0]}: {error}", file=sys.stderr)
        return 2
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
        if argument == "--plugin":
            modules.append(next(waiting, ""))
        else:
            rest.append(argument)
    if modules:
        sys.path.insert(0, str(Path.cwd()))
        load_plugins(modules)
    return rest


def _verb(name: str) -> Callable[[list[str]], int]:
    if name not in VERBS:
        raise UnknownNameError("verb", name, tuple(VERBS))
    verb: Callable[[list[str]], int] = import_module(VERBS[name][0]).main
    return verb


if __name__ == "__main__":
    sys.exit(main())
