"""What flows through a model: hidden states by layer, and the inputs of chosen modules."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.token_geometry.vocabulary import encode

Clouds = dict[str, NDArray[np.float32]]


@torch.no_grad()
def hidden_states(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    layers: Sequence[int] | None = None,
    *,
    first_token: bool = False,
) -> Iterator[Clouds]:
    """Per text, "layer i" -> (tokens, width): i = 0 is the embedding output, i >= 1 the output of block i.

    Texts go through one by one, so no padding can leak in. The first token is left out unless it is asked
    for: language models make an "attention sink" of it, up to 400 times as long as the others, and a delta or
    diameter with it reads nothing else. Raises ManifoldLoraError for a layer that the model does not have and
    for texts without tokens.
    """
    first = 0 if first_token else 1
    for ids in _batches(model, tokenizer, texts, first):
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
        wanted = range(len(states)) if layers is None else layers
        for layer in wanted:
            if not -len(states) <= layer < len(states):
                raise ManifoldLoraError("hidden layer", layer, f"0 to {len(states) - 1}")
        yield {f"layer {layer % len(states)}": _array(states[layer][0, first:]) for layer in wanted}


@torch.no_grad()
def module_inputs(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    modules: Sequence[str],
    *,
    first_token: bool = False,
) -> Iterator[Clouds]:
    """Per text, module name -> its input (tokens, width); names as `adapted_modules` gives them.

    The first token is left out, as by `hidden_states`. Raises UnknownNameError for a name that is no module
    of the model.
    """
    first = 0 if first_token else 1
    known = dict(model.named_modules())
    for name in modules:
        if name not in known:
            raise UnknownNameError("module", name, tuple(known))
    seen: Clouds = {}

    def remember(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = args[0] if args else next(iter(kwargs.values()))
            seen[name] = _array(given.reshape(-1, given.shape[-1])[first:])

        return hook

    handles = [known[name].register_forward_pre_hook(remember(name), with_kwargs=True) for name in modules]
    try:
        for ids in _batches(model, tokenizer, texts, first):
            seen.clear()
            model(input_ids=ids)
            yield dict(seen)
    finally:
        for handle in handles:
            handle.remove()


def adapted_modules(model: nn.Module, targets: Sequence[str] | None = None) -> list[str]:
    """Names of the modules that carry an adapter or, without one, whose last name is among ``targets``.

    Raises ManifoldLoraError where there are none.
    """
    if targets is None:
        names = [name for name, module in model.named_modules() if hasattr(module, "lora_A")]
    else:
        names = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in targets]
    if not names:
        raise ManifoldLoraError("modules to listen to", targets, "adapted modules, or target module names")
    return names


def _batches(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], first: int
) -> Iterator[Tensor]:
    """The ids of each text that has more than ``first`` tokens, as a batch of one."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        for ids in encode(tokenizer, texts):
            if len(ids) > first:
                yield torch.tensor([ids], device=device)
    finally:
        model.train(was_training)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().to("cpu", torch.float32).numpy()
