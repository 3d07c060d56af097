"""peft's LoRA tuner with a manifold in every adapted layer."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from peft import LoraModel
from peft.tuners.lora.layer import LoraLayer
from torch import nn

from manifold_lora.adapters.fast.readers import forget
from manifold_lora.adapters.framed import FramedWeights
from manifold_lora.adapters.norm_scaling import NormScaling
from manifold_lora.adapters.parameters import geometry_parameters
from manifold_lora.adapters.spec import AdapterSpec
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.errors import LinearOnlyError, ManifoldLoraError
from manifold_lora.manifolds.base import Manifold
from manifold_lora.manifolds.build import build_manifold
from manifold_lora.manifolds.spec import ManifoldSpec
from manifold_lora.models.tuner.frames import DriftWatch
from manifold_lora.models.tuner.incoming import check_incoming
from manifold_lora.models.tuner.layer_support import check_layer, is_transposed, sizes_of
from manifold_lora.models.tuner.names import check_name
from manifold_lora.models.tuner.targets import check_default_targets, check_free, check_targets
from manifold_lora.models.tuner.uncalibrated import FirstLook
from manifold_lora.models.tuner.variant import CONTAINER, CORE, WHY_NOT_LINEAR, attach, decoding, is_plain


class ManifoldLoraModel(LoraModel):
    """The tuner behind ``get_peft_model(model, ManifoldLoraConfig(...))``.

    lora_A (r, n) and lora_B (m, r) keep their standard names and shapes; the geometry of each adapter lives
    beside them in ``layer.lora_manifold[adapter_name]``. Raises ManifoldLoraError before a weight is touched
    where a layer cannot carry the adapter, and LinearOnlyError where a non-linear adapter would be merged.
    """

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """peft's injection, after checking that every target exists and can carry the adapter."""
        config: Any = self.peft_config[adapter_name]
        check_free(model, adapter_name)
        # Looked at once, when training begins.
        self._waits = not config.inference_mode
        model_config = self.get_model_config(model)
        check_default_targets(model, config, self.target_module_mapping, model_config.get("model_type"))
        targets = check_targets(model, self._prepare_adapter_config(config, model_config))
        config.check_frames({name: sizes_of(model.get_submodule(name)) for name in targets})
        check_name(model, adapter_name, _parts(config, targets))
        # The geometries that layers have in common, each module once: peft saves it with every layer.
        self._shared: dict[ManifoldSpec, Manifold] = {}
        # In a list, which does not make it a module of the model.
        self._scaled: list[NormScaling] = []
        # What peft would do layer by layer, with a warning each time.
        config.fan_in_fan_out = all(is_transposed(model.get_submodule(name)) for name in targets)
        super().inject_adapter(model, adapter_name, *args, **kwargs)

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        super()._create_and_replace(
            peft_config, adapter_name, target, target_name, parent, current_key, parameter_name=parameter_name
        )
        layer = getattr(parent, target_name)
        sizes = layer.in_features, layer.out_features, layer.r[adapter_name]
        spec = peft_config.layer_spec(current_key)
        scaled_as = self._scaled[0] if self._scaled else None
        update = ManifoldUpdate.from_spec(spec, *sizes, manifold=self._common(spec), scaled_as=scaled_as)
        if spec.norm_scope == "model":
            self._scaled = [update.norm_scaling]
        weights = peft_config.weights()
        framed = None if weights is None else FramedWeights(weights, layer.r[adapter_name])
        attach(layer, adapter_name, update, framed)
        decoding(layer)

    def _common(self, spec: AdapterSpec) -> Manifold | None:
        """The geometry whose curvature all layers share; None where each has its own."""
        if spec.manifold.curvature.scope != "model":
            return None
        if spec.manifold not in self._shared:
            self._shared[spec.manifold] = build_manifold(spec.manifold)
        return self._shared[spec.manifold]

    @staticmethod
    def _create_new_module(
        lora_config: Any, adapter_name: str, target: nn.Module, **kwargs: Any
    ) -> nn.Module:
        module = LoraModel._create_new_module(lora_config, adapter_name, target, **kwargs)
        return check_layer(module, kwargs.get("target_name", type(target).__name__))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The base model's; layers that read one x know each other no longer than it takes."""
        try:
            return super().forward(*args, **kwargs)
        finally:
            forget()

    def train(self, mode: bool = True) -> "ManifoldLoraModel":
        """``nn.Module.train``, with geometry that was rounded behind its back made float32 again.

        TRL assigns ``parameter.data`` in bfloat16 on quantised bases, which no module can refuse; a trainer
        calls ``train()`` before each step.
        """
        for parameter in geometry_parameters(self):
            if parameter.dtype in (torch.bfloat16, torch.float16):
                parameter.data = parameter.data.float()
        if mode and self._waits:
            self._waits = False
            FirstLook.at(self.model)
            DriftWatch.at(self.model)
        return super().train(mode)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """Whether ``peft.convert_to_lora`` finds a LoRA equal to the adapter: for the linear ones."""
        layers = [layer for layer in self._manifold_layers() if adapter_name in getattr(layer, CONTAINER)]
        return bool(layers) and all(getattr(layer, CONTAINER)[adapter_name].is_linear for layer in layers)

    def merge_adapter(self, adapter_names: list[str] | None = None, safe_merge: bool = False) -> None:
        """Merge linear adapters into the base weights. Raises LinearOnlyError, weights untouched."""
        self._refuse_non_linear("merge_adapter", adapter_names)
        self._refuse_tied("merge_adapter", adapter_names)
        super().merge_adapter(adapter_names=adapter_names, safe_merge=safe_merge)

    def add_weighted_adapter(self, adapters: list[str], *args: Any, **kwargs: Any) -> None:
        """Combine adapters whose update is B A x into a new one. Raises LinearOnlyError, nothing added."""
        self._refuse_non_linear("add_weighted_adapter", adapters)
        for layer in self._manifold_layers():
            for name in set(adapters) & set(getattr(layer, CONTAINER)):
                if not is_plain(layer, name):
                    hint = "its norm scaling or core multiplies B A by what the combined adapter would lose"
                    raise LinearOnlyError(
                        "add_weighted_adapter", name, "adapters whose update is B A x", hint
                    )
        super().add_weighted_adapter(adapters, *args, **kwargs)

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
    ) -> Any:
        if merge:
            self._refuse_non_linear("merge_and_unload", adapter_names)
            self._refuse_tied("merge_and_unload", adapter_names)
        return super()._unload_and_optionally_merge(merge, progressbar, safe_merge, adapter_names)

    def _refuse_non_linear(self, action: str, adapter_names: Iterable[str] | None) -> None:
        names = set(self.active_adapters if adapter_names is None else adapter_names)
        for layer in self._manifold_layers():
            for name in names & set(getattr(layer, CONTAINER)):
                if not getattr(layer, CONTAINER)[name].is_linear:
                    hint = f"{WHY_NOT_LINEAR}; serve the adapter unmerged"
                    raise LinearOnlyError(
                        action, name, "adapters with a linear update (euclidean, tangent)", hint
                    )

    def _refuse_tied(self, action: str, adapter_names: Iterable[str] | None) -> None:
        """Refuse to merge into a weight that another module uses too, as a tied head's embedding."""
        names = set(self.active_adapters if adapter_names is None else adapter_names)
        users = Counter(id(p) for module in self.modules() for p in module._parameters.values())
        for path, layer in self.model.named_modules():
            if isinstance(layer, LoraLayer) and names & set(layer.lora_A):
                weight = getattr(layer.get_base_layer(), "weight", None)
                if weight is not None and users[id(weight)] > 1:
                    hint = "its weight is tied: merging would change the embedding too; serve it unmerged"
                    raise ManifoldLoraError(action, path, "layers with a weight of their own", hint)

    def _manifold_layers(self) -> list[LoraLayer]:
        return [
            module
            for module in self.modules()
            if isinstance(module, LoraLayer) and hasattr(module, CONTAINER)
        ]

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: Any,
        adapter_name: str,
        state_dict: dict[str, torch.Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = super()._get_adapter_state_dict(
            model, config, adapter_name, state_dict, unwanted_adapter_names
        )
        # A shared curvature or scale is saved with every layer; safetensors refuses one tensor twice.
        return {key: value.clone() if f".{CONTAINER}." in key else value for key, value in tensors.items()}

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = super()._remap_adapter_state_dict_for_load(
            model=model, config=config, adapter_name=adapter_name, state_dict=state_dict
        )
        check_incoming(model, adapter_name, tensors)
        return tensors

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # peft looks for the adapter's name in the last two places of a key; ours can lie deeper.
        inside = f".{CONTAINER}.{adapter_name}."
        if inside in key:
            return key.replace(inside, f".{CONTAINER}.")
        return super()._remove_adapter_name_from_key(key, adapter_name)


def _parts(config: Any, targets: Iterable[str]) -> set[str]:
    """What stands between the dots of the names of the tensors that an adapter brings."""
    specs = {config.layer_spec(name) for name in targets}
    keys = (key for spec in specs for key in ManifoldUpdate.from_spec(spec, 2, 2, 1).state_dict())
    return {"lora_A", "lora_B", CONTAINER, CORE}.union(*(key.split(".") for key in keys))
