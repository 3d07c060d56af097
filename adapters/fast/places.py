"""The learned numbers of a module as arguments: a backward pass computes with those that the forward had."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

# Where parameters lie: a module's dictionary of them, and the name.
Places = list[tuple[dict[str, Any], str]]


def parameters_in(owner: nn.Module) -> Places:
    """Where the parameters of a module lie."""
    places = [(part._parameters, name) for part in owner.modules() for name in part._parameters]
    return [(kept, name) for kept, name in places if kept[name] is not None]


def learned_in(owner: nn.Module) -> Places:
    """Where the trainable ones lie."""
    return [(kept, name) for kept, name in parameters_in(owner) if kept[name].requires_grad]


@contextmanager
def standing_in(places: Places, tensors: Sequence[Tensor]) -> Iterator[None]:
    """Inside, these are the parameters: in the forward they may have been others (``functional_call``)."""
    own = [kept[name] for kept, name in places]
    try:
        for (kept, name), one in zip(places, tensors, strict=True):
            kept[name] = one
        yield
    finally:
        for (kept, name), one in zip(places, own, strict=True):
            kept[name] = one
