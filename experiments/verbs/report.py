"""manifold-lora report FOLDER"""

from pathlib import Path

from manifold_lora.experiments.report import write_report
from manifold_lora.experiments.verbs.console import wide_console
from manifold_lora.manifolds.errors import ManifoldLoraError


def main(argv: list[str]) -> int:
    """Print an ablation's tables from its result files and rewrite CSV, LaTeX, figures and report.html."""
    if len(argv) != 1 or argv[0].startswith("-"):
        raise ManifoldLoraError("arguments", " ".join(argv), "the output folder of an ablation")
    return write_report(Path(argv[0]), wide_console())
