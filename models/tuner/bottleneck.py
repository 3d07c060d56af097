"""Series and parallel bottleneck adapters as a PEFT method: config and tuner."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.models.notice import write_notice
from manifold_lora.models.tuner.bottleneck_layer import (
    NON_LINEARITIES,
    PLACEMENTS,
    BottleneckLayer,
    refuse_merge,
)
from manifold_lora.models.tuner.names import check_name
from manifold_lora.models.tuner.patterns import in_order
from manifold_lora.models.tuner.registration import declare_peft_type, register_method
from manifold_lora.models.tuner.targets import check_default_targets, check_free, check_targets
from manifold_lora.numbers import is_number, is_whole

BOTTLENECK = declare_peft_type("BOTTLENECK")

# The last linear layer of each feed-forward block, where Houlsby et al. put theirs.
_DEFAULT_TARGETS = {
    "llama": ["down_proj"],
    "mistral": ["down_proj"],
    "qwen2": ["down_proj"],
    "qwen3": ["down_proj"],
    "gemma": ["down_proj"],
    "gemma2": ["down_proj"],
    "gemma3_text": ["down_proj"],
    "gpt2": ["mlp.c_proj"],
}


@dataclass
class BottleneckConfig(PeftConfig):
    """y = W x + scaling U f(D z) with z = W x (``placement="series"``) or z = x (``placement="parallel"``).

    Importing this module registers the method with peft, so that ``PeftModel.from_pretrained`` and
    ``AutoPeftModel`` read its checkpoints. Defaults are those of LLM-Adapters (arXiv 2304.01933).

    Args:
        placement: ``"series"`` (arXiv 1902.00751) or ``"parallel"`` (arXiv 2110.04366).
        bottleneck_size: rows of D.
        non_linearity: f: ``"tanh"``, ``"relu"``, ``"gelu"`` or ``"silu"``.
        scaling: the factor of the update.
        dropout: on the hidden units.
        target_modules, exclude_modules, layers_to_transform, layers_pattern, modules_to_save: as in
            LoraConfig; by default the last linear layer of each feed-forward block.
        init_weights: whether U starts at zero, so that the adapted model is the base.

    Raises ManifoldLoraError (asked, got, allowed) for a bad value.
    """

    placement: str = field(default="parallel", metadata={"help": "series or parallel."})
    bottleneck_size: int = field(default=256, metadata={"help": "Rows of D."})
    non_linearity: str = field(default="tanh", metadata={"help": "The function between D and U."})
    scaling: float = field(default=1.0, metadata={"help": "The factor of the update."})
    dropout: float = field(default=0.0, metadata={"help": "Dropout on the hidden units."})
    target_modules: Any = field(default=None, metadata={"help": "Modules to adapt, as in LoraConfig."})
    exclude_modules: Any = field(default=None, metadata={"help": "Modules to leave out."})
    layers_to_transform: Any = field(default=None, metadata={"help": "Indices of the layers to adapt."})
    layers_pattern: Any = field(default=None, metadata={"help": "Where the layer index stands in a name."})
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "Modules trained whole."})
    init_weights: bool = field(default=True, metadata={"help": "Whether U starts at zero."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = BOTTLENECK
        for name in ("target_modules", "exclude_modules"):
            value = getattr(self, name)
            setattr(self, name, set(value) if isinstance(value, list | tuple) else value)
        for what, got, allowed in (
            ("placement", self.placement, PLACEMENTS),
            ("non_linearity", self.non_linearity, tuple(NON_LINEARITIES)),
        ):
            if got not in allowed:
                raise UnknownNameError(what, got, allowed)
        size = self.bottleneck_size
        if not is_whole(size):
            raise ManifoldLoraError("bottleneck_size", size, "an integer of at least 1")
        if not is_number(self.scaling) or self.scaling == 0:
            raise ManifoldLoraError("scaling", self.scaling, "a finite number other than 0")
        if not is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise ManifoldLoraError("dropout", self.dropout, "a number in [0, 1)")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON data, sets in order."""
        return in_order(super().to_dict())

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """peft's, and a README.md that says how to load the adapter."""
        super().save_pretrained(save_directory, **kwargs)
        write_notice(save_directory)


class BottleneckModel(BaseTuner):
    """The tuner behind ``get_peft_model(model, BottleneckConfig(...))``.

    Raises UnknownNameError or ManifoldLoraError, the model untouched, for targets that are not there, and
    LinearOnlyError where it would be merged.
    """

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping = _DEFAULT_TARGETS

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """peft's injection, after checking that every target exists and is a linear layer."""
        config: Any = self.peft_config[adapter_name]
        check_free(model, adapter_name)
        model_config = self.get_model_config(model)
        check_default_targets(model, config, self.target_module_mapping, model_config.get("model_type"))
        check_name(model, adapter_name, BottleneckLayer.adapter_layer_names)
        check_targets(model, self._prepare_adapter_config(config, model_config), own=BottleneckLayer)
        super().inject_adapter(model, adapter_name, *args, **kwargs)

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, peft_config)
            return
        layer = BottleneckLayer(target)
        layer._active_adapter = adapter_name
        layer.update_layer(adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """What peft asks for before a call: ``adapter_names`` among its arguments reach every layer."""
        rows = kwargs.get("adapter_names")
        if rows is None:
            yield
            return
        self._check_rows(rows)
        with ExitStack() as hooks:
            tell = partial(_tell_rows, [name for name in rows for _ in range(kwargs.get("num_beams") or 1)])
            for module in self.modules():
                if isinstance(module, BottleneckLayer | AuxiliaryTrainingWrapper):
                    hooks.callback(module.register_forward_pre_hook(tell, with_kwargs=True).remove)
            yield

    def _check_rows(self, rows: list[str]) -> None:
        known = (*self.peft_config, "__base__")
        for name in rows:
            if name not in known:
                raise UnknownNameError("adapter_names", name, known)
        if self.training:
            raise ManifoldLoraError(
                "adapter_names", rows, "", "a mixed batch is for evaluation; model.eval()"
            )

    def merge_adapter(self, adapter_names: list[str] | None = None, safe_merge: bool = False) -> None:
        """Raises LinearOnlyError."""
        refuse_merge("merge_adapter", adapter_names or self.active_adapters)

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **kwargs: Any) -> Any:
        if merge:
            refuse_merge("merge_and_unload", self.active_adapters)
        return super()._unload_and_optionally_merge(merge, *args, **kwargs)


def _tell_rows(
    rows: list[str], _: nn.Module, args: Any, kwargs: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    return args, {**kwargs, "adapter_names": rows}


register_method(BOTTLENECK, BottleneckConfig, BottleneckModel)
