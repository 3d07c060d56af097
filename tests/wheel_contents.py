"""Fail unless a wheel holds nothing but manifold_lora/ and its metadata, with every floor in it."""

import sys
import zipfile


def main(path: str) -> int:
    """Print what is wrong with the wheel at ``path``; 0 if nothing is."""
    names = zipfile.ZipFile(path).namelist()
    tops = {name.split("/")[0] for name in names}
    foreign = {top for top in tops if top != "manifold_lora" and not top.endswith(".dist-info")}
    floors = ("manifolds/base.py", "adapters/layer.py", "models/tuner/config.py", "experiments/cli.py")
    data = (
        "configs/taxonomy.yaml",
        "configs/paper/llama_7b.yaml",
        "examples/geometry.txt",
        "examples/task.txt",
        "examples/plain.txt",
        "reports/page/report.html.j2",
        "reports/page/style.css",
        "token_geometry/section.html.j2",
    )
    needed = ("py.typed", *floors, *(f"experiments/{name}" for name in data))
    missing = [name for name in needed if f"manifold_lora/{name}" not in names]
    if foreign or missing:
        print(f"{path}: foreign top-level names {sorted(foreign)}, missing {missing}")
        return 1
    print(f"{path}: {len(names)} files, all under manifold_lora/")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
