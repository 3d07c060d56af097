"""What stands between a layer of vLLM and its LoRA kernels: u = A x is multiplied by c before B takes it."""

from typing import Any

import torch
from torch import Tensor

from manifold_lora.adapters.fast.numbers import row_norm
from manifold_lora.models.serving.slots import Batch, SlotGains

_READER = "manifold_lora_batch"


class CurvedPunica:
    """vLLM's punica wrapper as one layer sees it; whatever is not about A and B is the wrapper's own.

    Args:
        punica: the wrapper that all layers have in common.
        layer: the layer with LoRA, its stacked weights in place.
    """

    def __init__(self, punica: Any, layer: Any) -> None:
        from vllm.lora.layers import RowParallelLinearWithLoRA

        self._punica = punica
        slots, rank = layer.lora_a_stacked[0].shape[0], layer.lora_b_stacked[0].shape[-1]
        self.gains = SlotGains(layer.n_slices, slots, rank, torch.device(layer.device))
        # There a worker sees a part of each token only.
        self._split = isinstance(layer, RowParallelLinearWithLoRA) and layer.tp_size > 1
        self._norm: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        """What is not changed."""
        return getattr(self._punica, name)

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        add_inputs: bool = True,
        **others: Any,
    ) -> Tensor | None:
        """y += c B A x, slice by slice."""
        batch = self._batch(x)
        if batch is None:
            kept = {} if add_inputs else {"add_inputs": False}
            output: Tensor | None = self._punica.add_lora_linear(
                y, x, lora_a_stacked, lora_b_stacked, scale, output_slices, **kept, **others
            )
            return output
        if batch.only == -1:
            return y
        rank = lora_b_stacked[0].shape[-1]
        u = torch.zeros(len(output_slices), x.shape[0], rank, dtype=torch.float32, device=x.device)
        self._punica.add_shrink(u, x, lora_a_stacked, scale, **others)
        norm, whole = self._whole(x, u)
        u *= self.gains.of(batch, norm, whole)
        added: Tensor | None = self._punica.add_expand(
            y, u, lora_b_stacked, output_slices, add_inputs=add_inputs, **others
        )
        return added

    def add_shrink(
        self, y: Any, x: Tensor, lora_a_stacked: tuple[Tensor, ...], scale: float, **others: Any
    ) -> Tensor | None:
        """Y += A x; a fully sharded layer calls it, and ``add_expand`` when the workers' parts are joined."""
        self._norm = None
        if self._batch(x) is not None:
            self._norm = self._joined(_square(x)).double().sqrt() if self._split else row_norm(x)
        output: Tensor | None = self._punica.add_shrink(y, x, lora_a_stacked, scale, **others)
        return output

    def add_expand(self, y: Tensor, x: Tensor, *arguments: Any, **others: Any) -> Tensor | None:
        """Y += c B x for the joined x = A x."""
        if self._norm is not None:
            batch = self._batch(y)
            assert batch is not None
            x = x * self.gains.of(batch, self._norm, x)
        output: Tensor | None = self._punica.add_expand(y, x, *arguments, **others)
        return output

    def _whole(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """abs(x) and A x of whole tokens: where each worker has a part, 1 + r numbers a token are summed."""
        if not self._split:
            return row_norm(x), u
        joined = self._joined(torch.cat([_square(x), u[0]], dim=-1))
        return joined[:, :1].double().sqrt(), joined[None, :, 1:]

    def _joined(self, part: Tensor) -> Tensor:
        from vllm.distributed import tensor_model_parallel_all_reduce

        whole: Tensor = tensor_model_parallel_all_reduce(part)
        return whole

    def _batch(self, x: Tensor) -> Batch | None:
        """The tokens' slots, or None where vLLM's own way is right: nothing curved, and no base among them.

        Its kernels for the CPU give tokens without an adapter that of the last slot.
        """
        if self._punica.indices_len[0] is None:
            return None
        slots = self._punica.token_lora_indices
        batch = _of_step(self._punica, slots)
        if batch.present is None:
            return batch if self.gains.curved else None
        aside = -1 not in batch.present and self.gains.curved.isdisjoint(batch.present)
        return None if aside else batch


def _square(x: Tensor) -> Tensor:
    return x.float().square().sum(-1, keepdim=True)


def _of_step(punica: Any, slots: Tensor) -> Batch:
    """The batch, read once for all layers of a step."""
    if slots.device.type != "cpu":
        return Batch(slots)
    key = slots.numpy().tobytes()
    known = vars(punica).get(_READER)
    if known is None or known[0] != key:
        # A copy: the wrapper writes the next step's slots into the same memory.
        known = vars(punica)[_READER] = (key, Batch(slots.clone()))
    batch: Batch = known[1]
    return batch
