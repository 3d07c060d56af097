"""Where a model's files are: in a folder or, by name, in the Hugging Face cache."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import SAFE_WEIGHTS_INDEX_NAME as INDEX
from transformers.utils import SAFE_WEIGHTS_NAME as SINGLE
from transformers.utils.hub import cached_file

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.gguf_file import base_folder
from manifold_lora.models.saved.folders import existing_folder, is_folder_name


@dataclass(frozen=True)
class CheckpointFiles:
    """A model by any name that ``load_base`` takes; files are fetched only when asked for.

    Raises UnknownNameError for a folder that does not exist.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name:
            raise ManifoldLoraError("model", self.name, "a folder or a Hugging Face name", "pass --model")
        object.__setattr__(self, "name", base_folder(self.name))
        if is_folder_name(self.name):
            object.__setattr__(self, "name", str(existing_folder("model folder", self.name)))

    def find(self, filename: str) -> Path | None:
        """The local path of a file, downloaded if need be; None where the model has no such file."""
        try:
            found = cached_file(self.name, filename, _raise_exceptions_for_missing_entries=False)
        except OSError as error:
            first = str(error).splitlines()[0]
            raise ManifoldLoraError("model", self.name, "a folder or a reachable name", first) from error
        return Path(found) if found else None

    def config(self) -> dict[str, Any]:
        """The model's config.json. Raises ManifoldLoraError where there is none."""
        path = self.find("config.json")
        if path is None:
            raise ManifoldLoraError("model", self.name, "a folder with config.json")
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return config

    def shard_of(self) -> dict[str, str]:
        """Tensor name -> file name, from the index of a sharded checkpoint or the header of a single file.

        Raises ManifoldLoraError for a checkpoint without safetensors.
        """
        from safetensors import safe_open

        if not Path(self.name).is_dir() and self.find("config.json") is None:
            hint = "no such model, or the hub cannot be reached and its cache has no copy"
            raise ManifoldLoraError("model", self.name, "a folder or a Hugging Face name", hint)
        index = self.find(INDEX)
        if index is not None:
            table: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return table
        single = self.find(SINGLE)
        if single is None:
            hint = "pickled weights are not read; save the model again as safetensors"
            raise ManifoldLoraError("weights of model", self.name, f"{SINGLE} or {INDEX}", hint)
        with safe_open(single, "pt") as file:
            return dict.fromkeys(file.keys(), SINGLE)
