"""manifold-lora data math10k | leaks [--flags]"""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from manifold_lora.errors import UnknownNameError
from manifold_lora.experiments.data.files import read_rows
from manifold_lora.experiments.data.leaks import find_leaks
from manifold_lora.experiments.data.math10k import ROWS_OF_AQUA, rebuild
from manifold_lora.experiments.data.rows import AnyQuestion
from manifold_lora.experiments.settings.parse import parse_flags
from manifold_lora.experiments.settings.preflight import check_places
from manifold_lora.experiments.settings.run import CountOrNone, Seed, Strict


class Math10k(Strict):
    """Rebuild the Math-10K training set: GSM8K train, MAWPS, MAWPS-single and 1000 rows of AQuA."""

    data: Path
    """Folder of the sources (train/) and of the test sets that no row may repeat (tests/)."""
    output: Path
    """File to write, one row a line."""
    aqua_rows: CountOrNone = ROWS_OF_AQUA
    """Rows drawn from AQuA."""
    seed: Seed = 0
    """Seed of that draw."""
    max_bad_records: CountOrNone = 0
    """Malformed rows to leave out and count before a file is refused."""


class LeakCheck(Strict):
    """Find questions of test files in training files: letters and digits are compared, choices are not."""

    train: tuple[Path, ...]
    """Training files (.json or .jsonl), each row with an instruction or a question."""
    tests: tuple[Path, ...]
    """Test files."""
    max_bad_records: CountOrNone = 0
    """Malformed rows to leave out and count before a file is refused."""


def main(argv: list[str]) -> int:
    """Rebuild a training set, or look for leaks: exit 1 if there is one, 2 for bad input."""
    verbs = {"math10k": _math10k, "leaks": _leaks}
    name = argv[0] if argv else ""
    if name in ("-h", "--help"):
        print("usage: manifold-lora data math10k | leaks [--flags]; --help behind either lists its flags")
        return 0
    if name not in verbs:
        raise UnknownNameError("data set", name, tuple(verbs))
    return verbs[name](argv[1:])


def _math10k(argv: list[str]) -> int:
    asked = parse_flags(Math10k, None, argv, "manifold-lora data math10k")
    check_places(output=asked.output.parent)
    built = rebuild(asked.data, asked.aqua_rows, asked.seed, asked.max_bad_records)
    built.write(asked.output)
    table = Table(title=f"{len(built.rows)} rows in {asked.output}", title_justify="left")
    table.add_column("source")
    for name in ("read", "repeated", "in a test", "not drawn", "kept"):
        table.add_column(name, justify="right")
    for source, counts in built.counts.items():
        table.add_row(source, *map(str, vars(counts).values()))
    console = Console()
    console.print(table)
    for test, count in built.also_in.items():
        console.print(f"{count} rows hold questions of {test}: drop them before {test} is reported")
    console.print(f"sha256 {built.sha256}")
    return 0


def _leaks(argv: list[str]) -> int:
    asked = parse_flags(LeakCheck, None, argv, "manifold-lora data leaks")
    tests = {str(path): _questions(path, asked.max_bad_records) for path in asked.tests}
    train = {str(path): _questions(path, asked.max_bad_records) for path in asked.train}
    every = find_leaks([question for questions in train.values() for question in questions], tests)
    by_file = {name: find_leaks(questions, tests) for name, questions in train.items()}
    for test, places in every.tested.items():
        print(f"{test}: {len(places)} of {len(tests[test])} rows are trained on")
        for name, leaks in by_file.items():
            if leaks.tested[test]:
                print(f"  {len(leaks.tested[test])} of them in {len(leaks.trained[test])} rows of {name}")
    return int(every.found)


def _questions(path: Path, max_bad_records: int) -> list[str]:
    return [row.instruction for row in read_rows(path, AnyQuestion, max_bad_records).rows]
