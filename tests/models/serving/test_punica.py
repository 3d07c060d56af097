"""Between two kernels: whole tokens and tokens split between two workers give the layer's own update."""

import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from manifold_lora.adapters.spec import AdapterSpec
from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.models.serving.gain import served_gain
from manifold_lora.models.serving.punica import CurvedPunica

N, M, RANK, TOKENS = 12, 8, 4, 6
# Slot 1 is curved, slot 0 plain, -1 the base.
SLOTS = [1, 1, 0, -1, 1, 0]


class Workers:
    """Two threads in the place of two processes, and a sum over both."""

    def __init__(self):
        self._barrier, self._parts, self._local = threading.Barrier(2), {}, threading.local()

    def reduced(self, part):
        self._parts[self._local.rank] = part
        self._barrier.wait(10)
        total = self._parts[0] + self._parts[1]
        self._barrier.wait(10)
        return total

    def run(self, work):
        def one(rank):
            self._local.rank = rank
            return work(rank)

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(one, range(2)))


def applied(stacked, x):
    """Each token times the matrix of its slot."""
    return torch.stack([stacked[slot, 0] @ token for slot, token in zip(SLOTS, x, strict=True)])


class Kernels:
    """vLLM's two kernels, of one slice."""

    def __init__(self):
        self.token_lora_indices, self.indices_len = torch.tensor(SLOTS), [TOKENS]

    def add_shrink(self, u, x, stacked, scale, **others):
        u[0] += (
            torch.stack([stacked[0][slot, 0] @ token for slot, token in zip(SLOTS, x, strict=True)]) * scale
        )

    def add_expand(self, y, u, stacked, slices, offset_start=0, **others):
        added = applied(stacked[0], u[0])
        y[:, offset_start : offset_start + added.shape[1]] += added

    def add_lora_linear(self, *arguments, **others):
        raise AssertionError("a batch with a curved adapter is not vLLM's own")


class Layer:
    n_slices, device = 1, "cpu"

    def __init__(self, A, B, tp_size=1):
        self.lora_a_stacked, self.lora_b_stacked, self.tp_size = (A[:, None],), (B[:, None],), tp_size


class RowLayer(Layer):
    pass


@pytest.fixture
def workers(monkeypatch):
    both = Workers()
    for name, names in (
        ("vllm", {}),
        ("vllm.lora", {}),
        ("vllm.lora.layers", {"RowParallelLinearWithLoRA": RowLayer}),
        ("vllm.distributed", {"tensor_model_parallel_all_reduce": both.reduced}),
    ):
        module = types.ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)
    return both


@pytest.fixture
def case():
    """Tokens, A and B of both slots, the curved slot's gain, and the sum of updates that is wanted."""
    torch.manual_seed(3)
    x, A, B = torch.randn(TOKENS, N) * 2, torch.randn(2, RANK, N), torch.randn(2, M, RANK)
    update = ManifoldUpdate.from_spec(
        AdapterSpec.parse({"manifold": "poincare", "curvature": -0.5}), N, M, RANK
    )
    with torch.no_grad():
        curved, plain = update(x, A[1], B[1]), x @ A[0].T @ B[0].T
    wanted = torch.stack(
        [{1: curved, 0: plain, -1: torch.zeros_like(x @ A[0].T @ B[0].T)}[s][i] for i, s in enumerate(SLOTS)]
    )
    return x, A, B, served_gain(update, B[1], x.dtype), wanted


def punica(layer, gain):
    seen = CurvedPunica(Kernels(), layer)
    seen.gains.put(0, [None])
    seen.gains.put(1, [gain])
    return seen


def test_whole_tokens(workers, case):
    x, A, B, gain, wanted = case
    layer, y = Layer(A, B), torch.zeros(TOKENS, M)
    punica(layer, gain).add_lora_linear(y, x, layer.lora_a_stacked, layer.lora_b_stacked, 1.0, (M,))
    torch.testing.assert_close(y, wanted, rtol=2e-5, atol=1e-5)


def test_split_tokens_are_summed_before_their_gain_is_known(workers, case):
    x, A, B, gain, wanted = case

    def work(rank):
        part = slice(rank * N // 2, (rank + 1) * N // 2)
        layer, y = RowLayer(A[:, :, part], B, tp_size=2), torch.zeros(TOKENS, M)
        stacked = layer.lora_a_stacked, layer.lora_b_stacked
        punica(layer, gain).add_lora_linear(y, x[:, part], *stacked, 1.0, (M,))
        return y

    torch.testing.assert_close(sum(workers.run(work)), wanted, rtol=2e-5, atol=1e-5)


def test_a_fully_sharded_row_layer(workers, case):
    """A by inputs and summed by vLLM, B by outputs."""
    x, A, B, gain, wanted = case

    def work(rank):
        part, rows = slice(rank * N // 2, (rank + 1) * N // 2), slice(rank * M // 2, (rank + 1) * M // 2)
        layer, y = RowLayer(A[:, :, part], B[:, rows], tp_size=2), torch.zeros(TOKENS, M)
        seen, u = punica(layer, gain), torch.zeros(1, TOKENS, RANK)
        seen.add_shrink(u, x[:, part], layer.lora_a_stacked, 1.0)
        u = workers.reduced(u)
        seen.add_expand(y, u, layer.lora_b_stacked, (M // 2,), offset_start=rank * M // 2, add_input=True)
        return y

    torch.testing.assert_close(sum(workers.run(work)), wanted, rtol=2e-5, atol=1e-5)


def test_a_fully_sharded_column_layer(workers, case):
    """A by ranks and gathered by vLLM, B by outputs; tokens are whole."""
    x, A, B, gain, wanted = case
    shrunk = [torch.zeros(1, TOKENS, RANK // 2) for _ in range(2)]
    layers = [Layer(A[:, i * 2 : i * 2 + 2], B[:, i * 4 : i * 4 + 4], tp_size=2) for i in range(2)]
    seen = [punica(layer, gain) for layer in layers]
    for one, u, layer in zip(seen, shrunk, layers, strict=True):
        one.add_shrink(u, x, layer.lora_a_stacked, 1.0)
    parts = [torch.zeros(TOKENS, M // 2) for _ in range(2)]
    for one, y, layer in zip(seen, parts, layers, strict=True):
        one.add_expand(
            y, torch.cat(shrunk, -1), layer.lora_b_stacked, (M // 2,), offset_start=0, add_input=True
        )
    torch.testing.assert_close(torch.cat(parts, -1), wanted, rtol=2e-5, atol=1e-5)
