"""The gains of the adapters in a layer's slots, and of each token by the slot it is in."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from manifold_lora.adapters.fast.numbers import evaluate, numbers
from manifold_lora.adapters.fast.scalars import Chart, Norms, gain_of
from manifold_lora.models.serving.gain import Form, ServedGain

# Of a token in slot -1, which belongs to no adapter: the last row of every table.
_BASE = 0.0


class Batch:
    """The slot of each token, -1 for none, and which slots there are; None where only a device knows."""

    def __init__(self, slots: Tensor) -> None:
        on_cpu = slots.device.type == "cpu"
        self.slots: Any = slots.numpy() if on_cpu else slots
        self.present = frozenset(self.slots.tolist()) if on_cpu else None

    @property
    def only(self) -> int | None:
        """The slot that all tokens are in."""
        return next(iter(self.present)) if self.present is not None and len(self.present) == 1 else None


class SlotGains:
    """Tables (slices, slots + 1) of one layer, filled slot by slot and read token by token.

    Args:
        slices: how many adapted layers of a checkpoint the layer is made of (3 of a merged qkv).
        slots: how many adapters can be served at once.
        rank: the largest rank.
        device: where the tokens will be; on the CPU numpy computes the numbers, elsewhere torch.
    """

    def __init__(self, slices: int, slots: int, rank: int, device: torch.device) -> None:
        self.xp: ModuleType = np if device.type == "cpu" else torch
        self.curved: set[int] = set()
        self._forms: list[Form | None] = [None]
        self._root = torch.zeros(slices, slots + 1, rank, rank, device=device)
        self._kind = np.zeros((slices, slots + 1), dtype=np.int64)
        self._numbers = np.ones((5, slices, slots + 1))
        self._numbers[0, :, -1] = _BASE
        self._device = device
        self._read()

    def put(self, slot: int, gains: Sequence[ServedGain | None]) -> None:
        """Have a slot hold an adapter: a gain for each slice, None for what is plain LoRA there."""
        self.curved.discard(slot)
        self._root[:, slot] = 0
        for index, gain in enumerate(gains):
            self._kind[index, slot] = 0 if gain is None else self._index(gain.form)
            self._numbers[:, index, slot] = 1.0 if gain is None else gain[1:6]
            if gain is not None:
                rows, columns = gain.root.shape
                self._root[index, slot, :rows, :columns] = gain.root.to(self._device)
                if gain.form is not None or gain.factor != 1.0:
                    self.curved.add(slot)
        self._read()

    def _index(self, form: Form | None) -> int:
        if form not in self._forms:
            self._forms.append(form)
        return self._forms.index(form)

    def _read(self) -> None:
        """What tokens look at; another array than what is written, so that a device gets a copy."""
        self._last: tuple[Batch, _Rows] | None = None
        if self.xp is np:
            self._tables: tuple[Any, ...] = self._kind, *self._numbers
        else:
            self._tables = tuple(
                torch.tensor(table, device=self._device) for table in (self._kind, *self._numbers)
            )

    def of(
        self, batch: Batch, norm: Float[Tensor, "tokens 1"], u: Float[Tensor, "slices tokens r"]
    ) -> Float[Tensor, "slices #tokens 1"]:
        """c of every token in every slice, in float32.

        Args:
            batch: the tokens' slots.
            norm: abs(x) in float64, of whole tokens.
            u: A x, of whole tokens too.
        """
        at = self._looked_up(batch)
        q = self._length(at.image(u))
        rank = self._length(u) if any(form.law.bounded for _, form in at.forms) else q
        n, c = numbers(norm, self.xp), at.factor
        for index, form in at.forms:
            gain = evaluate(_gain, form, at.others, n, q, rank, xp=self.xp)
            c = c * gain if at.alike else c * self.xp.where(at.kind == index, gain, 1.0)
        return torch.as_tensor(c).float()

    def _looked_up(self, batch: Batch) -> "_Rows":
        """The tables' rows for a batch, which steps of decoding have in common."""
        if self._last is None or self._last[0] is not batch:
            only = batch.only
            at = batch.slots if only is None else [only]
            kind, factor, *others = (table[:, at, None] for table in self._tables)
            kinds = range(len(self._forms)) if batch.present is None else np.unique(kind).tolist()
            forms = [(index, form) for index in kinds if (form := self._forms[index]) is not None]
            root = self._root if only is None else self._root[:, only].mT
            slots = None if only is not None else torch.as_tensor(batch.slots)
            self._last = (batch, _Rows(kind, factor, others, forms, len(kinds) == 1, root, slots))
        return self._last[1]

    def _length(self, vectors: Tensor) -> Any:
        return numbers(torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).double(), self.xp)


class _Rows(NamedTuple):
    """What the tokens of a batch look up: numbers (slices, #tokens, 1) and the forms that occur."""

    kind: Any
    factor: Any
    others: list[Any]
    forms: list[tuple[int, Form]]
    alike: bool
    root: Tensor
    slots: Tensor | None

    def image(self, u: Tensor) -> Tensor:
        """F u, as long as B u."""
        if self.slots is None:
            return u @ self.root
        return torch.einsum("strk,stk->str", self.root[:, self.slots], u)


def _gain(form: Form, constants: Sequence[Any], norm: Any, q: Any, rank: Any, xp: ModuleType) -> Any:
    """The geometry's own gain of tokens of one form."""
    radius, length, gate, reference = constants
    if form.by_token:
        square, middle = norm * norm, reference * reference
        radius = radius * xp.exp(gate * (middle - square) / (square + middle) / 2)
    chart = Chart(form.law, radius, length if form.unit else None, form.edge, form.limit)
    return gain_of(chart, Norms(norm, rank, q), xp)
