"""The folder of one run: whose it is, how far it came, and that it never holds two."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.results.atomic import write_text
from manifold_lora.experiments.settings.cell_id import cell_id
from manifold_lora.experiments.settings.parse import dump_yaml, load_settings
from manifold_lora.experiments.settings.run import RunSettings

SETTINGS, ADAPTER, BASE, LOGS = "run.yaml", "adapter", "base.json", "logs"
RESULT, EVALUATION = "result.json", "evaluation.json"


@dataclass(frozen=True)
class RunFolder:
    """What ``manifold-lora train`` writes: settings, base, result and adapter of one run.

    The result's status is ``unfinished`` from before anything else is written or removed until all of the
    rest is there, so that no adapter is taken for that of another run.
    """

    path: Path

    def result(self) -> dict[str, Any]:
        """The result as it stands; ``{}`` where there is none that can be read."""
        try:
            found = json.loads((self.path / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def finished(self, run: RunSettings, inputs: dict[str, str]) -> bool:
        """Whether this run has ended well here; raises ManifoldLoraError where another one has."""
        if self.result().get("status") != "ok" or not (self.path / ADAPTER).is_dir():
            return False
        if not self._is_of(run, inputs):
            hint = "give another --output, or remove the folder"
            allowed = "a new folder, or one of the same settings, data and base"
            raise ManifoldLoraError("output", f"{self.path}, which holds a finished run", allowed, hint)
        return True

    def _is_of(self, run: RunSettings, inputs: dict[str, str]) -> bool:
        try:
            saved, known = load_settings(RunSettings, self.path / SETTINGS), self.result()["meta"]["inputs"]
        except (ManifoldLoraError, KeyError, TypeError):
            return False
        return cell_id(saved, known) == cell_id(run, inputs)

    def begin(self, run: RunSettings, ready: dict[str, str], meta: dict[str, Any]) -> None:
        """Make the folder that of a run which starts, or goes on; what another one left is removed."""
        stale = [ADAPTER] if self._is_of(run, meta["inputs"]) else [ADAPTER, LOGS]
        self.write(RESULT, {"status": "unfinished", "run": run.model_dump(mode="json"), "meta": meta})
        for name in stale:
            shutil.rmtree(self.path / name, ignore_errors=True)
        (self.path / EVALUATION).unlink(missing_ok=True)
        write_text(self.path / SETTINGS, dump_yaml(run))
        self.write_base(ready)

    def write_base(self, ready: dict[str, str]) -> None:
        """Write where the base is, and its fingerprint."""
        write_text(self.path / BASE, json.dumps(ready) + "\n")

    def end(self, record: dict[str, Any], items: list[dict[str, Any]]) -> None:
        """Write how the run that began here has ended."""
        begun = self.result()
        self.write(
            RESULT, {"status": "", "run": begun["run"], **record, "meta": begun["meta"], "items": items}
        )

    def write(self, name: str, record: dict[str, Any]) -> None:
        """Write a JSON file of the folder in one step."""
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
        write_text(self.path / name, text + "\n")

    def check_finished(self) -> None:
        """Raise ManifoldLoraError unless the folder holds a run that ended well."""
        result = self.result()
        status = result.get("status", "no result")
        if status != "ok":
            hint = str(result.get("reason") or "the train command that began it finishes it")
            asked = f"run in {self.path}"
            raise ManifoldLoraError(asked, status, "one that manifold-lora train has finished", hint)

    def base(self) -> dict[str, str]:
        """Where the base is, and the fingerprint of its content."""
        path = self.path / BASE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return {"base": str(data["base"]), "fingerprint": str(data["fingerprint"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = f"{type(error).__name__}: {error}"
            allowed = "what manifold-lora train wrote"
            raise ManifoldLoraError("base of adapter", str(path), allowed, hint) from error
