"""manifold-lora bench adapters | frames | geometry | gpu | numerics [--flags]"""

from importlib import import_module

from manifold_lora.errors import UnknownNameError

# name -> module with a main(argv) -> exit code, and its line in --help.
BENCHES = {
    "adapters": (
        "manifold_lora.experiments.bench.adapters",
        "what an adapter costs beside peft's LoRA: time and memory on the processor",
    ),
    "frames": (
        "manifold_lora.experiments.bench.frames",
        "what weights on frames cost a whole model beside LoRA, and what they keep",
    ),
    "geometry": (
        "manifold_lora.experiments.bench.geometry",
        "what the geometry's operations cost beside geoopt's: time and memory on the processor",
    ),
    "gpu": ("manifold_lora.experiments.bench.gpu", "the same on a CUDA device, with the fused kernels"),
    "numerics": (
        "manifold_lora.experiments.bench.numerics.grid",
        "accuracy of the geometry against exact arithmetic, by curvature and dtype",
    ),
}


def usage() -> str:
    """The text of ``manifold-lora bench --help``."""
    lines = [f"  {name:<9} {text}" for name, (_, text) in BENCHES.items()]
    head = f"usage: manifold-lora bench {' | '.join(BENCHES)} [--flags]"
    return "\n".join([head, "", *lines, "", "manifold-lora bench NAME --help lists every switch"])


def main(argv: list[str]) -> int:
    """Run a benchmark: cost ratios of the layer, or accuracy of the geometry; ``--help`` lists them."""
    name = argv[0] if argv else ""
    if name in ("", "-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if name not in BENCHES:
        raise UnknownNameError("benchmark", name, tuple(BENCHES))
    code: int = import_module(BENCHES[name][0]).main(argv[1:])
    return code
