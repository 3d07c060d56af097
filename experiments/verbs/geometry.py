"""manifold-lora geometry [CONFIG.yaml] --model M --data FILES|TASKS"""

from manifold_lora.experiments.geometry.cli import run_geometry
from manifold_lora.experiments.geometry.settings import GeometrySettings
from manifold_lora.experiments.verbs.arguments import parse


def main(argv: list[str]) -> int:
    """Measure frequency, norms and delta-hyperbolicity of a model's tokens; exit 0, or 2 for bad input."""
    path = run_geometry(parse(GeometrySettings, argv, "geometry"))
    print(f"{path}, with figures, CSV and section.html beside it")
    return 0
