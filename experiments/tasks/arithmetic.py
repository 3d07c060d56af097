"""Generated word problems: the base knows one step and small numbers, the adapters learn the rest."""

from collections.abc import Iterator
from functools import cached_property
from random import Random

from manifold_lora.experiments.answers.read import Scored, equal_numbers, extract_number
from manifold_lora.experiments.tasks.base import BaseSpec, Document, Example, Splits, Task

_PEOPLE = ("tom", "mary", "sam", "jane", "mike", "sara", "joan", "fred")
_THINGS = ("apples", "books", "marbles", "cards", "pens", "shells")
_STEPS = {
    "+": ("buys", "finds", "wins"),
    "-": ("loses", "sells", "eats"),
}
_SIZES = {"train": 4000, "validation": 200, "test": 500}
_LARGEST_START, _LARGEST_AMOUNT, _LARGEST_TOTAL = 40, 20, 60


class Arithmetic(Task):
    """``tom has 12 apples . buys 7 . loses 5 => 12 + 7 = 19 - 5 = 14``.

    The base is pre-trained on problems of one step, which start from 40 at most; adapters learn two steps, of
    which the second starts from up to 60. The answer is the last number.
    """

    name = "arithmetic"

    def __init__(self, seed: int = 0, style: str = "equation", limit: int | None = None) -> None:
        self._seed, self._style, self._limit = seed, style, limit

    @cached_property
    def splits(self) -> Splits:
        """Distinct problems, split at random."""
        random = Random(f"arithmetic-{self._seed}")
        problems: dict[str, tuple[str, int]] = {}
        while len(problems) < sum(_SIZES.values()):
            prompt, target, answer = _problem(random, steps=2)
            problems[prompt] = target, answer
        found = [
            Example(f"arithmetic-{index}", f"{prompt} =>", target, str(answer), f"{len(str(answer))} digits")
            for index, (prompt, (target, answer)) in enumerate(problems.items())
        ]
        ends = _SIZES["train"], _SIZES["train"] + _SIZES["validation"]
        splits = Splits(found[: ends[0]], found[ends[0] : ends[1]], {self.name: found[ends[1] :]})
        return splits.first(self._limit)

    def score(self, example: Example, output: str) -> Scored:
        """The last number must be the answer."""
        found = extract_number(output)
        return Scored(found or "", equal_numbers(found, example.answer))

    @property
    def base_spec(self) -> BaseSpec:
        """A Llama of four layers that reads whole numbers."""
        return BaseSpec(
            hidden_size=128,
            layers=4,
            heads=4,
            intermediate_size=256,
            steps=600,
            batch_size=64,
            learning_rate=3e-3,
            max_positions=96,
        )

    def pretraining_texts(self) -> Iterator[Document]:
        """Problems of one step."""
        random = Random(f"arithmetic-base-{self._seed}")
        for _ in range(10_000):
            prompt, target, _answer = _problem(random, steps=1)
            yield Document(f"{prompt} => {target}", context=f"{prompt} =>")


def _problem(random: Random, steps: int) -> tuple[str, str, int]:
    """A question, the worked answer, and the answer; nobody is left with nothing."""
    person, thing = random.choice(_PEOPLE), random.choice(_THINGS)
    total = random.randint(2, _LARGEST_START)
    sentences, worked = [f"{person} has {total} {thing}"], f"{total}"
    for _ in range(steps):
        most = {"+": min(_LARGEST_TOTAL - total, _LARGEST_AMOUNT), "-": min(total - 1, _LARGEST_AMOUNT)}
        operator = random.choice([operator for operator, amount in most.items() if amount > 0])
        amount = random.randint(1, most[operator])
        total += amount if operator == "+" else -amount
        sentences.append(f"{random.choice(_STEPS[operator])} {amount}")
        worked += f" {operator} {amount} = {total}"
    return " . ".join(sentences), worked, total
