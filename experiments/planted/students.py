"""All trainings of an arm at once: one Adam over a batch of rates and seeds, gradients by the closed form.

The update is c B A x; its gradients are those of the layer's fused path (adapters/fast/scalars.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from manifold_lora.experiments.planted.gains import Array, Constant, Gain
from manifold_lora.experiments.planted.truth import CLASSES, RANK, WIDTH, Items, Planted

_BETAS, _EPS = (0.9, 0.999), 1e-8


@dataclass
class Students:
    """Low-rank maps of all trainings: A (rates, seeds, r, n), B (rates, seeds, m, r), p (rates, seeds, 1, 1).

    ``gain`` may differ from training to training by its constant.
    """

    gain: Gain
    sharpness: float
    A: Array
    B: Array
    p: Array

    @classmethod
    def start(
        cls, gain: Gain, sharpness: float, rates: int, seeds: int, rng: np.random.Generator
    ) -> "Students":
        """LoRA's start: A by seed alone, uniform in +- 1/sqrt(n); B = 0."""
        bound = WIDTH**-0.5
        A = np.tile(rng.uniform(-bound, bound, (1, seeds, RANK, WIDTH)), (rates, 1, 1, 1))
        return cls(
            gain, sharpness, A, np.zeros((rates, seeds, CLASSES, RANK)), np.zeros((rates, seeds, 1, 1))
        )

    def products(self, items: Items) -> tuple[Array, Array, Array]:
        """A x, B A x (each by training and token) and abs(B A x)."""
        u = items.x @ self.A.swapaxes(-1, -2)
        out = u @ self.B.swapaxes(-1, -2)
        return u, out, np.sqrt(np.square(out).sum(-1, keepdims=True))

    def gains(self, items: Items) -> Array:
        """c by training and token."""
        *_, out = self.products(items)
        return self.gain.value(items.norm * np.ones_like(out), out, self.p)

    def right(self, items: Items) -> np.ndarray:
        """(rates, seeds, items): is the likeliest class the label?"""
        _, update, out = self.products(items)
        y = items.base + self.gain.value(items.norm * np.ones_like(out), out, self.p) * update
        return np.asarray(y.argmax(-1) == items.labels)

    def gradients(self, items: Items) -> tuple[Array, Array, Array]:
        """Of the mean cross entropy of each training by its A, B and p; items by seed and token."""
        u, update, out = self.products(items)
        norm = items.norm * np.ones_like(out)
        c, by_out, by_p = self.gain.slope(norm, out, self.p)
        g = _softmax(self.sharpness * (items.base + c * update))
        hits = items.labels[None, ..., None]
        np.put_along_axis(g, np.broadcast_to(hits, (*g.shape[:-1], 1)), _taken(g, hits) - 1.0, -1)
        g *= self.sharpness / g.shape[-2]
        gamma = (g * update).sum(-1, keepdims=True)
        turn = gamma * by_out
        du = c * (g @ self.B) + turn * (u @ (self.B.swapaxes(-1, -2) @ self.B))
        dA = du.swapaxes(-1, -2) @ items.x
        dB = g.swapaxes(-1, -2) @ (c * u) + self.B @ (u.swapaxes(-1, -2) @ (turn * u))
        return dA, dB, (gamma * by_p).sum(-2, keepdims=True)


def _taken(values: Array, hits: np.ndarray) -> Array:
    return np.take_along_axis(values, np.broadcast_to(hits, (*values.shape[:-1], 1)), -1)


def _softmax(logits: Array) -> Array:
    logits -= logits.max(-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(-1, keepdims=True)
    return logits


def train(
    gain: Gain,
    data: Planted,
    rates: Sequence[float],
    seeds: int,
    steps: int,
    batch_size: int,
    rng: np.random.Generator,
) -> Students:
    """Every rate with every seed; a seed is A's start and the order of the items, the same for all rates.

    Adam, the rate falling to 0 along a straight line.
    """
    students = Students.start(gain, data.sharpness, len(rates), seeds, rng)
    parameters = [students.A, students.B, *([students.p] if gain.learned else [])]
    moments = [(np.zeros_like(one), np.zeros_like(one)) for one in parameters]
    rate = np.array(rates).reshape(-1, 1, 1, 1)
    for step in range(steps):
        batch = data.train[rng.integers(len(data.train.labels), size=(seeds, batch_size))]
        now = rate * (1 - step / steps)
        for value, slope, (mean, square) in zip(parameters, students.gradients(batch), moments, strict=False):
            mean += (1 - _BETAS[0]) * (slope - mean)
            square += (1 - _BETAS[1]) * (np.square(slope) - square)
            size = np.sqrt(square / (1 - _BETAS[1] ** (step + 1))) + _EPS
            value -= now * mean / (1 - _BETAS[0] ** (step + 1)) / size
    return students


def matched(direct: Students, items: Items) -> Constant:
    """LoRA's gain at the median c of each of the trainings of another arm."""
    return Constant(np.median(direct.gains(items), axis=-2, keepdims=True))
