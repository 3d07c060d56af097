"""Before training: s of every norm scaling, and kappa where a dose is asked for, from a few batches."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.models.dose import OutOfReach, check_share, kappa_of_dose
from manifold_lora.models.module_geometry import ModuleGeometry, measure_geometry, norms_of
from manifold_lora.models.tuner.token_inputs import active_update, manifold_layers, visit_inputs
from manifold_lora.models.tuner.variant import Layer


def calibrate(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    *,
    dose: float | None = None,
    out_of_reach: OutOfReach = "stop",
) -> dict[str, ModuleGeometry]:
    """Start s of each adapted layer at the median abs(x) of the tokens that it reads: a = 1/R at the median.

    Modules that read the same x (q, k and v; gate and up) get the same s. The first token of each sequence,
    which language models make an "attention sink", and padding are left out; the base model is run without
    its adapter. s is saved with the adapter. Norm scalings that divide by no s are left as they are.

    Args:
        model: a base model with an untrained manifold adapter: s changes what trained weights do.
        batches: a few batches of training text, keyword arguments of the model's forward. Under
            torch.distributed every process calls, and the median is over the tokens of all.
        dose: if stated, kappa of each layer is set too, to where this share of the update at the start is
            reproduced by no constant gain (see ``ModuleGeometry``). It is saved with the adapter as well.
        out_of_reach: what to do where the lengths of a module's tokens do not allow this dose: ``"stop"``, or
            ``"nearest"`` for the largest that they do.

    Returns by module name what the tokens meet after the calibration. Raises ManifoldLoraError, nothing
    changed, for empty batches, NaN, a module that no token reaches (by name), a trained adapter, or a dose
    that a module does not reach.
    Source: MATH.md section 10.
    """
    layers = dict(manifold_layers(model))
    _check_untrained(model, layers)
    batches = list(batches)
    norms = _norms(model, batches, layers)
    medians = {name: float(lengths.quantile(0.5)) for name, lengths in norms.items()}
    for name, median in medians.items():
        if median == 0:
            raise ManifoldLoraError(f"median of abs(x) at {name}", 0.0, "a positive number")
    before = {name: _buffers(layer) for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            active_update(layer)[1].calibrate(medians[name])
        if dose is not None:
            _set_dose(model, layers, norms, check_share(dose), out_of_reach)
    except ManifoldLoraError:
        for buffers in before.values():
            for buffer, value in buffers:
                buffer.copy_(value)
        raise
    return measure_geometry(model, batches)


def _check_untrained(model: nn.Module, layers: Mapping[str, Layer]) -> None:
    for name, layer in layers.items():
        adapter, _, A, B = active_update(layer)
        random = model.peft_config[adapter].init_lora_weights is False  # type: ignore[union-attr,index]
        if bool(B.any()) and bool(A.any()) and not random:
            hint = f"the update of {name} is not 0, and another s would change what it has learned"
            raise ManifoldLoraError("adapter to calibrate", adapter, "one that is not trained yet", hint)


def _norms(
    model: nn.Module, batches: Iterable[Mapping[str, Any]], layers: Mapping[str, Layer]
) -> dict[str, Tensor]:
    """abs(x) of the tokens of each module; one tensor for modules that read the same x."""
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}
    last: list[Tensor] = []

    def see(name: str, layer: Layer, x: Tensor) -> None:
        if not (last and last[0] is x):
            last[:] = [x, norms_of(name, x)]
        seen[name].append(last[1])

    with _without(layers.values()):
        visit_inputs(model, batches, see, first_token=False)
    groups: dict[tuple[int, ...], Tensor] = {}
    for some in seen.values():
        groups.setdefault(tuple(map(id, some)), torch.cat(some))
    found = {name: groups[tuple(map(id, some))] for name, some in seen.items()}
    return _of_all_processes(found)


def _of_all_processes(norms: dict[str, Tensor]) -> dict[str, Tensor]:
    if not (distributed.is_available() and distributed.is_initialized()):
        return norms
    everyone: list[dict[str, Tensor]] = [{}] * distributed.get_world_size()
    distributed.all_gather_object(everyone, {name: lengths.cpu() for name, lengths in norms.items()})
    return {name: torch.cat([some[name] for some in everyone]) for name in norms}


@contextmanager
def _without(layers: Iterable[Layer]) -> Iterator[None]:
    """Adapters of these layers off, and then as they were; without peft's change of what has gradients."""
    kept = [(layer, layer._disable_adapters) for layer in layers]
    for layer, _ in kept:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer, disabled in kept:
            layer._disable_adapters = disabled


def _buffers(layer: Layer) -> list[tuple[Tensor, Tensor]]:
    update = active_update(layer)[1]
    tensors = [*update.buffers(), *(parameter.data for parameter in update.parameters())]
    return [(tensor, tensor.clone()) for tensor in tensors]


def _set_dose(
    model: nn.Module,
    layers: Mapping[str, Layer],
    norms: Mapping[str, Tensor],
    share: float,
    out_of_reach: OutOfReach,
) -> None:
    """Solve for every layer's kappa first, then put all into effect."""
    kappas: dict[str, float] = {}
    solved: dict[tuple[int, object], float] = {}
    for name, layer in layers.items():
        adapter, update, _, _ = active_update(layer)
        config: Any = model.peft_config[adapter]  # type: ignore[index]
        spec = config.layer_spec(name)
        if spec.manifold.curvature.scope == "model":
            hint = "a shared curvature is one number for all layers, a dose asks for one in each"
            raise ManifoldLoraError("curvature with a dose", "shared", "not shared", hint)
        key = id(norms[name]), spec
        if key not in solved:
            solved[key] = kappa_of_dose(name, update, norms[name], share, out_of_reach).kappa
        kappas[name] = solved[key]
    for name, layer in layers.items():
        _, update, _, _ = active_update(layer)
        update.manifold.curvature.assign(kappas[name])
