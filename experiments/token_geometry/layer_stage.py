"""Delta by layer, before and after adaptation, and the curvature each adapted layer's input speaks for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModel

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.token_geometry.activations import (
    Clouds,
    adapted_modules,
    hidden_states,
    module_inputs,
)
from manifold_lora.experiments.token_geometry.checkpoint_files import CheckpointFiles
from manifold_lora.experiments.token_geometry.corpus_context import Corpus
from manifold_lora.experiments.token_geometry.layer_curvature import delta_by_name, input_scale
from manifold_lora.experiments.token_geometry.stage_cache import plain
from manifold_lora.experiments.token_geometry.suggestion import suggest_kappa
from manifold_lora.models.content import content_sha256
from manifold_lora.models.shipped import file_sha256

Record = dict[str, Any]
Tick = Callable[[], None]


def wants_layers(corpus: Corpus) -> bool:
    """Whether the settings ask for hidden states or adapters."""
    return corpus.settings.layers != "none" or bool(corpus.settings.adapters)


def layer_inputs(corpus: Corpus) -> Record:
    """What the layer stage depends on beside the corpus: weights and configs, base and adapters, by hash."""
    files = CheckpointFiles(corpus.settings.model)
    base = [files.find(name) for name in ("config.json", *sorted(set(files.shard_of().values())))]
    adapters = {arm: content_sha256(Path(folder)) for arm, folder in corpus.settings.adapters.items()}
    return {"base": [file_sha256(path) for path in base if path], "adapters": adapters}


def layers(corpus: Corpus, tick: Tick) -> Record:
    """Hidden states of the base and of every arm by layer; adapter inputs of every arm by module."""
    texts = [text for some in corpus.measured_texts(corpus.settings.layer_prompts).values() for text in some]
    wanted = corpus.settings.layers
    numbers = wanted if isinstance(wanted, list) else None
    hidden: Record = {}
    inputs: Record = {}
    for arm, folder in {"base": None, **corpus.settings.adapters}.items():
        model = _load(corpus.settings.model, folder, bool(corpus.settings.adapters))
        states = hidden_states(model, corpus.tokenizer, texts, numbers)
        hidden[arm] = plain(delta_by_name(_ticking(states, tick), corpus.delta_options))
        if folder is not None:
            inputs[arm] = _adapter_inputs(corpus, model, texts, tick)
    return {"hidden": hidden, "inputs": inputs, "prompts": len(texts)}


def _adapter_inputs(corpus: Corpus, model: nn.Module, texts: list[str], tick: Tick) -> Record:
    clouds = module_inputs(model, corpus.tokenizer, texts, adapted_modules(model))
    summaries = delta_by_name(_ticking(clouds, tick), corpus.delta_options)
    scales = {name: input_scale(model.get_submodule(name)) for name in summaries}
    rule = corpus.settings.rule
    return {
        name: plain(one)
        | {"kappa": suggest_kappa(one.typical, rule, scales[name]) if one.delta > 0 else None}
        for name, one in summaries.items()
    }


def _load(name: str, adapter: str | None, causal: bool) -> nn.Module:
    """The model with one adapter or none; a bare backbone serves where no adapter is asked for."""
    if not causal:
        try:
            backbone: nn.Module = AutoModel.from_pretrained(CheckpointFiles(name).name, use_safetensors=True)
        except (OSError, ValueError, KeyError) as error:
            raise ManifoldLoraError(
                "model", name, "a model of transformers", str(error).splitlines()[0]
            ) from error
        return backbone
    from manifold_lora.models.load import load_adapter, load_base

    model, _ = load_base(name)
    return load_adapter(adapter, model) if adapter is not None else model


def _ticking(clouds: Iterator[Clouds], tick: Tick) -> Iterator[Clouds]:
    for one in clouds:
        yield one
        tick()
