"""Putting an adapter, ours or peft's own, on a base model."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftConfig, PeftModel, get_peft_model
from torch import nn

from manifold_lora.models.tuner.targets import check_free


def adapt(model: nn.Module, config: PeftConfig, adapter_name: str = "default") -> PeftModel:
    """``peft.get_peft_model`` without warnings that are not about the caller.

    Raises ManifoldLoraError for a ``ManifoldLoraConfig`` that does not fit the model, and for any adapter
    where there is one already.
    """
    check_free(model, adapter_name)
    with quiet_peft():
        return get_peft_model(model, config, adapter_name=adapter_name)


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence peft's own reads of what transformers deprecates: nobody outside peft can act on them."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning
        )
        yield


@contextmanager
def strict_peft() -> Iterator[None]:
    """``quiet_peft`` for loading: an unknown key of a config is an error, not a warning.

    peft's warning about missing tensors is left to ``AdapterFiles``, which refuses them.
    """
    with quiet_peft():
        # AdaLoRA's rank_pattern names parameters, where peft's check knows modules only.
        warnings.filterwarnings("ignore", message=r"The following rank_pattern keys .*\.lora_E'")
        warnings.filterwarnings("error", message="Unexpected keyword arguments", category=UserWarning)
        warnings.filterwarnings("ignore", message="Found missing adapter keys", category=UserWarning)
        yield
