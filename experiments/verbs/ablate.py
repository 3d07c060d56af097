"""manifold-lora ablate [CONFIG.yaml] [--flags]"""

from manifold_lora.experiments.cells import expand
from manifold_lora.experiments.config import AblationSettings
from manifold_lora.experiments.interrupt import ended_as_by_ctrl_c, told_when_interrupted
from manifold_lora.experiments.verbs.arguments import parse

_KEPT = "finished cells are kept, and the same command goes on with the others"


def main(argv: list[str]) -> int:
    """Run an ablation; exit 0, 1 if a cell has no result, 2 for bad input, 130 after Ctrl-C or SIGTERM."""
    settings = parse(AblationSettings, argv, "ablate")
    expand(settings, {})
    with ended_as_by_ctrl_c(), told_when_interrupted(lambda: _KEPT):
        # Imported late: a typo is told before rich, numpy, scipy and torch are loaded.
        from manifold_lora.experiments.ablation import ablate
        from manifold_lora.experiments.verbs.console import wide_console

        return ablate(settings, wide_console())
