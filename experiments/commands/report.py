"""manifold-lora report FOLDER"""

from pathlib import Path

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.commands.console import wide_console
from manifold_lora.experiments.reports.peft_table import FOLDER, write_peft_table
from manifold_lora.experiments.reports.report import write_report

USAGE = """usage: manifold-lora report FOLDER [--format peft] [--plugin MODULE]

Print the tables of the ablation in FOLDER from its result files and write beside them report.html, table.csv,
comparisons.csv, table.tex, table.png and figures/*.svg. Exit 1 if a cell has no result, 2 for another folder.

  FOLDER           --output of manifold-lora ablate
  --format peft    write peft/TEST SET/*.json in the format of PEFT's method_comparison instead
  --plugin MODULE  load a module that declares parts or tasks first
  -h, --help       this text"""


def main(argv: list[str]) -> int:
    """Print an ablation's tables from its result files and rewrite CSV, LaTeX, figures and report.html."""
    if not argv or {"-h", "--help"} & set(argv):
        print(USAGE)
        return 0 if argv else 2
    as_peft = "--format" in argv
    if as_peft:
        at = argv.index("--format")
        if argv[at + 1 : at + 2] != ["peft"]:
            raise ManifoldLoraError("--format", " ".join(argv[at + 1 : at + 2]), "peft")
        argv = [*argv[:at], *argv[at + 2 :]]
    if len(argv) != 1 or argv[0].startswith("-"):
        raise ManifoldLoraError("arguments", " ".join(argv), "the output folder of an ablation")
    if as_peft:
        written = write_peft_table(Path(argv[0]))
        print(f"{Path(argv[0]) / FOLDER}: {len(written)} results of PEFT's method_comparison")
        return 0
    return write_report(Path(argv[0]), wide_console())
