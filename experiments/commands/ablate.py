"""manifold-lora ablate [CONFIG.yaml] [--flags]"""

from manifold_lora.experiments.commands.arguments import parse
from manifold_lora.experiments.executors.fork_server import PRELOAD, fork_server
from manifold_lora.experiments.executors.interrupt import ended_as_by_ctrl_c, print_when_interrupted
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.preflight import preflight
from manifold_lora.experiments.sweeps.cells import cells_of
from manifold_lora.experiments.sweeps.grid import Grid
from manifold_lora.experiments.tasks.registry import check_inputs

_KEPT = "finished cells are kept, and the same command goes on with the others"


def main(argv: list[str]) -> int:
    """Run an ablation; exit 0, 1 if a cell has no result, 2 for bad input, 130 after Ctrl-C or SIGTERM."""
    settings = parse(AblationSettings, argv, "ablate")
    grid = Grid(settings)
    cells_of(grid, {})
    check_inputs(settings.task, settings.model.name)
    preflight(settings, settings.output, settings.cache)
    with ended_as_by_ctrl_c(), print_when_interrupted(lambda: _KEPT):
        # It imports for seconds, and so does this process.
        fork_server(PRELOAD)
        # Imported late: a typo is reported before rich, numpy, scipy and torch are loaded.
        from manifold_lora.experiments.commands.console import wide_console
        from manifold_lora.experiments.sweeps.ablation import ablate

        return ablate(grid, wide_console())
