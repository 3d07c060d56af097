"""What a run tells while it trains: JSON lines, and transformers' reporters. Torch-free."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.results.atomic import errors_name_path

if TYPE_CHECKING:
    from transformers import TrainerCallback

# Longer than any line that is written.
_TAIL = 400


@dataclass(frozen=True)
class RunLogs:
    """The logs of one run: ``folder/<name>.jsonl`` of steps, ``folder/<name>.geometry.jsonl`` of kappa and s
    by layer where they are learned, and ``folder/tensorboard/<name>`` where it is asked for."""

    folder: Path
    name: str

    @property
    def steps(self) -> Path:
        """The file of a JSON line for every step."""
        return self.folder / f"{self.name}.jsonl"

    @property
    def geometry(self) -> Path:
        """The file of kappa, s and gate by layer, a line at the start, the end and a few times between."""
        return self.folder / f"{self.name}.geometry.jsonl"

    def begin(self, done: int) -> None:
        """Keep the lines of the steps that a resumed run goes on from; none for a new one."""
        for path in (self.steps, self.geometry):
            kept = [line for line in _lines(path) if done and json.loads(line)["step"] <= done]
            with errors_name_path(path):
                self.folder.mkdir(parents=True, exist_ok=True)
                if kept or path == self.steps:
                    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
                else:
                    path.unlink(missing_ok=True)

    def write(self, step: int, loss: float, learning_rate: float, seconds: float) -> None:
        """Append a step; raises StorageError where there is no room."""
        line = {
            "step": step,
            "loss": loss,
            "learning_rate": learning_rate,
            "seconds": round(seconds, 3),
        }
        _append(self.steps, line)

    def write_geometry(self, step: int, layers: Mapping[str, Mapping[str, float]]) -> None:
        """Append the geometry after a step, to six digits; raises StorageError where there is no room."""
        rounded = {
            what: {name: float(f"{value:.6g}") for name, value in values.items()}
            for what, values in layers.items()
        }
        _append(self.geometry, {"step": step, **rounded})

    def last(self) -> dict[str, Any] | None:
        """The newest whole line, or None."""
        try:
            with self.steps.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                lines = file.read().split(b"\n")
            newest: dict[str, Any] = json.loads(lines[-2])
        except (OSError, ValueError, IndexError):
            return None
        return newest

    def reporters(self, names: tuple[str, ...]) -> "list[TrainerCallback]":
        """The callbacks that write the geometry, and those of transformers that send figures on."""
        check_reporters(names)
        from manifold_lora.experiments.training.geometry_lines import GeometryLines
        from manifold_lora.models.geometry_log import GeometryLog

        # First: what comes after it sends its figures too.
        callbacks = [GeometryLines(self.write_geometry), GeometryLog(layers=False)]
        return [*callbacks, *(self._reporter(name) for name in names)]

    def _reporter(self, name: str) -> "TrainerCallback":
        from transformers.integrations.integration_utils import TensorBoardCallback, TrackioCallback

        if name == "trackio":
            return TrackioCallback()
        from torch.utils.tensorboard import SummaryWriter

        return TensorBoardCallback(SummaryWriter(str(self.folder / "tensorboard" / self.name)))


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.endswith("}")]


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with errors_name_path(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def check_reporters(names: tuple[str, ...]) -> None:
    """Raise ManifoldLoraError for a reporter that is not installed."""
    for name in names:
        if find_spec(name) is None:
            hint = f"pip install 'manifold-lora[{name}]'"
            raise ManifoldLoraError("train.report_to", name, "what is installed", hint)
