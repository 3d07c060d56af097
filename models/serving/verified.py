"""Adapters that passed every check, kept as they were read, whatever happens to their folders later."""

import atexit
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.saved.manifest import CONFIG, MANIFEST, WEIGHTS
from manifold_lora.models.serving.adapter import ServedAdapter
from manifold_lora.models.serving.fit import LayerGains, check_served_base, layer_gains

# Per file: size and time of change.
Seen = tuple[tuple[int, int] | None, ...]


class Kept(NamedTuple):
    """A verified adapter: where it came from, the folder of its A and B, the gains of the model's layers."""

    source: Path
    seen: Seen
    plain: Path
    gains: LayerGains


class Verified:
    """The verified adapters of a worker by vLLM's id, on the disk until the worker ends.

    vLLM reads an adapter again after it was evicted, in the middle of a step, where an error would end the
    server. It then gets the copy. An adapter that is loaded in place is verified anew.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="manifold-lora-served-"))
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self._kept: dict[int, Kept] = {}
        self._count = 0

    def has(self, key: int, source: Path) -> bool:
        """Has the adapter of this id and folder been verified?"""
        return key in self._kept and self._kept[key].source == source

    def get(self, key: int, source: Path, manager: Any, anew: bool, in_step: bool) -> Kept:
        """The adapter of this id and folder, verified now where it has not been.

        Args:
            key: vLLM's id of the adapter.
            source: its folder.
            manager: vLLM's ``WorkerLoRAManager``.
            anew: was it asked for again, to replace what is served?
            in_step: are requests waiting? What has been verified is then served rather than refused.

        Raises ManifoldLoraError for an adapter that fails a check.
        """
        if self.has(key, source):
            kept = self._kept[key]
            if not anew or (in_step and kept.seen == _seen(source)):
                return kept
            if in_step:
                return self._try(key, source, manager, kept)
        return self._verify(key, source, manager)

    def _try(self, key: int, source: Path, manager: Any, kept: Kept) -> Kept:
        try:
            return self._verify(key, source, manager)
        except ManifoldLoraError as error:
            warnings.warn(f"{error}; what was loaded before is served on", stacklevel=2)
            self._kept[key] = kept._replace(seen=_seen(source))
            return self._kept[key]

    def _verify(self, key: int, source: Path, manager: Any) -> Kept:
        models, seen = manager._adapter_manager, _seen(source)
        adapter = ServedAdapter(source, manager.lora_config.lora_dtype)
        check_served_base(adapter.files, models.model.config)
        gains = layer_gains(adapter, models)
        self._count += 1
        plain = self._folder / str(self._count)
        adapter.write_plain(plain)
        self._kept[key] = Kept(source, seen, plain, gains)
        return self._kept[key]


def _seen(folder: Path) -> Seen:
    def one(path: Path) -> tuple[int, int] | None:
        try:
            stat = path.stat()
        except OSError:
            return None
        return stat.st_size, stat.st_mtime_ns

    return tuple(one(folder / name) for name in (CONFIG, WEIGHTS, MANIFEST))
