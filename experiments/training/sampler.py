"""The order training examples are drawn in: shuffled, with like lengths side by side."""

from collections.abc import Iterator, Sequence
from random import Random

from torch.utils.data import Sampler

# Batches that are sorted together: enough to pad little, few enough that batches differ from epoch to epoch.
_BATCHES_PER_POOL = 8


class LengthPools(Sampler[int]):
    """Indices in an order that depends on the seed and the epoch alone, so that a resumed run draws the same.

    The examples are shuffled and cut into pools of eight batches; a pool is sorted by length and cut into
    batches; the batches of all pools are shuffled. An incomplete batch comes last, or, if ``whole``, not at
    all. Unless ``grouped``, a pool is one batch: who shares one is chance alone.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int,
        *,
        grouped: bool = True,
        whole: bool = False,
    ) -> None:
        self._lengths, self._batch_size, self._seed, self._epoch = lengths, batch_size, seed, 0
        self._pool = batch_size * (_BATCHES_PER_POOL if grouped else 1)
        self._whole = whole

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of every epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths) - (len(self._lengths) % self._batch_size if self._whole else 0)

    def __iter__(self) -> Iterator[int]:
        random = Random(f"{self._seed}-{self._epoch}")
        shuffled = random.sample(range(len(self._lengths)), len(self._lengths))
        whole = len(shuffled) - len(shuffled) % self._batch_size
        batches = []
        for start in range(0, whole, self._pool):
            end = min(start + self._pool, whole)
            pool = sorted(shuffled[start:end], key=lambda index: self._lengths[index])
            batches += [pool[at : at + self._batch_size] for at in range(0, len(pool), self._batch_size)]
        random.shuffle(batches)
        rest = [] if self._whole else shuffled[whole:]
        yield from (index for batch in [*batches, rest] for index in batch)
