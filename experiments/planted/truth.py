"""What is planted: tokens, a frozen layer, a teacher's update of it, and labels drawn from their sum."""

from dataclasses import dataclass

import numpy as np

from manifold_lora.experiments.planted.gains import Array, Gain

WIDTH, CLASSES, RANK = 32, 8, 4
# |B A x| of the teacher over |W x|, root mean squares: at 1 a gain of 3 changes which of the two decides.
BALANCE = 1.0
NONE = np.zeros(1)


@dataclass(frozen=True)
class Items:
    """Tokens (items, n), their lengths (items, 1), the frozen layer's W x (items, m), and labels (items,)."""

    x: Array
    norm: Array
    base: Array
    labels: np.ndarray

    def __getitem__(self, index: slice | np.ndarray) -> "Items":
        return Items(self.x[index], self.norm[index], self.base[index], self.labels[index])


@dataclass(frozen=True)
class Planted:
    """One study's data: to learn from, to choose rates by, to be judged by; logits are ``sharpness`` y."""

    train: Items
    validation: Items
    test: Items
    sharpness: float


@dataclass(frozen=True)
class Population:
    """What tokens, teacher and labels are drawn by.

    Args:
        sigma: spread of the tokens' log norms; their median is 1.
        rho: mean abs(B A x)/abs(x) of the teacher.
        sharpness: root mean square of the logits without the gain.
        argmax: labels are the teacher's likeliest class, not a draw from its softmax.
    """

    sigma: float
    rho: float
    sharpness: float
    argmax: bool = False


def plant(gain: Gain, counts: tuple[int, int, int], of: Population, rng: np.random.Generator) -> Planted:
    """Data of a teacher y = W x + c B A x of the given gain: training, validation and test items."""
    total = sum(counts)
    x = rng.standard_normal((total, WIDTH))
    x *= np.exp(of.sigma * rng.standard_normal((total, 1))) / np.linalg.norm(x, axis=1, keepdims=True)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    update = x @ rng.standard_normal((WIDTH, RANK)) @ rng.standard_normal((RANK, CLASSES))
    update *= of.rho / np.mean(np.linalg.norm(update, axis=1, keepdims=True) / norm)
    base = x @ rng.standard_normal((WIDTH, CLASSES))
    base *= _size(update) / (BALANCE * _size(base))
    out = np.linalg.norm(update, axis=1, keepdims=True)
    y = base + gain.value(norm, out, NONE) * update
    sharpness = of.sharpness / _size(base + update)
    noise = 0.0 if of.argmax else rng.gumbel(size=y.shape)
    items = Items(x, norm, base, np.argmax(sharpness * y + noise, axis=1))
    first, second = counts[0], counts[0] + counts[1]
    return Planted(items[:first], items[first:second], items[second:], float(sharpness))


def _size(y: Array) -> float:
    return float(np.sqrt(np.mean(np.square(y))))
