"""What a run tells while it trains: a JSON line for every step, and transformers' reporters. Torch-free."""

import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifold_lora.experiments.atomic import told_with_path
from manifold_lora.manifolds.errors import ManifoldLoraError

if TYPE_CHECKING:
    from transformers import TrainerCallback

# Longer than any line that is written.
_TAIL = 400


@dataclass(frozen=True)
class RunLogs:
    """The logs of one run: ``folder/<name>.jsonl``; ``folder/tensorboard/<name>`` where it is asked for."""

    folder: Path
    name: str

    @property
    def steps(self) -> Path:
        """The file of a JSON line for every step."""
        return self.folder / f"{self.name}.jsonl"

    def begin(self, done: int) -> None:
        """Keep the lines of the steps that a resumed run goes on from; none for a new one."""
        kept = [line for line in self._lines() if json.loads(line)["step"] <= done]
        with told_with_path(self.steps):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.steps.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def _lines(self) -> list[str]:
        try:
            lines = self.steps.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        return [line for line in lines if line.endswith("}")]

    def write(self, step: int, loss: float, learning_rate: float, seconds: float) -> None:
        """Append a step; raises StorageError where there is no room."""
        line = {
            "step": step,
            "loss": loss,
            "learning_rate": learning_rate,
            "seconds": round(seconds, 3),
        }
        with told_with_path(self.steps), self.steps.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

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
        """The callbacks of transformers that send every step's figures on."""
        check_reporters(names)
        return [self._reporter(name) for name in names]

    def _reporter(self, name: str) -> "TrainerCallback":
        from transformers.integrations.integration_utils import TensorBoardCallback, TrackioCallback

        if name == "trackio":
            return TrackioCallback()
        from torch.utils.tensorboard import SummaryWriter

        return TensorBoardCallback(SummaryWriter(str(self.folder / "tensorboard" / self.name)))


def check_reporters(names: tuple[str, ...]) -> None:
    """Raise ManifoldLoraError for a reporter that is not installed."""
    for name in names:
        if find_spec(name) is None:
            hint = f"pip install 'manifold-lora[{name}]'"
            raise ManifoldLoraError("train.report_to", name, "what is installed", hint)
