"""A curvature for every layer of a model from the delta of what an adapter there would see."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedTokenizerBase

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.token_geometry.activations import Clouds, adapted_modules, module_inputs
from manifold_lora.experiments.token_geometry.prompts import (
    DeltaOptions,
    DeltaSummary,
    PromptDelta,
    measure_prompt,
    summarise,
)
from manifold_lora.experiments.token_geometry.suggestion import suggest_kappa

_LAYER = re.compile(r"\.(\d+)\.")


def delta_by_name(clouds: Iterable[Clouds], options: DeltaOptions) -> dict[str, DeltaSummary]:
    """Summaries over texts of every named cloud (layers or modules), in the order they appear."""
    rng = np.random.default_rng(options.seed)
    measured: dict[str, list[PromptDelta]] = defaultdict(list)
    for one_text in clouds:
        for name, cloud in one_text.items():
            measured[name].append(measure_prompt(cloud, options, rng))
    return {name: summarise(values, seed=options.seed) for name, values in measured.items()}


def kappa_by_module(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    targets: Sequence[str] | None = None,
    rule: str = "khrulkov",
    norm_scaled: bool = True,
    options: DeltaOptions | None = None,
) -> dict[str, float]:
    """Module name -> kappa < 0 from the mean delta of that module's inputs over ``texts``.

    Args:
        model: a base model, or one that carries adapters.
        texts: a few tens of prompts are enough for a stable mean.
        targets: last names of the modules (``q_proj``); by default the adapted ones.
        rule: as `suggest_kappa`.
        norm_scaled: whether the adapter divides its input by its median length, as calibration has it
            (``learned``, ``fixed``), or takes it as it is (``identity``); matters to the rule ``log2`` only.
        options: how delta is measured; Euclidean, all base points by default.

    Raises ManifoldLoraError for texts without tokens or no such modules, CurvatureError where delta is 0.
    """
    names = adapted_modules(model, targets)
    lengths: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    clouds = _measured(module_inputs(model, tokenizer, texts, names), lengths)
    summaries = delta_by_name(clouds, options or DeltaOptions())
    return {
        name: suggest_kappa(
            summary.typical, rule, float(np.median(np.concatenate(lengths[name]))) if norm_scaled else 1.0
        )
        for name, summary in summaries.items()
    }


def _measured(clouds: Iterable[Clouds], lengths: dict[str, list[NDArray[np.float64]]]) -> Iterator[Clouds]:
    """The clouds as they are; the lengths of their points by name are kept on the way."""
    for one in clouds:
        for name, cloud in one.items():
            lengths[name].append(np.linalg.norm(cloud.astype(np.float64), axis=-1))
        yield one


def kappa_by_layer(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    targets: Sequence[str] | None = None,
    rule: str = "khrulkov",
    norm_scaled: bool = True,
    options: DeltaOptions | None = None,
) -> dict[int, float]:
    """Block number -> kappa, the geometric mean of `kappa_by_module` (same arguments) over a block.

    Raises ManifoldLoraError for a module whose name carries no block number.
    """
    found = kappa_by_module(
        model, tokenizer, texts, targets=targets, rule=rule, norm_scaled=norm_scaled, options=options
    )
    logs: dict[int, list[float]] = defaultdict(list)
    for name, kappa in found.items():
        logs[block_number(name)].append(math.log(-kappa))
    return {block: -math.exp(sum(values) / len(values)) for block, values in sorted(logs.items())}


def block_number(name: str) -> int:
    """The first number in a module's dotted name. Raises ManifoldLoraError where there is none."""
    match = _LAYER.search(f".{name}.")
    if match is None:
        raise ManifoldLoraError("block of module", name, "a name with a number, such as model.layers.0.mlp")
    return int(match.group(1))


def input_scale(module: nn.Module) -> float:
    """sqrt(width) of a linear layer's input: s of the adapters' ``learned`` and ``fixed`` norm scaling."""
    width = getattr(module, "in_features", None)
    if not isinstance(width, int):
        weight = module.get_parameter("weight")
        width = weight.shape[-1]
    return math.sqrt(width)
