"""``manifold-lora geometry``: token frequency, norms and delta-hyperbolicity of a model."""

import json

from manifold_lora.experiments.commands.arguments import parse
from manifold_lora.experiments.settings.preflight import check_places
from manifold_lora.experiments.token_geometry.run import run_geometry
from manifold_lora.experiments.token_geometry.settings import GeometrySettings


def main(argv: list[str]) -> int:
    """The verb ``geometry [CONFIG.yaml] [--flags]``: run, and print one line for every set; exit 0."""
    settings = parse(GeometrySettings, argv, "geometry")
    check_places(output=settings.output, cache=settings.cache)
    path = run_geometry(settings)
    sets = json.loads(path.read_text(encoding="utf-8"))["delta"]["sets"]
    for name, one in sets.items():
        real, null = one["relative"], one["nulls"]["gaussian"]
        span = f"{real['mean']:.3f} [{real['low']:.3f}, {real['high']:.3f}]"
        print(f"{name}: relative delta {span}, Gaussian null {null['mean']:.3f}: {one['reading']}")
    print(path)
    return 0
