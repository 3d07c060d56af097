"""manifold-lora bench numerics | adapters | gpu [--flags]"""

from importlib import import_module

from manifold_lora.manifolds.errors import UnknownNameError

BENCHES = {
    "adapters": "manifold_lora.experiments.bench.adapters",
    "gpu": "manifold_lora.experiments.bench.gpu",
    "numerics": "manifold_lora.experiments.bench.numerics",
}


def main(argv: list[str]) -> int:
    """Run a benchmark: cost ratios of the layer, or accuracy of the geometry; ``--help`` lists flags."""
    name = argv[0] if argv else ""
    if name not in BENCHES:
        raise UnknownNameError("benchmark", name, tuple(BENCHES))
    code: int = import_module(BENCHES[name]).main(argv[1:])
    return code
