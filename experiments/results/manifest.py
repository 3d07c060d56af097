"""Which cells make up the ablation of a folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.results.atomic import write_text


@dataclass(frozen=True)
class Manifest:
    """The cells of the ablation in a folder, in order; other results lying there are not mixed in."""

    task: str
    baseline: str
    cells: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Write ``folder/manifest.json``."""
        write_text(folder / "manifest.json", json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of an ablation; raises ManifoldLoraError if the folder holds none."""
        try:
            data = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            return cls(data["task"], data["baseline"], tuple(data["cells"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = f"manifold-lora ablate --output {folder} writes one"
            raise ManifoldLoraError(
                "report folder", str(folder), "an ablation's output folder", hint
            ) from error
