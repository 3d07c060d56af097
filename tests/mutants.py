"""Mutation testing: small faults put into manifolds/ and adapters/, and the tests that notice them.

`python tests/mutants.py --budget 150 --seed 0` draws that many of the mutants that cosmic-ray's operators
make. Each runs in a fork of a process that has imported torch already, and nothing is written to the working
tree: the mutated source stands in for the file while it is imported. The tests of a mutant are the fast files
that tests/mutants.yaml names for its module, in that order, up to the first failure. What survives has to
stand in that file with the reason; a survivor that does not makes the exit code 1.
"""

import argparse
import ast
import contextlib
import difflib
import multiprocessing
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.machinery import SourceFileLoader
from pathlib import Path
from random import Random
from types import CodeType
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".yaml")
# What no test of ours can see: kernels without a GPU, and the package files that only name others.
LEFT_OUT = ("adapters/cuda/*", "*/__init__.py")
# Replacements that raise wherever a tensor comes by, or that ask for identity in place of equality.
DULL = re.compile(r"_(BitAnd|BitOr|BitXor|LShift|RShift|Is|IsNot)$")
# Guards of the language, not of ours.
GUARDS = ("strict", "frozen")
MARKS = ("abstractmethod", "final", "override")
# Imported once, before the forks.
HEAVY = ("torch", "torch.func", "mpmath", "numpy", "hypothesis", "geoopt", "jaxtyping", "pytest")
# Times the tests of the sound code, and seconds beside: a mutant that takes longer runs in a circle.
PATIENCE, GRACE = 4, 30


@dataclass(frozen=True)
class Mutant:
    """A file of the working tree with one fault, and the lines that differ."""

    path: str
    source: str
    change: str

    @property
    def key(self) -> str:
        """What names it in the list, wherever in the file its line lies."""
        return f"{self.path}: {self.change}"


def drawn(budget: int, seed: int, only: str) -> list[Mutant]:
    """``budget`` of the mutants of the files that match ``only``, drawn by ``seed`` over all of them."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    operators = [get_operator(name) for name in operator_names() if not DULL.search(name)]
    places = []
    for path in sorted(p for top in ("manifolds", "adapters") for p in (ROOT / top).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if any(fnmatch(name, pattern) for pattern in LEFT_OUT) or not fnmatch(name, only):
            continue
        source = path.read_text(encoding="utf-8")
        hidden, nodes = _unseen(source), list(ast_nodes(get_ast(source)))
        for operator in operators:
            if operator.arguments():
                continue
            starts = [start for node in nodes for start, _ in operator().mutation_positions(node)]
            places += [
                (name, source, operator, nth)
                for nth, (line, column) in enumerate(starts)
                if not any(first <= (line, column) < last for first, last in hidden)
            ]
    found = []
    Random(seed).shuffle(places)
    for name, source, operator, nth in places:
        if len(found) == budget:
            break
        mutated = mutate_code(source, operator(), nth)
        if mutated is not None and _compiles(mutated) and _differs(source, mutated):
            found.append(Mutant(name, mutated, _change(source, mutated)))
    return found


def _unseen(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where types and guards stand, of which no test can tell one from another."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found += [node.returns] if isinstance(node, ast.FunctionDef) else []
            found += [mark for mark in node.decorator_list if ast.unparse(mark) in MARKS]
        elif isinstance(node, ast.keyword) and node.arg in GUARDS:
            found.append(node.value)
    return [
        # From the @ of a decorator on.
        ((node.lineno, max(0, node.col_offset - 1)), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in found
        if node is not None
    ]


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _differs(source: str, mutated: str) -> bool:
    return ast.dump(ast.parse(source)) != ast.dump(ast.parse(mutated))


def _change(source: str, mutated: str) -> str:
    """The changed lines: ``before -> after``."""
    lines = list(difflib.ndiff(source.splitlines(), mutated.splitlines()))
    before, after = (" ".join(line[2:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return f"{before} -> {after}"


def named(entries: list[dict[str, str]]) -> list[Mutant]:
    """The mutants that the list writes out: ``file``, ``old`` text that stands there once, and ``new``."""
    found = []
    for entry in entries:
        source = (ROOT / entry["file"]).read_text(encoding="utf-8")
        if source.count(entry["old"]) != 1:
            times = source.count(entry["old"])
            raise SystemExit(f"{LIST.name}: {entry['old']!r} stands {times} times in {entry['file']}")
        mutated = source.replace(entry["old"], entry["new"])
        found.append(Mutant(entry["file"], mutated, _change(source, mutated)))
    return found


def tests_of(path: str, rules: dict[str, list[str]]) -> list[str]:
    """The test files of every rule that matches a module, in the order of the rules."""
    return list(dict.fromkeys(t for pattern, tests in rules.items() if fnmatch(path, pattern) for t in tests))


def outcome(mutant: Mutant | None, tests: list[str], seconds: float) -> str:
    """``killed``, ``survived`` or ``too long``: the tests in a fork, the mutant in the file's place."""
    child = multiprocessing.get_context("fork").Process(target=_test, args=(mutant, tests))
    child.start()
    child.join(seconds)
    if child.is_alive():
        child.kill()
        child.join()
        return "too long"
    return "survived" if child.exitcode == 0 else "killed"


def _test(mutant: Mutant | None, tests: list[str]) -> None:
    import pytest

    if mutant is not None:
        _stand_in(ROOT / mutant.path, mutant.source)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    quiet = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--assert=plain", "--hypothesis-seed=0"]
    os._exit(pytest.main([*quiet, *tests]))


def _stand_in(path: Path, source: str) -> None:
    """Have the import system read ``source`` in place of a file, by whatever symlink it comes."""
    plain = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        if Path(self.path).resolve() == path:
            return compile(source, self.path, "exec")
        return plain(self, fullname)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


@contextlib.contextmanager
def ready() -> Iterator[None]:
    """A process that has imported what every test needs, none of it ours."""
    for module in HEAVY:
        __import__(module)
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    loaded = [name for name in sys.modules if name.startswith("manifold_lora")]
    assert not loaded, f"imported before the mutants: {loaded}"
    yield


def main() -> int:
    """Run the mutants; print one line each and the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=int, default=100, help="drawn mutants")
    parser.add_argument("--minutes", type=float, default=60.0, help="after these, no mutant is begun")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="*", help="files, such as 'manifolds/sphere*'")
    asked = parser.parse_args()
    listed: dict[str, Any] = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    mutants = named([e for e in listed["named"] if fnmatch(e["file"], asked.only)])
    mutants += drawn(asked.budget, asked.seed, asked.only)
    start, sound, counts, new = time.monotonic(), dict[str, float](), Counter[str](), []
    with ready():
        for mutant in mutants:
            if time.monotonic() - start > 60 * asked.minutes:
                counts["not begun"] += 1
                continue
            tests = tests_of(mutant.path, listed["tests"])
            for file in tests:
                if file not in sound:
                    sound[file] = _sound(file)
            ends = outcome(mutant, tests, PATIENCE * sum(sound[file] for file in tests) + GRACE)
            if ends == "survived":
                known = listed["survivors"].get(mutant.key)
                ends, new = ("equivalent", new) if known else ("survived", [*new, mutant.key])
            counts[ends] += 1
            print(f"{ends:<10} {mutant.key}", flush=True)
    minutes = (time.monotonic() - start) / 60
    summary = ", ".join(f"{count} {ends}" for ends, count in sorted(counts.items()))
    print(f"{len(mutants)} mutants (seed {asked.seed}) in {minutes:.0f} min: {summary}")
    for key in new:
        print(f"survivor that {LIST.name} does not explain: {key}")
    return int(bool(new))


def _sound(file: str) -> float:
    """The seconds that a test file takes on the sound code, where it has to pass."""
    start = time.monotonic()
    if outcome(None, [file], 3600.0) != "survived":
        raise SystemExit(f"{file} fails without any mutant")
    return time.monotonic() - start


if __name__ == "__main__":
    sys.exit(main())
